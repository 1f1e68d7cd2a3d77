// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The division of OP-TEE's shared resources among VMs.

/// The part of OP-TEE's shared resources that each VM with the TEE may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// ASIDs, for the applications that run for the VM and for those that its earlier lives left behind.
    pub address_spaces: u32,
    /// The most ASIDs of these that the VM may leave behind.
    pub max_leaked_asids: u32,
    /// The most times that the VM may be created; `None` if there is no limit.
    pub max_creations: Option<u32>,
}

impl Share {
    /// Number of ASIDs that OP-TEE has. Each VM with the TEE takes one for itself.
    const ADDRESS_SPACES: u32 = 64;
    /// ASIDs in no share, for applications that other applications open.
    const RESERVE: u32 = 6;
    /// ASIDs per share that leaked ones must not take from running applications.
    const LIVE: u32 = 4;

    /// Returns the share of one of `sharers` VMs, which may be created `max_creations` times in total.
    pub fn of(sharers: u32, max_creations: Option<u32>) -> Self {
        let sharers = sharers.max(1);
        let spaces = Self::ADDRESS_SPACES.saturating_sub(sharers + Self::RESERVE);
        let address_spaces = (spaces / sharers).max(1);
        Self {
            address_spaces,
            max_leaked_asids: address_spaces.saturating_sub(Self::LIVE).max(1),
            max_creations: max_creations.map(|all| (all / sharers).max(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sum_of_shares_is_within_the_total() {
        for sharers in 1..=8 {
            let share = Share::of(sharers, Some(40));
            assert!(sharers * (share.address_spaces + 1) + Share::RESERVE <= 64);
            assert!((1..share.address_spaces).contains(&share.max_leaked_asids));
            assert!(sharers * share.max_creations.unwrap() <= 40);
        }
        assert_eq!(Share::of(2, None).address_spaces, 28);
        assert_eq!(Share::of(2, None).max_leaked_asids, 24);
        assert_eq!(Share::of(0, None), Share::of(1, None));
    }
}
