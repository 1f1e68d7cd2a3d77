// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The TEE mediator: lets several virtual machines share one OP-TEE, each as if it had it to
//! itself.
//!
//! There is one [`Mediator`] a VM. The hypervisor
//!
//! 1. asks once at boot what the TEE is: [`probe`];
//! 2. makes a [`Mediator`] for a VM and calls [`Mediator::create_step`] before its first vCPU runs, until that is done;
//! 3. hands every SMC and HVC of the VM's for which [`Mediator::owns`] says so to
//!    [`Mediator::smc`], on the pCPU that trapped it, and puts the answer into x0..x3
//!    (x4..x17 keep what the guest had);
//! 4. calls [`Mediator::destroy_step`] when the VM is off and its vCPUs are stopped, until that is done. After that,
//!    `create_step` may be called again: that is a reset.
//!
//! What the mediator needs of the hypervisor is the trait [`Host`]. Everything that decides is
//! kept in private memory; what a guest or the TEE can write is fetched once, checked, and only
//! then used.
//!
//! The way of a call: `call::begin` fetches the guest's message, `message` says what each
//! parameter may be, `state` gives OP-TEE's names for the guest's buffers; `call::run` does the
//! SMC; `rpc::ask` puts what OP-TEE asks for before the guest and `rpc::answer` takes over what
//! the guest may answer; `call::end` writes the outputs back. `memory` holds what is shared,
//! `life` the beginning and the end of a VM.
//!
//! A VM's vCPUs share its state behind one ticket lock, held for look-ups only. Whoever holds it
//! must not be interrupted by something that calls the mediator again: the hypervisor calls with
//! interrupts masked, or without preemption at EL2.
#![cfg_attr(
    feature = "fakes",
    doc = concat!(
        "\n# Example\n\nA hypervisor of 130 lines: `cargo run --example toy_hypervisor --features fakes`.\n\n```\n",
        include_str!("../examples/toy_hypervisor.rs"),
        "```"
    )
)]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod addr;
mod call;
pub mod config;
mod create;
mod denied;
#[cfg(any(test, feature = "fakes"))]
pub mod fake;
pub mod host;
mod mapped_pages;
mod memory;
mod message;
mod pages;
mod policy;
mod pseudo_tas;
mod rpc;
mod sessions;
mod smc;
mod stats;
mod sync;
mod teardown;
mod tee_info;
#[cfg(test)]
mod tests;
mod vm_state;

pub use config::{ClientId, Config, Features, Policy, Quotas};
pub use host::{
    ForeignInterrupt, GuestMemoryError, Host, Leak, LongOperation, PinError, SecureMonitor,
    SharedPage,
};
pub use smc::{ProbeError, probe};
pub use stats::{RpcKind, Stats};
pub use teardown::Progress;
pub use tee_info::TeeInfo;

use optee_proto::caps::SecureCaps;
use optee_proto::msg::PAGE_LIST_ENTRIES;
use stats::Counters;
use sync::{AtomicBool, AtomicU32, Ordering, TicketMutex};
use teardown::Teardown;
use thiserror::Error;
use vm_state::VmState;

/// Why a VM gets no TEE.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum CreateError {
    /// The hypervisor has no page to share with OP-TEE left.
    #[error("out of pages to share with OP-TEE: give the hypervisor more memory")]
    NoSharedPages,
    /// The hypervisor has no memory for the VM's state.
    #[error("out of memory for the mediator's state: give the hypervisor more memory")]
    NoMemory,
    /// OP-TEE has no room for one more VM.
    #[error(
        "OP-TEE has no room for this VM (code {0:#x}): build it with a larger CFG_VIRT_GUEST_COUNT"
    )]
    Refused(u32),
    /// OP-TEE has no memory for the tables that map what it shares with the VM, or does not make them.
    #[error(
        "OP-TEE does not make its tables for this VM (code {0:#x}): build it for fewer VMs, \
         so that each has more memory"
    )]
    TablesRefused(u32),
    /// OP-TEE does not come to an end with these tables.
    #[error(
        "OP-TEE has not made its tables for this VM after {0} entries: it hangs in that call, so \
         restart the machine, or use another version of OP-TEE"
    )]
    TablesUnfinished(u32),
    /// It has been created so often, and this OP-TEE leaks memory each time.
    #[error(
        "this OP-TEE leaks memory with every VM, and stops when there is none left: after {0} starts \
         of this VM restart the machine, or use another version of OP-TEE"
    )]
    TooManyCreations(u32),
    /// Earlier lives of the VM have left so many applications behind in OP-TEE.
    #[error(
        "{0} applications of this VM's earlier lives stay in OP-TEE, which has numbers for few: \
         restart the machine, or raise the VM's quota of max_leaked_asids"
    )]
    TooManyLeakedAsids(u64),
    /// The VM has its TEE already.
    #[error("the VM has been created already")]
    Exists,
}

/// Why a VM's TEE could not be taken down now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum DestroyError {
    /// A vCPU is inside the mediator or OP-TEE; stop it first. Nothing was done.
    #[error("a vCPU is still inside the TEE")]
    Busy,
    /// OP-TEE does not let go of the VM, so what it had stays the VM's: pages, pinned or not.
    #[error("OP-TEE refuses to forget the VM (code {0:#x})")]
    Refused(u32),
    /// An OP-TEE that is not virtualised has not given back all that it had of the VM's.
    #[error("OP-TEE, which is not virtualised, still has {0} things of the VM's")]
    Held(u64),
}

/// The TEE as one virtual machine sees it.
#[derive(Debug)]
pub struct Mediator {
    client: ClientId,
    config: Config,
    tee: TeeInfo,
    counters: Counters,
    state: TicketMutex<VmState>,
    /// How far the VM's end is. Taken while a step is being done.
    teardown: TicketMutex<Option<Teardown>>,
    /// vCPUs that are in [`Mediator::smc`].
    inside: AtomicU32,
    /// OP-TEE knows the VM.
    live: AtomicBool,
    /// How often it was created.
    creations: AtomicU32,
    /// It has enabled notifications in this life or an earlier one.
    notifications_were_enabled: AtomicBool,
    /// It must not do so in this life.
    notifications_disabled: AtomicBool,
}

impl Mediator {
    /// The mediator of a VM that does not run yet. `client` is the VM's alone.
    ///
    /// What `config` offers but the TEE does not have is not offered.
    pub fn new(client: ClientId, mut config: Config, tee: TeeInfo) -> Self {
        config.features.rpc_arg &= tee.caps.contains(SecureCaps::RPC_ARG)
            && tee.rpc_params as usize == optee_proto::rpc::MAX_PARAMS;
        config.features.async_notif &= tee.caps.contains(SecureCaps::ASYNC_NOTIF);
        Self {
            client,
            tee,
            counters: Counters::default(),
            state: TicketMutex::new(VmState::new(config.quotas)),
            teardown: TicketMutex::new(None),
            inside: AtomicU32::new(0),
            live: AtomicBool::new(false),
            creations: AtomicU32::new(0),
            notifications_were_enabled: AtomicBool::new(false),
            notifications_disabled: AtomicBool::new(false),
            config,
        }
    }

    /// The VM's number in OP-TEE.
    pub const fn client(&self) -> ClientId {
        self.client
    }

    /// How many yielding calls the VM can have under way.
    fn call_limit(&self) -> u32 {
        self.config
            .quotas
            .calls
            .min(self.tee.threads)
            .clamp(1, call::MAX_CALLS)
    }

    /// The most pages that the VM can have of [`Host::alloc_shared`] at once, whatever it does:
    /// with as many for each VM, none can take another's. Its quotas bound it.
    pub fn shared_pages_max(&self) -> u32 {
        let quotas = &self.config.quotas;
        // A call has its message's page, one that OP-TEE is unmapping, and at most two lists: of
        // the buffer that it registers, and of the last one that OP-TEE asked for. All pages of
        // all lists but their last ones are full.
        let per_call = 4;
        let full = quotas.pages / PAGE_LIST_ENTRIES as u32;
        per_call * self.call_limit() + full + quotas.rpc_buffers + pages::SPARE_PAGES as u32
    }

    /// Whether the guest wants the interrupt that announces asynchronous notifications. When the
    /// TEE's physical one arrives, the hypervisor injects a virtual one into every VM that
    /// wants it; one too many does no harm.
    pub fn wants_notifications(&self) -> bool {
        self.state.lock().notify
    }

    /// Whether the VM is offered asynchronous notifications in this life: its device tree then has to
    /// name the interrupt.
    pub fn offers_notifications(&self) -> bool {
        self.config.features.async_notif && !self.notifications_disabled.load(Ordering::Relaxed)
    }

    /// What has been done so far.
    pub fn stats(&self) -> Stats {
        let state = self.state.lock();
        let (pages_pinned, pages_pinned_max) = state.pages();
        let (buffers, buffers_max) = state.buffer_counts();
        Stats {
            pages_pinned,
            pages_pinned_max,
            buffers,
            buffers_max,
            rpc_buffers: state.rpc_buffers.len() as u64,
            sessions: state.sessions.len() as u64,
            calls: (state.suspended.len() - state.idle.len()) as u64,
            mapped_pages: state.mapped().into(),
            ..self.counters.snapshot()
        }
    }
}
