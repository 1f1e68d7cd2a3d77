// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One guest access to a device register.
//!
//! A device is a plain state machine. It gets an [`Access`] with an offset in its window and returns a value. It knows
//! nothing of guest addresses, registers or traps.

/// The width of an access, as in ESR_ELx.ISS.SAS (Arm ARM, the description of ESR_EL2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccessSize {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Half,
    /// 32 bits.
    Word,
    /// 64 bits.
    Double,
}

impl AccessSize {
    /// Returns the width whose number of bytes is two to the power of the low two bits of `sas`.
    #[inline]
    pub const fn from_sas(sas: u64) -> Self {
        match sas & 3 {
            0 => Self::Byte,
            1 => Self::Half,
            2 => Self::Word,
            _ => Self::Double,
        }
    }

    /// Returns the number of bytes: 1, 2, 4 or 8.
    #[inline]
    pub const fn bytes(self) -> u64 {
        1 << self as u32
    }

    /// Returns the number of bits: 8, 16, 32 or 64.
    #[inline]
    pub const fn bits(self) -> u32 {
        8 << self as u32
    }

    /// Returns the low bits of `value` that an access of this width carries; the others are zero.
    #[inline]
    pub const fn truncate(self, value: u64) -> u64 {
        value & (u64::MAX >> (64 - self.bits()))
    }

    /// Returns what a load of this width leaves in its register: `value` truncated, sign-extended where the instruction
    /// does (ISS.SSE), and cut to 32 bits where it writes a W register (ISS.SF is 0).
    #[inline]
    pub const fn extend(self, value: u64, signed: bool, to_64_bits: bool) -> u64 {
        let narrow = self.truncate(value);
        let wide = if signed {
            let unused = 64 - self.bits();
            (((narrow << unused) as i64) >> unused) as u64
        } else {
            narrow
        };
        if to_64_bits { wide } else { wide & 0xffff_ffff }
    }
}

/// A read or a write of a device register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Bytes from the start of the device's window.
    pub offset: u64,
    /// The width.
    pub size: AccessSize,
    /// The value to write, truncated to `size`; `None` for a read.
    pub write: Option<u64>,
}

impl Access {
    /// Describes a read of `size` at `offset`.
    #[inline]
    pub const fn read(offset: u64, size: AccessSize) -> Self {
        Self {
            offset,
            size,
            write: None,
        }
    }

    /// Describes a write of the low bits of `value` at `offset`.
    #[inline]
    pub const fn write(offset: u64, size: AccessSize, value: u64) -> Self {
        Self {
            offset,
            size,
            write: Some(size.truncate(value)),
        }
    }

    /// Returns whether the offset is a multiple of the width, as every device here demands.
    #[inline]
    pub const fn is_aligned(&self) -> bool {
        self.offset.is_multiple_of(self.size.bytes())
    }

    /// Returns the offset of the 32-bit register that holds the first byte of the access.
    #[inline]
    pub const fn register(&self) -> u64 {
        self.offset & !3
    }

    /// Returns what this access reads of the 32-bit register `value` that it hits: the bytes from its offset on. A
    /// 64-bit access sees zero in its upper half.
    #[inline]
    pub const fn part_of(&self, value: u32) -> u64 {
        self.size
            .truncate((value as u64) >> (8 * (self.offset & 3)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths() {
        for (sas, bytes) in [(0, 1), (1, 2), (2, 4), (3, 8), (0x7f4, 1)] {
            assert_eq!(AccessSize::from_sas(sas).bytes(), bytes);
            assert_eq!(u64::from(AccessSize::from_sas(sas).bits()), bytes * 8);
        }
    }

    #[test]
    fn a_load_extends_as_its_instruction_says() {
        // LDRB, LDRSB W, LDRSB X, LDRSH X, LDRSW, LDR X.
        for (size, signed, wide, expected) in [
            (AccessSize::Byte, false, false, 0xf8),
            (AccessSize::Byte, true, false, 0xffff_fff8),
            (AccessSize::Byte, true, true, 0xffff_ffff_ffff_fff8),
            (AccessSize::Half, true, true, 0x77f8),
            (AccessSize::Word, true, true, 0xffff_ffff_8000_77f8),
            (AccessSize::Double, false, true, 0x1234_5678_8000_77f8),
        ] {
            assert_eq!(size.extend(0x1234_5678_8000_77f8, signed, wide), expected);
        }
    }

    #[test]
    fn a_narrow_read_sees_its_bytes() {
        let register = 0x4433_2211;
        for (offset, size, expected) in [
            (0x18, AccessSize::Word, 0x4433_2211),
            (0x1a, AccessSize::Half, 0x4433),
            (0x1b, AccessSize::Byte, 0x44),
            (0x18, AccessSize::Double, 0x4433_2211),
        ] {
            let access = Access::read(offset, size);
            assert!(access.is_aligned());
            assert_eq!(access.register(), 0x18);
            assert_eq!(access.part_of(register), expected);
        }
        assert!(!Access::read(0x19, AccessSize::Half).is_aligned());
        assert_eq!(
            Access::write(0, AccessSize::Byte, 0x1ff).write,
            Some(0xff),
            "a write carries no more than its width"
        );
    }
}
