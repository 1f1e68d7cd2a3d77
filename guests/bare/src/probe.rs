// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Accesses that may fail.

use crate::PAGE_SIZE;
use crate::exception::Fault;
use crate::machine::machine;

/// Two registers, as the procedure call standard gives them back.
#[repr(C)]
struct Loaded {
    value: u64,
    syndrome: u64,
}

unsafe extern "C" {
    fn probe_load(address: u64) -> Loaded;
    fn probe_store(address: u64, value: u64) -> u64;
}

/// Reads the word at any address, a multiple of eight.
///
/// # Errors
/// The access was refused.
pub fn load(address: u64) -> Result<u64, Fault> {
    assert_eq!(address % 8, 0);
    // SAFETY: an aligned load, whose exception the vectors catch. Reading memory, whosever it is,
    // breaks nothing; a device register that is read may change the device only.
    let loaded = unsafe { probe_load(address) };
    if loaded.syndrome == 0 {
        Ok(loaded.value)
    } else {
        Err(Fault(loaded.syndrome))
    }
}

/// Writes the word at an address, a multiple of eight, outside the program itself.
///
/// # Errors
/// The access was refused.
///
/// # Panics
/// The program lies there.
pub fn store(address: u64, value: u64) -> Result<(), Fault> {
    let machine = machine();
    let (image, tree) = (machine.image, machine.tree);
    let page = address - address % PAGE_SIZE;
    assert!(address.is_multiple_of(8) && !image.contains(page) && !tree.contains(page));
    // SAFETY: an aligned store, whose exception the vectors catch, outside of what Rust owns: the
    // image with its stacks, and the tree. Pages are shared, and reached by volatile accesses.
    match unsafe { probe_store(address, value) } {
        0 => Ok(()),
        syndrome => Err(Fault(syndrome)),
    }
}
