// SPDX-License-Identifier: Apache-2.0 OR MIT
//! UUIDs of services, in the byte order of RFC 9562.

use core::fmt;

/// A UUID. Registers and records hold its bytes in order, the first in the lowest bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct Uuid([u8; 16]);

impl Uuid {
    /// The UUID of zeroes: any service.
    pub const NIL: Self = Self([0; 16]);

    /// Returns the UUID with these bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the UUID whose hexadecimal digits are those of this number.
    pub const fn from_u128(number: u128) -> Self {
        Self(number.to_be_bytes())
    }

    /// Returns its bytes.
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// Returns whether it is [`Uuid::NIL`].
    pub fn is_nil(self) -> bool {
        self == Self::NIL
    }

    /// Returns the UUID in four 32-bit registers.
    pub const fn from_words(w: [u32; 4]) -> Self {
        let low = (w[1] as u64) << 32 | w[0] as u64;
        let high = (w[3] as u64) << 32 | w[2] as u64;
        Self::from_pair([low, high])
    }

    /// Returns the UUID as four 32-bit registers hold it.
    pub const fn to_words(self) -> [u32; 4] {
        let [a, b] = self.to_pair();
        [a as u32, (a >> 32) as u32, b as u32, (b >> 32) as u32]
    }

    /// Returns the UUID in two 64-bit registers.
    pub const fn from_pair(x: [u64; 2]) -> Self {
        Self(((x[1] as u128) << 64 | x[0] as u128).to_le_bytes())
    }

    /// Returns the UUID as two 64-bit registers hold it.
    pub const fn to_pair(self) -> [u64; 2] {
        let number = u128::from_le_bytes(self.0);
        [number as u64, (number >> 64) as u64]
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if [4, 6, 8, 10].contains(&index) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uuid({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// OP-TEE's partition.
    const OPTEE: Uuid = Uuid::from_u128(0x486178e0_e7f8_11e3_bc5e_0002a5d5c51b);

    #[test]
    fn words_hold_the_bytes_in_order() {
        let words = [0xe078_6148, 0xe311_f8e7, 0x0200_5ebc, 0x1bc5_d5a5];
        assert_eq!(OPTEE.to_words(), words);
        assert_eq!(Uuid::from_words(words), OPTEE);
        assert_eq!(Uuid::from_pair(OPTEE.to_pair()), OPTEE);
        assert!(!OPTEE.is_nil() && Uuid::from_words([0; 4]).is_nil());
    }
}
