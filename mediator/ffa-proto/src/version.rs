// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Versions of the framework: DEN0077A issue J, 13.2 (`FFA_VERSION`).

use core::fmt;

/// A version of the framework. Versions are ordered: the major number counts first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u32);

/// Bit 31 of a version, which must be zero.
const RESERVED: u32 = 1 << 31;

impl Version {
    /// 1.0: DEN0077A issue A.
    pub const V1_0: Self = Self(0x1_0000);
    /// 1.1: DEN0077A issue E.
    pub const V1_1: Self = Self(0x1_0001);
    /// 1.2: DEN0077A issue J. The memory management protocol is in DEN0140 since then.
    pub const V1_2: Self = Self(0x1_0002);

    /// w0 of an answer to `FFA_VERSION` when no version is agreed on: `NOT_SUPPORTED`.
    pub const NOT_SUPPORTED: u32 = u32::MAX;

    /// Returns the version with these numbers, or `None` if the major number has more than 15 bits.
    pub const fn new(major: u16, minor: u16) -> Option<Self> {
        Self::from_w((major as u32) << 16 | minor as u32)
    }

    /// Returns the version in a register, or `None` if bit 31 is set. `NOT_SUPPORTED` has it set.
    pub const fn from_w(w: u32) -> Option<Self> {
        if w & RESERVED == 0 {
            Some(Self(w))
        } else {
            None
        }
    }

    /// Returns the version as a register has it.
    pub const fn to_w(self) -> u32 {
        self.0
    }

    /// Returns the major number, 0..=0x7fff.
    pub const fn major(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// Returns the minor number.
    pub const fn minor(self) -> u16 {
        self.0 as u16
    }

    /// Returns whether a caller of this version can use a callee of another one: the same major number, and a
    /// minor number that is not larger (13.2.1).
    pub const fn can_call(self, callee: Self) -> bool {
        self.major() == callee.major() && self.minor() <= callee.minor()
    }

    /// Returns the version that both sides use: the smaller one, or `None` if the major numbers differ.
    pub const fn common(self, other: Self) -> Option<Self> {
        if self.can_call(other) {
            Some(self)
        } else if other.can_call(self) {
            Some(other)
        } else {
            None
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major(), self.minor())
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Version({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_with_bit_31_is_none() {
        assert_eq!(Version::from_w(0x8001_0002), None);
        assert_eq!(Version::from_w(Version::NOT_SUPPORTED), None);
        assert_eq!(Version::new(0x8000, 0), None);
        assert_eq!(Version::from_w(0x1_0002), Some(Version::V1_2));
        assert_eq!(Version::new(1, 2), Some(Version::V1_2));
    }

    #[test]
    fn common_version_is_the_smaller_of_one_major_number() {
        let next = Version::new(2, 0).unwrap();
        assert_eq!(Version::V1_0.common(Version::V1_2), Some(Version::V1_0));
        assert_eq!(Version::V1_2.common(Version::V1_1), Some(Version::V1_1));
        assert_eq!(Version::V1_2.common(next), None);
        assert!(Version::V1_1.can_call(Version::V1_2));
        assert!(!Version::V1_2.can_call(Version::V1_1));
        assert!(Version::V1_2 < next && Version::V1_0 < Version::V1_1);
    }
}
