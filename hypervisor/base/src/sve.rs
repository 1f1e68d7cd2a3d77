// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The lengths of SVE's vectors (DDI 0487, B1.4: multiples of 128 bits, 128 to 2048).

use core::fmt;

/// The length of a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct VectorLength(u8);

impl VectorLength {
    /// Returns the length of this many bits; `None` if there is none.
    pub const fn from_bits(bits: u32) -> Option<Self> {
        if bits.is_multiple_of(128) && bits >= 128 && bits <= 2048 {
            Some(Self((bits / 128 - 1) as u8))
        } else {
            None
        }
    }

    /// Returns the longest length that a CPU selects by this value of ZCR_EL2.LEN, which is 0 to 15.
    pub const fn of_zcr_len(len: u8) -> Self {
        Self(len & 0xf)
    }

    /// Returns the number of bits.
    pub const fn bits(self) -> u32 {
        (self.0 as u32 + 1) * 128
    }

    /// Returns the value of ZCR_EL2.LEN that makes this length the longest.
    pub const fn zcr_len(self) -> u8 {
        self.0
    }

    /// Returns the bytes of a vector register.
    pub const fn bytes(self) -> usize {
        self.bits() as usize / 8
    }

    /// Returns the bytes of all registers whose size depends on the length: Z0 to Z31, and P0 to P15 and FFR, which
    /// have an eighth of it.
    pub const fn state_bytes(self) -> usize {
        32 * self.bytes() + 17 * (self.bytes() / 8)
    }
}

/// The lengths that a pCPU has.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct VectorLengths(u16);

impl VectorLengths {
    /// No length: no SVE.
    pub const NONE: Self = Self(0);

    /// Returns the lengths with `length` added.
    #[must_use]
    pub const fn with(self, length: VectorLength) -> Self {
        Self(self.0 | 1 << length.0)
    }

    /// Returns whether the pCPU has this length.
    pub const fn contains(self, length: VectorLength) -> bool {
        self.0 >> length.0 & 1 == 1
    }

    /// Returns the lengths as a number, bit n for 128 × (n + 1) bits.
    pub const fn to_bits(self) -> u16 {
        self.0
    }

    /// Returns the lengths that [`VectorLengths::to_bits`] gave.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }
}

impl fmt::Debug for VectorLengths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for VectorLengths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NONE {
            return f.write_str("none");
        }
        let lengths = (0..16).map(VectorLength::of_zcr_len);
        let mut comma = "";
        for length in lengths.filter(|length| self.contains(*length)) {
            write!(f, "{comma}{}", length.bits())?;
            comma = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::string::ToString;

    #[test]
    fn bits_that_are_no_length_are_refused() {
        for bits in [0, 1, 64, 127, 129, 192, 2049, 2176, u32::MAX] {
            assert_eq!(VectorLength::from_bits(bits), None, "{bits}");
        }
    }

    #[test]
    fn lengths_have_the_sizes_of_the_architecture() {
        for (bits, len, bytes, state) in [
            (128, 0, 16, 546),
            (256, 1, 32, 1092),
            (384, 2, 48, 1638),
            (2048, 15, 256, 8736),
        ] {
            let length = VectorLength::from_bits(bits).unwrap();
            assert_eq!(length, VectorLength::of_zcr_len(len));
            assert_eq!(
                (
                    length.bits(),
                    length.zcr_len(),
                    length.bytes(),
                    length.state_bytes()
                ),
                (bits, len, bytes, state)
            );
        }
    }

    #[test]
    fn set_of_lengths_names_its_members() {
        let length = |bits| VectorLength::from_bits(bits).unwrap();
        let set = VectorLengths::NONE.with(length(128)).with(length(256));
        assert!(set.contains(length(256)) && !set.contains(length(512)));
        assert_eq!(set.to_string(), "128, 256");
        assert_eq!(VectorLengths::NONE.to_string(), "none");
        assert_eq!(VectorLengths::from_bits(set.to_bits()), set);
        assert_eq!(set.with(length(2048)).to_bits(), 0x8003);
    }
}
