// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The filter of capabilities, in both directions.

use crate::config::Config;
use crate::tee_info::TeeInfo;
use optee_proto::caps::{NormalCaps, SecureCaps};

/// Returns the guest's capabilities for OP-TEE. OP-TEE refuses the call over a bit that it does not know, so
/// unknown bits are dropped.
pub(crate) const fn for_tee(guest: u64) -> NormalCaps {
    NormalCaps::from_bits_truncate(guest & 0xffff_ffff)
}

/// Returns OP-TEE's capabilities for the guest: only what the mediator supports.
///
/// Reserved and unregistered shared memory name physical addresses, and so does protected memory. The guest
/// need not know that there are several guests.
pub(crate) fn for_guest(tee: SecureCaps, config: &Config, notifications: bool) -> SecureCaps {
    let mut passed = SecureCaps::DYNAMIC_SHM.union(SecureCaps::MEMREF_NULL);
    passed.set(SecureCaps::ASYNC_NOTIF, notifications);
    passed.set(SecureCaps::RPC_ARG, config.features.rpc_arg);
    passed.set(SecureCaps::RPMB_PROBE, config.policy.rpmb);
    tee & passed
}

/// Returns a1, a2 and a3 of the answer: capabilities, largest notification value, RPC parameters.
pub(crate) fn answer(tee: &TeeInfo, config: &Config, notifications: bool) -> [u64; 3] {
    let caps = for_guest(tee.caps, config, notifications);
    let when = |cap, value: u32| {
        if caps.contains(cap) {
            u64::from(value)
        } else {
            0
        }
    };
    [
        caps.bits(),
        when(SecureCaps::ASYNC_NOTIF, tee.max_notif),
        when(SecureCaps::RPC_ARG, tee.rpc_params),
    ]
}
