// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which function a guest calls.

use super::begin::registers;
use crate::Mediator;
use crate::host::Host;
use crate::sync::Ordering;
use optee_proto::{FunctionId, smc};

impl Mediator {
    /// Returns whether a function is the mediator's business: owning entities 48 to 63, trusted applications and trusted
    /// OS, under either calling convention, with or without hints.
    #[inline]
    pub const fn owns(function: FunctionId) -> bool {
        // The last quarter of the owning entities.
        function.get() >> 28 & 3 == 3
    }

    /// Answers one SMC or HVC from the guest, whose x0..x7 are `regs`. Returns x0..x3; the other registers keep the
    /// guest's values.
    ///
    /// The hypervisor passes on every call whose function [`Mediator::owns`].
    ///
    /// Several vCPUs may be in here at once. The call returns after at most one SMC to OP-TEE, plus those that resume
    /// OP-TEE at once after a foreign interrupt ([`crate::ForeignInterrupt::Resume`]) or after an RPC that the guest must not see.
    #[inline]
    pub fn smc<H: Host>(&self, host: &H, regs: &[u64; 8]) -> [u64; 4] {
        // Counted before the check whether the VM is live. `destroy_step` does it the other way round, so one of
        // the two sees the other.
        self.inside.fetch_add(1, Ordering::SeqCst);
        let answer = self.dispatch(host, regs);
        self.inside.fetch_sub(1, Ordering::SeqCst);
        answer
    }

    #[inline]
    fn dispatch<H: Host>(&self, host: &H, regs: &[u64; 8]) -> [u64; 4] {
        let function = FunctionId::from_x0(regs[0]).without_hint();
        if self.ffa.is_some() {
            return self.unknown(function);
        }
        if function.is_fast() {
            return self.fast(host, function, regs);
        }
        match function {
            smc::CALL_WITH_ARG => registers(self.begin(host, function, regs)),
            smc::CALL_RETURN_FROM_RPC => {
                let memory = [smc::unpair(regs[1], regs[2]), smc::unpair(regs[4], regs[5])];
                registers(self.resume(host, regs[3] as u32, memory))
            }
            smc::CALL_WITH_RPC_ARG | smc::CALL_WITH_REGD_ARG if self.config.features.rpc_arg => {
                registers(self.begin(host, function, regs))
            }
            // OP-TEE would spend a thread on any other yielding call.
            _ => self.unknown(function),
        }
    }
}
