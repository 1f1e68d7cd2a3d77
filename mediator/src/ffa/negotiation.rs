// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The version that a guest has agreed on: DEN0077A issue J, 13.2.

use ffa_proto::Version;

/// The version of the framework that guests find.
pub(super) const OURS: Version = Version::V1_2;

/// Progress of the negotiation with a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Negotiation {
    /// The guest has not asked, or for a version that is not compatible.
    #[default]
    Open,
    /// The guest has asked for this version, and may still ask for another one.
    Agreed(Version),
    /// The guest has used this version, which stays until the VM ends.
    Fixed(Version),
}

impl Negotiation {
    /// Answers `FFA_VERSION`: returns the version to answer with, or `None` for `NOT_SUPPORTED`.
    ///
    /// A guest that asks first for a later minor version than ours agrees on ours: Linux goes on with that, and does not
    /// ask again. Once the version is fixed it is the only one, also for the next kernel of a guest.
    pub(super) fn ask(&mut self, w1: u32) -> Option<Version> {
        let asked = Version::from_w(w1)?;
        match *self {
            Self::Fixed(version) => return (asked >= version).then_some(version),
            // A second question that is too high changes nothing.
            Self::Agreed(_) if asked > OURS => {}
            Self::Open | Self::Agreed(_) => {
                // Of another major number the guest sees that it is another.
                if let Some(common) = asked.common(OURS) {
                    *self = Self::Agreed(common);
                }
            }
        }
        Some(OURS)
    }

    /// Fixes the version, since the guest makes a call that is not `FFA_VERSION`. Returns it, or `None` if there is
    /// none.
    pub(super) const fn fix(&mut self) -> Option<Version> {
        match *self {
            Self::Open => None,
            Self::Agreed(version) | Self::Fixed(version) => {
                *self = Self::Fixed(version);
                Some(version)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_changes_until_another_call_fixes_it() {
        let mut guest = Negotiation::default();
        assert_eq!(guest.fix(), None);
        assert_eq!(guest.ask(Version::V1_0.to_w()), Some(OURS));
        assert_eq!(guest.ask(Version::V1_1.to_w()), Some(OURS));
        assert_eq!(guest.fix(), Some(Version::V1_1));
        // A later one hears the fixed one, with which it can go on.
        for asked in [0x1_0001, 0x1_0002, 0x1_0003, 0x2_0000] {
            assert_eq!(guest.ask(asked), Some(Version::V1_1));
        }
        assert_eq!(guest.ask(Version::V1_0.to_w()), None);
        assert_eq!(guest.fix(), Some(Version::V1_1));
    }

    #[test]
    fn later_minor_version_agrees_on_ours() {
        let mut guest = Negotiation::default();
        assert_eq!(guest.ask(0x1_0007), Some(OURS));
        assert_eq!(guest.ask(Version::V1_0.to_w()), Some(OURS));
        assert_eq!(guest.ask(0x1_0007), Some(OURS));
        assert_eq!(guest.fix(), Some(Version::V1_0));
        let mut guest = Negotiation::default();
        assert_eq!(guest.ask(0x1_0007), Some(OURS));
        assert_eq!(guest.fix(), Some(OURS));
    }

    #[test]
    fn incompatible_version_agrees_on_nothing() {
        let mut guest = Negotiation::default();
        assert_eq!(guest.ask(0x2_0000), Some(OURS));
        assert_eq!(guest.ask(0x0_0009), Some(OURS));
        assert_eq!(guest.ask(0x8001_0002), None);
        assert_eq!(guest.fix(), None);
    }
}
