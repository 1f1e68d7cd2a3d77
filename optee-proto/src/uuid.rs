// SPDX-License-Identifier: Apache-2.0 OR MIT
//! UUIDs: of the API, of OP-TEE, of trusted applications.

use core::fmt;
use core::str::FromStr;

/// A UUID, in the order in which it is written: octet 0 is the first pair of digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// Returns the UUID in a value parameter of [`crate::msg::Command::OPEN_SESSION`]: its 16 octets
    /// fill `a` and then `b`, in memory order.
    #[inline]
    pub const fn from_value(a: u64, b: u64) -> Self {
        let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
        Self([
            a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], b[0], b[1], b[2], b[3], b[4], b[5],
            b[6], b[7],
        ])
    }

    /// Returns the `a` and `b` of a value parameter that carries the UUID.
    #[inline]
    pub const fn to_value(self) -> (u64, u64) {
        let o = self.0;
        (
            u64::from_le_bytes([o[0], o[1], o[2], o[3], o[4], o[5], o[6], o[7]]),
            u64::from_le_bytes([o[8], o[9], o[10], o[11], o[12], o[13], o[14], o[15]]),
        )
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, octet) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{octet:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uuid({self})")
    }
}

/// Why a text is no UUID.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadUuid;

impl fmt::Display for BadUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a UUID: 32 hexadecimal digits as 8-4-4-4-12 are expected")
    }
}

impl core::error::Error for BadUuid {}

impl FromStr for Uuid {
    type Err = BadUuid;

    fn from_str(text: &str) -> Result<Self, BadUuid> {
        let text = text.as_bytes();
        if text.len() != 36 {
            return Err(BadUuid);
        }
        let mut octets = [0; 16];
        let mut at = 0;
        for (n, octet) in octets.iter_mut().enumerate() {
            if matches!(n, 4 | 6 | 8 | 10) {
                if text[at] != b'-' {
                    return Err(BadUuid);
                }
                at += 1;
            }
            let digit = |c: u8| char::from(c).to_digit(16).ok_or(BadUuid);
            *octet = (digit(text[at])? << 4 | digit(text[at + 1])?) as u8;
            at += 2;
        }
        Ok(Self(octets))
    }
}

/// `OPTEE_MSG_UID_0..3`: what [`crate::smc::CALLS_UID`] answers in a0..a3:
/// 384fb3e0-e7f8-11e3-af63-0002a5d5c51b.
pub const API_UID: [u32; 4] = [0x384f_b3e0, 0xe7f8_11e3, 0xaf63_0002, 0xa5d5_c51b];
/// `OPTEE_MSG_IMAGE_LOAD_UID_0..3`: the answer while TF-A waits for the kernel to load OP-TEE.
pub const IMAGE_LOAD_UID: [u32; 4] = [0xa3fb_eab1, 0x1246_315d, 0xc7c4_06b9, 0xc03c_bea4];
/// `OPTEE_MSG_OS_OPTEE_UUID_0..3`: what [`crate::smc::GET_OS_UUID`] answers:
/// 486178e0-e7f8-11e3-bc5e-0002a5d5c51b.
pub const OS_UUID: [u32; 4] = [0x4861_78e0, 0xe7f8_11e3, 0xbc5e_0002, 0xa5d5_c51b];

#[cfg(test)]
mod tests {
    extern crate alloc;
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn text_and_value_round_trip() {
        let text = "8aaaf200-2450-11e4-abe2-0002a5d5c51b";
        let uuid: Uuid = text.parse().unwrap();
        assert_eq!(uuid.0[..4], [0x8a, 0xaa, 0xf2, 0x00]);
        assert_eq!(uuid.to_string(), text);
        let (a, b) = uuid.to_value();
        assert_eq!(a & 0xff, 0x8a);
        assert_eq!(Uuid::from_value(a, b), uuid);
    }

    #[test]
    fn wrong_texts_are_refused() {
        for text in [
            "",
            "8aaaf200-2450-11e4-abe2-0002a5d5c51",
            "8aaaf200-2450-11e4-abe2-0002a5d5c51bb",
            "8aaaf200x2450-11e4-abe2-0002a5d5c51b",
            "8aaaf200-2450-11e4-abe2-0002a5d5c51g",
            "8aaaf20-02450-11e4-abe2-0002a5d5c51b",
        ] {
            assert_eq!(text.parse::<Uuid>(), Err(BadUuid), "{text}");
        }
    }
}
