// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The way of a yielding call into OP-TEE and back, whichever transport carries it.
//!
//! A call enters OP-TEE by an [`Entry`] and leaves it by an [`Exit`]. What the guest is told of its call is an [`Answer`].
//! A transport makes registers of the first and the third, and the second of registers.

use crate::Mediator;
use crate::call::{Call, ResumeArgs};
use crate::host::Host;
use crate::rpc::Function;
use optee_proto::Return;

/// How a call enters OP-TEE.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Entry {
    /// It begins, with the message in its shadow page.
    Begin,
    /// It goes on in this thread of OP-TEE.
    Resume { thread: u32, answer: ResumeArgs },
}

/// How a call leaves OP-TEE.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Exit {
    /// It is done, or OP-TEE does not take it.
    Done(Return),
    /// OP-TEE's answer does not say what has become of it.
    Lost,
    /// It waits in this thread for the normal world.
    Rpc {
        function: Function,
        thread: u32,
        /// What the function's registers say.
        value: u64,
    },
}

/// What the guest is told of its call: that it is done or does not begin, or that the guest is to execute a function, and then
/// to resume the call.
///
/// Both are a code, since `OPTEE_SMC_RETURN_*` has room for the functions: so this fits into two registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Answer {
    pub(crate) code: Return,
    /// The token by which the guest resumes the call.
    pub(crate) token: u32,
    /// What the function's registers say.
    pub(crate) value: u64,
}

impl Answer {
    /// Returns the answer to a call that is done, or does not begin.
    #[inline]
    pub(crate) const fn done(code: Return) -> Self {
        Self {
            code,
            token: 0,
            value: 0,
        }
    }

    /// Returns the answer by which the guest is asked to execute a function.
    #[inline]
    pub(crate) const fn ask(function: Function, value: u64, token: u32) -> Self {
        Self {
            code: Return::from_x0(function.a0()),
            token,
            value,
        }
    }
}

/// Who names the buffers in messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MemoryNames {
    /// The guest, by cookies, in RMEM parameters. OP-TEE gets cookies of the mediator.
    Guest,
    /// The SPMC, by handles, in FMEM parameters. The guest gets handles of the mediator.
    Spmc,
}

impl Mediator {
    /// Returns who names the buffers in messages.
    pub(crate) const fn memory_names(&self) -> MemoryNames {
        match self.ffa {
            None => MemoryNames::Guest,
            Some(_) => MemoryNames::Spmc,
        }
    }

    /// Has a call enter OP-TEE, until it leaves it.
    #[inline]
    pub(crate) fn run_in_tee<H: Host>(&self, host: &H, call: &Call, entry: Entry) -> Exit {
        match &self.ffa {
            None => self.run_in_tee_by_smc(host, call, entry),
            Some(ffa) => self.run_in_tee_by_ffa(host, ffa, call, entry),
        }
    }

    /// Makes one SMC to the secure world.
    #[inline]
    pub(crate) fn secure<H: Host>(&self, host: &H, args: [u64; 8]) -> [u64; 8] {
        self.counters.smcs.bump();
        host.smc(args)
    }
}
