// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Suspended calls, and the tokens that name one suspension each.

use super::{Call, MAX_CALLS, SLOT_BITS};
use crate::Mediator;
use crate::vm_state::Phase;
use alloc::boxed::Box;
use optee_proto::Return;

impl Mediator {
    /// Suspends a call until the guest resumes it with the returned token.
    #[inline]
    pub(crate) fn store_suspended(&self, mut call: Box<Call>) -> u32 {
        let mut state = self.state.lock();
        state.suspensions = state.suspensions.wrapping_add(1);
        let token = state.suspensions << SLOT_BITS | call.slot as u32;
        call.token = token;
        let slot = call.slot;
        state.suspended[slot] = Some(call);
        token
    }

    /// Takes the call that the guest resumes with a token. Of two vCPUs with the same token one gets it.
    ///
    /// # Errors
    /// The return code for the guest if the VM is not live, or no such call exists.
    #[inline]
    pub(crate) fn take_suspended(&self, token: u32) -> Result<Box<Call>, Return> {
        let taken = {
            let mut state = self.state.lock();
            if state.phase != Phase::Live {
                return Err(Return::ENOTAVAIL);
            }
            let slot = (token & (MAX_CALLS - 1)) as usize;
            state
                .suspended
                .get_mut(slot)
                .and_then(|at| at.take_if(|call| call.token == token))
        };
        taken.ok_or_else(|| {
            self.counters.denied.bump();
            Return::ERESUME
        })
    }

    /// Keeps a poisoned call until the VM's end: OP-TEE may go on using what it holds.
    pub(crate) fn keep_poisoned(&self, call: Box<Call>) {
        self.counters.poisoned.bump();
        self.state.lock().poison(call);
    }
}
