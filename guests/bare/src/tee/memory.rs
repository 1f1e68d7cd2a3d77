// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Words of shared memory, by address.
//!
//! What OP-TEE names, it names by cookie or address, so there is no [`Pages`] at hand. The same rules
//! hold: RAM outside of what Rust owns, and volatile accesses, for OP-TEE writes it too.
//!
//! [`Pages`]: crate::pages::Pages

use crate::machine::machine;

fn check(address: u64, bytes: u64) {
    let machine = machine();
    let last = address + (bytes - 1);
    let ours = [machine.image, machine.tree];
    let taken = ours.iter().chain(&machine.initrd);
    let clash = |range: &crate::machine::Range| range.start <= last && address < range.end;
    assert!(
        address.is_multiple_of(bytes)
            && machine.ram.contains(address)
            && machine.ram.contains(last)
            && !taken.into_iter().any(clash),
        "{bytes} bytes at {address:#x} cannot be shared memory"
    );
}

macro_rules! access {
    ($read:ident, $write:ident, $type:ty) => {
        /// Reads a little-endian word.
        ///
        /// # Panics
        /// It is not in RAM that can be shared, or not aligned.
        pub fn $read(address: u64) -> $type {
            check(address, size_of::<$type>() as u64);
            // SAFETY: aligned, mapped RAM outside of what Rust owns; volatile.
            <$type>::from_le(unsafe { core::ptr::read_volatile(address as *const $type) })
        }

        /// Writes a little-endian word.
        ///
        /// # Panics
        /// It is not in RAM that can be shared, or not aligned.
        pub fn $write(address: u64, value: $type) {
            check(address, size_of::<$type>() as u64);
            // SAFETY: aligned, mapped RAM outside of what Rust owns; volatile.
            unsafe { core::ptr::write_volatile(address as *mut $type, value.to_le()) };
        }
    };
}

access!(read_u8, write_u8, u8);
access!(read_u32, write_u32, u32);
access!(read_u64, write_u64, u64);

/// Copies bytes out.
///
/// # Panics
/// As [`read_u8`].
pub fn read(address: u64, into: &mut [u8]) {
    for (at, byte) in (address..).zip(into) {
        *byte = read_u8(at);
    }
}

/// Copies bytes in, to an address that is a multiple of eight.
///
/// # Panics
/// As [`write_u64`].
pub fn write(address: u64, bytes: &[u8]) {
    let mut at = address;
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        write_u64(
            at,
            u64::from_le_bytes(word.try_into().expect("eight bytes")),
        );
        at += 8;
    }
    for &byte in words.remainder() {
        write_u8(at, byte);
        at += 1;
    }
}
