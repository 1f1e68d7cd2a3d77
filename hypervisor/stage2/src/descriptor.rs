// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The format of stage-2 entries (Arm ARM DDI 0487 D8.3, D8.4.2, D8.6.6).

use mediator::addr::Pa;

/// The level at which a walk starts.
pub(super) const ROOT_LEVEL: u32 = 1;
/// The level of pages.
pub(super) const LAST_LEVEL: u32 = 3;

/// Returns the lowest address bit that selects an entry at `level`.
const fn shift(level: u32) -> u32 {
    12 + 9 * (LAST_LEVEL - level)
}

/// Returns the number of bytes that an entry at `level` covers.
pub(super) const fn entry_bytes(level: u32) -> u64 {
    1 << shift(level)
}

/// Returns the index of the entry for an address below 2^40 in its table at `level`.
pub(super) const fn entry_index(level: u32, address: u64) -> usize {
    // The concatenated tables of the root resolve one bit more.
    let bits = if level == ROOT_LEVEL { 10 } else { 9 };
    (address >> shift(level)) as usize & ((1 << bits) - 1)
}

const VALID: u64 = 1;
const TABLE_OR_PAGE: u64 = 1 << 1;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
/// MemAttr, bits 5:2: normal memory, inner and outer write-back.
const NORMAL: u64 = 0b1111 << 2;
/// MemAttr: Device-nGnRE.
const DEVICE: u64 = 0b0001 << 2;
const MEMORY_TYPE: u64 = 0b1111 << 2;
const READ: u64 = 1 << 6;
const WRITE: u64 = 1 << 7;
const INNER_SHAREABLE: u64 = 0b11 << 8;
const ACCESS_FLAG: u64 = 1 << 10;
const EXECUTE_NEVER: u64 = 1 << 54;

/// A type of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryType {
    /// Memory: write-back cacheable, inner shareable.
    Normal,
    /// Registers: Device-nGnRE.
    Device,
}

/// The memory type of a range and a guest's access rights to it. A guest may always read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// The memory type.
    pub memory: MemoryType,
    /// Whether the guest may write to it.
    pub write: bool,
    /// Whether the guest may execute it.
    pub execute: bool,
}

impl Attributes {
    /// The attributes of RAM: the guest may write and execute it.
    pub const RAM: Self = Self {
        memory: MemoryType::Normal,
        write: true,
        execute: true,
    };
    /// The attributes of memory that the guest may only read.
    pub const READ_ONLY: Self = Self {
        memory: MemoryType::Normal,
        write: false,
        execute: false,
    };
    /// The attributes of a device that the guest drives itself.
    pub const DEVICE: Self = Self {
        memory: MemoryType::Device,
        write: true,
        execute: false,
    };
}

/// A decoded entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// Nothing is mapped.
    Invalid,
    /// A table of the next level.
    Table(Pa),
    /// A block, or a page at the last level.
    Leaf(Pa, Attributes),
}

impl Entry {
    /// Decodes an entry of a table at `level`.
    pub(super) const fn decode(bits: u64, level: u32) -> Self {
        let pa = Pa::new(bits & ADDRESS);
        match (
            bits & VALID != 0,
            bits & TABLE_OR_PAGE != 0,
            level == LAST_LEVEL,
        ) {
            // The block format is reserved at the last level.
            (false, ..) | (true, false, true) => Self::Invalid,
            (true, true, false) => Self::Table(pa),
            (true, true, true) | (true, false, false) => {
                let device = bits & MEMORY_TYPE == DEVICE;
                let memory = if device {
                    MemoryType::Device
                } else {
                    MemoryType::Normal
                };
                let write = bits & WRITE != 0;
                let execute = bits & EXECUTE_NEVER == 0;
                Self::Leaf(
                    pa,
                    Attributes {
                        memory,
                        write,
                        execute,
                    },
                )
            }
        }
    }

    /// Returns the entry that leads to a table.
    pub(super) const fn table(at: Pa) -> u64 {
        at.get() | TABLE_OR_PAGE | VALID
    }

    /// Returns the block or page entry at `level` that leads to `pa`, a multiple of its size.
    pub(super) const fn leaf(level: u32, pa: Pa, attributes: Attributes) -> u64 {
        let kind = if level == LAST_LEVEL {
            TABLE_OR_PAGE
        } else {
            0
        };
        let memory = match attributes.memory {
            MemoryType::Normal => NORMAL | INNER_SHAREABLE,
            MemoryType::Device => DEVICE,
        };
        let write = if attributes.write { WRITE } else { 0 };
        let execute = if attributes.execute { 0 } else { EXECUTE_NEVER };
        pa.get() | kind | VALID | memory | READ | write | ACCESS_FLAG | execute
    }
}
