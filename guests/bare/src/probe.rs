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
    fn probe_load_8(address: u64) -> Loaded;
    fn probe_load_16(address: u64) -> Loaded;
    fn probe_load_32(address: u64) -> Loaded;
    fn probe_load_pair(address: u64) -> Loaded;
    fn probe_store_8(address: u64, value: u64) -> u64;
    fn probe_store_16(address: u64, value: u64) -> u64;
    fn probe_store_32(address: u64, value: u64) -> u64;
    fn probe_store_pair(address: u64, value: u64) -> u64;
}

/// How an instruction accesses a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Half,
    /// 32 bits.
    Word,
    /// 64 bits.
    Double,
    /// Two registers of 32 bits: the syndrome does not describe it.
    Pair,
}

impl Width {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Byte, Self::Half, Self::Word, Self::Double, Self::Pair];
}

/// Reads from a device, at any address outside of RAM, aligned or not.
///
/// # Errors
/// The access was refused.
///
/// # Panics
/// There is RAM.
pub fn load_device(address: u64, width: Width) -> Result<u64, Fault> {
    assert!(!machine().ram.contains(address));
    let load = match width {
        Width::Byte => probe_load_8,
        Width::Half => probe_load_16,
        Width::Word => probe_load_32,
        Width::Double => probe_load,
        Width::Pair => probe_load_pair,
    };
    // SAFETY: a load, whose exception the vectors catch. It may change the device only.
    let loaded = unsafe { load(address) };
    if loaded.syndrome == 0 {
        Ok(loaded.value)
    } else {
        Err(Fault(loaded.syndrome))
    }
}

/// Writes to a device, at any address outside of RAM, aligned or not. A device writes memory only
/// where its driver lets it: to [`Pages`](crate::pages::Pages), or to what is not the program's.
///
/// # Errors
/// The access was refused.
///
/// # Panics
/// There is RAM.
pub fn store_device(address: u64, width: Width, value: u64) -> Result<(), Fault> {
    assert!(!machine().ram.contains(address));
    let store = match width {
        Width::Byte => probe_store_8,
        Width::Half => probe_store_16,
        Width::Word => probe_store_32,
        Width::Double => probe_store,
        Width::Pair => probe_store_pair,
    };
    // SAFETY: a store, whose exception the vectors catch, outside of RAM and so of what Rust owns.
    match unsafe { store(address, value) } {
        0 => Ok(()),
        syndrome => Err(Fault(syndrome)),
    }
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
