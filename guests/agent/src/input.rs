// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reads records of Linux's input devices, `struct input_event` (`linux/input.h`).

/// Bytes of a record on a 64-bit machine: a time of two 64-bit words, type, code and value.
pub const RECORD: usize = 24;

/// `EV_KEY`.
const KEY: u16 = 1;
/// `KEY_POWER`.
const POWER: u16 = 116;
/// The value of a key that goes down. 0 is up; 2 is held.
const DOWN: i32 = 1;

/// A record without its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Input {
    kind: u16,
    code: u16,
    value: i32,
}

impl Input {
    /// Reads a record's fields.
    pub fn of(record: &[u8; RECORD]) -> Self {
        Self {
            kind: u16::from_ne_bytes([record[16], record[17]]),
            code: u16::from_ne_bytes([record[18], record[19]]),
            value: i32::from_ne_bytes([record[20], record[21], record[22], record[23]]),
        }
    }

    /// Returns whether the power key goes down.
    pub fn presses_power(self) -> bool {
        (self.kind, self.code, self.value) == (KEY, POWER, DOWN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_power_key_down_presses_power() {
        let record = |kind: u16, code: u16, value: i32| {
            let mut record = [0xa5; RECORD];
            record[16..18].copy_from_slice(&kind.to_ne_bytes());
            record[18..20].copy_from_slice(&code.to_ne_bytes());
            record[20..].copy_from_slice(&value.to_ne_bytes());
            record
        };
        for (kind, code, value, presses) in [
            (1, 116, 1, true),
            // Released, held, the record that ends each report, another key, another type.
            (1, 116, 0, false),
            (1, 116, 2, false),
            (0, 0, 0, false),
            (1, 28, 1, false),
            (4, 116, 1, false),
        ] {
            let input = Input::of(&record(kind, code, value));
            assert_eq!(input.presses_power(), presses, "{input:?}");
        }
    }
}
