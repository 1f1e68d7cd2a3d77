// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sets of a link's ports.

use postern_base::ids::MAX_VMS;

/// A set of ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PortSet(pub u8);

impl PortSet {
    pub const fn one(port: usize) -> Self {
        Self(1 << (port % MAX_VMS))
    }

    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the ports, the lowest first.
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = usize> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let port = rest.trailing_zeros() as usize;
            // Clears the lowest bit.
            rest &= rest.wrapping_sub(1);
            (port < MAX_VMS).then_some(port)
        })
    }
}
