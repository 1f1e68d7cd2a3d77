// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Fast calls: answered here, or passed on with the VM's client id.

use super::{capabilities, code};
use crate::Mediator;
use crate::host::Host;
use crate::sync::Ordering;
use optee_proto::{FunctionId, Return, smc};

/// Number of functions that every guest has: those that [`Mediator::fast`] answers by anything but "unknown",
/// CALL_WITH_ARG, and CALL_RETURN_FROM_RPC.
const CALLS: u64 = 13;
/// Number of functions that each of [`crate::Features`] adds.
const CALLS_PER_FEATURE: u64 = 2;

impl Mediator {
    /// Answers a fast call from the guest. Its identifier is without the hint bit.
    #[inline]
    pub(super) fn fast<H: Host>(
        &self,
        host: &H,
        function: FunctionId,
        regs: &[u64; 8],
    ) -> [u64; 4] {
        self.counters.fast.bump();
        // The reverse order of `destroy_step`: either this sees that the teardown has begun, or the teardown
        // sees that a vCPU is inside.
        if !self.live.load(Ordering::SeqCst) {
            return code(Return::ENOTAVAIL);
        }
        match function {
            smc::CALLS_COUNT => [self.calls_count(), 0, 0, 0],
            smc::CALLS_UID | smc::GET_OS_UUID => self.pass(host, function, 0, 4),
            smc::CALLS_REVISION => self.pass(host, function, 0, 2),
            smc::GET_OS_REVISION => self.pass(host, function, 0, 3),
            // An answer would be a physical address.
            smc::GET_SHM_CONFIG | smc::GET_PROTMEM_CONFIG => code(Return::ENOTAVAIL),
            smc::EXCHANGE_CAPABILITIES => self.exchange(host, regs[1]),
            smc::GET_THREAD_COUNT => [Return::OK.get(), u64::from(self.call_limit()), 0, 0],
            smc::ENABLE_SHM_CACHE => self.pass(host, function, 0, 1),
            smc::DISABLE_SHM_CACHE => self.disable_shm_cache(host),
            smc::ENABLE_ASYNC_NOTIF if self.offers_notifications() => {
                self.enable_notifications(host)
            }
            smc::GET_ASYNC_NOTIF_VALUE if self.offers_notifications() => {
                self.pass(host, function, 0, 3)
            }
            _ => self.unknown(function),
        }
    }

    /// Returns the number of functions that the guest has.
    fn calls_count(&self) -> u64 {
        let offers =
            u64::from(self.config.features.rpc_arg) + u64::from(self.offers_notifications());
        CALLS + CALLS_PER_FEATURE * offers
    }

    /// Answers a function that the guest may not call.
    #[cold]
    pub(super) fn unknown(&self, function: FunctionId) -> [u64; 4] {
        self.counters.denied.bump();
        // SMCCC wants -1 in the width of the convention.
        if function.is_smc64() {
            [u64::MAX, 0, 0, 0]
        } else {
            code(Return::UNKNOWN_FUNCTION)
        }
    }

    /// Passes a call on. Returns the first `count` registers of the answer.
    #[inline]
    fn pass<H: Host>(&self, host: &H, function: FunctionId, a1: u64, count: usize) -> [u64; 4] {
        let args = [function.get().into(), a1, 0, 0, 0, 0, 0, self.client_id()];
        let [a0, a1, a2, a3, ..] = self.secure(host, args);
        let mut answer = [a0, a1, a2, a3].map(|word| word & 0xffff_ffff);
        answer[count..].fill(0);
        answer
    }

    /// Exchanges capabilities, filtered in both directions.
    #[inline(never)]
    fn exchange<H: Host>(&self, host: &H, guest: u64) -> [u64; 4] {
        let caps = capabilities::for_tee(guest).bits();
        let [a0, ..] = self.pass(host, smc::EXCHANGE_CAPABILITIES, caps, 1);
        if a0 != Return::OK.get() {
            return [a0, 0, 0, 0];
        }
        let [a1, a2, a3] =
            capabilities::answer(&self.tee, &self.config, self.offers_notifications());
        [a0, a1, a2, a3]
    }

    /// Has OP-TEE return one buffer for RPC messages, if it has one and no call is in flight.
    #[inline(never)]
    fn disable_shm_cache<H: Host>(&self, host: &H) -> [u64; 4] {
        let [a0, a1, a2, _] = self.pass(host, smc::DISABLE_SHM_CACHE, 0, 3);
        if a0 != Return::OK.get() {
            return [a0, 0, 0, 0];
        }
        match self.forget_rpc_buffer(smc::unpair(a1, a2)) {
            Some((guest, shadow)) => {
                // OP-TEE has unmapped it before it answered.
                self.give_page(host, shadow);
                let (a1, a2) = smc::pair(guest.0);
                [a0, a1, a2, 0]
            }
            None => {
                self.counters.poisoned.bump();
                code(Return::ENOTAVAIL)
            }
        }
    }

    /// Enables notifications.
    #[inline(never)]
    fn enable_notifications<H: Host>(&self, host: &H) -> [u64; 4] {
        self.enabling_notifications(
            || self.pass(host, smc::ENABLE_ASYNC_NOTIF, 0, 1),
            |answer| answer[0] == Return::OK.get(),
        )
    }
}
