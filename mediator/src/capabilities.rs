//! Which capabilities each side hears of.

use crate::config::Config;
use crate::probe::TeeInfo;
use optee_proto::caps::{NormalCaps, SecureCaps};

/// What OP-TEE hears of the guest. It refuses the call over a bit that it does not know, so
/// unknown ones are dropped.
pub(crate) const fn for_tee(guest: u64) -> NormalCaps {
    NormalCaps::from_bits_truncate(guest & 0xffff_ffff)
}

/// What the guest hears of OP-TEE: only what the mediator can do for it.
///
/// Reserved and unregistered shared memory name physical addresses, so does protected memory;
/// that there are several guests is nobody's business.
pub(crate) fn for_guest(tee: SecureCaps, config: &Config) -> SecureCaps {
    let mut passed = SecureCaps::DYNAMIC_SHM | SecureCaps::MEMREF_NULL;
    passed.set(SecureCaps::ASYNC_NOTIF, config.offer.async_notif);
    passed.set(SecureCaps::RPC_ARG, config.offer.rpc_arg);
    passed.set(SecureCaps::RPMB_PROBE, config.policy.rpmb);
    tee & passed
}

/// a1, a2 and a3 of the answer: capabilities, largest notification value, RPC parameters.
pub(crate) fn answer(tee: &TeeInfo, config: &Config) -> [u64; 3] {
    let caps = for_guest(tee.caps, config);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Offer;

    fn tee() -> TeeInfo {
        TeeInfo {
            major: 4,
            minor: 10,
            build: 0,
            caps: SecureCaps::from_bits_retain(0xffff_ffff),
            max_notif: 63,
            rpc_params: 4,
            threads: 2,
        }
    }

    #[test]
    fn what_guests_hear() {
        let mut config = Config::default();
        assert_eq!(answer(&tee(), &config), [0b1_0100, 0, 0]);
        config.offer = Offer {
            rpc_arg: true,
            async_notif: true,
        };
        assert_eq!(answer(&tee(), &config), [0b111_0100, 63, 4]);
        config.policy.rpmb = true;
        assert_eq!(answer(&tee(), &config), [0b1111_0100, 63, 4]);
        let poor = TeeInfo {
            caps: SecureCaps::DYNAMIC_SHM,
            ..tee()
        };
        assert_eq!(answer(&poor, &config), [0b100, 0, 0]);
    }

    #[test]
    fn what_optee_hears() {
        assert_eq!(for_tee(u64::MAX).bits(), 1);
        assert_eq!(for_tee(0).bits(), 0);
        assert_eq!(for_tee(1 << 32).bits(), 0);
    }
}
