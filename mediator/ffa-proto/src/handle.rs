// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Memory handles (DEN0077A): the same in all versions.

use core::fmt;

/// The name of a memory region that one endpoint has shared with others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Handle(u64);

/// The component that has given out a handle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Allocator {
    /// The SPMC.
    Spmc,
    /// The hypervisor.
    Hypervisor,
}

impl Handle {
    /// The value that no handle has.
    pub const INVALID: Self = Self(u64::MAX);
    /// The handle in a descriptor that is sent to share memory: none yet.
    pub const NONE: Self = Self(0);

    /// Returns the handle with this value.
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// Returns the value.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns which component has given out the handle: bit 63.
    pub const fn allocator(self) -> Allocator {
        if self.0 >> 63 == 0 {
            Allocator::Spmc
        } else {
            Allocator::Hypervisor
        }
    }

    /// Returns whether the handle can name a region: it is neither [`Handle::NONE`] nor [`Handle::INVALID`].
    ///
    /// The specification allows zero. OP-TEE 4.10 answers a share with SUCCESS and zero when it has shared nothing,
    /// and never gives zero to a region.
    pub const fn is_usable(self) -> bool {
        self.0 != Self::NONE.0 && self.0 != Self::INVALID.0
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({:#x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_zero_and_all_ones_name_nothing() {
        assert!(!Handle::NONE.is_usable() && !Handle::INVALID.is_usable());
        assert!(Handle::new(1 << 44).is_usable());
        assert_eq!(Handle::new(1 << 44).allocator(), Allocator::Spmc);
        assert_eq!(Handle::new(1 << 63).allocator(), Allocator::Hypervisor);
    }
}
