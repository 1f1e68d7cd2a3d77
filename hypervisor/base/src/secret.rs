// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The end of secrets in memory.

use core::hint::black_box;

/// Overwrites secret bytes. To the compiler the zeros are used, so it keeps the writes.
pub fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    black_box(bytes);
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_is_left() {
        let mut bytes = [0xa5; 40];
        super::wipe(&mut bytes[..39]);
        assert_eq!(bytes[..39], [0; 39]);
        assert_eq!(bytes[39], 0xa5);
    }
}
