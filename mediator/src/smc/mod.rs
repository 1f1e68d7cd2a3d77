// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The SMC transport: how an OPTEE_MSG gets from a guest to OP-TEE and back by registers (`optee_smc.h`).
//!
//! What the message says, and what follows from it, is decided outside of this folder: `message`, `call`, `rpc`,
//! `memory`, `sessions`, `vm_state`, `teardown`. Nothing there names a function identifier or a register. A second transport
//! (FF-A) is a folder beside this one.
//!
//! * [`dispatch`]: which function a guest calls.
//! * [`fast`], [`capabilities`]: the functions that OP-TEE answers at once.
//! * [`begin`]: a yielding call's registers.
//! * [`rpc_registers`]: the RPCs that registers carry: ALLOC, FREE, FOREIGN_INTR, and the cookie of a CMD.
//! * [`page_list`], [`register`], [`shm_alloc`]: buffers as lists of pages, which the SMC ABI alone has.
//! * [`mod@probe`], [`vm`], [`tables`]: what the hypervisor itself asks of OP-TEE.
//!
//! The rest of the mediator enters OP-TEE by these functions and no others: `run_in_tee_by_smc` (a call goes on), `tell_created`, `tell_destroyed`, `drop_cached_rpc_buffer`, `begin_tables`, `make_some_tables` and `early_step` (the VM).

mod begin;
mod capabilities;
mod dispatch;
mod fast;
pub(crate) mod page_list;
mod probe;
mod register;
mod rpc_registers;
mod shm_alloc;
mod tables;
mod vm;

pub use probe::{ProbeError, probe};
#[cfg(any(test, feature = "fakes"))]
pub(crate) use tables::COOKIE;
pub(crate) use tables::{TableCreation, TableStep};

use crate::Mediator;
use optee_proto::Return;

impl Mediator {
    /// Returns what OP-TEE gets in a7: the VM's client ID (DEN0028E 2.6), or zero where OP-TEE is not
    /// virtualised.
    pub(crate) const fn client_id(&self) -> u64 {
        if self.tee.virtualised {
            self.client.get()
        } else {
            0
        }
    }
}

/// Returns an answer that is a return code in a0 and nothing else.
const fn code(answer: Return) -> [u64; 4] {
    [answer.get(), 0, 0, 0]
}
