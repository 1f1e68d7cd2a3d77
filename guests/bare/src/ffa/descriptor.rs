// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Memory transaction descriptors (DEN0077A 1.2, chapter on memory management). Each field can be replaced by a wrong
//! value before the bytes are made.

use super::OPTEE;
use alloc::vec;
use alloc::vec::Vec;

/// Normal memory, write-back, inner shareable.
pub const ATTRIBUTES: u16 = 0x2f;
/// Read and write, nothing about execution.
pub const READ_WRITE: u8 = 2;
/// The bytes of the header from version 1.1 on.
const HEADER: u32 = 48;
/// The bytes of an endpoint memory access descriptor of version 1.2.
pub const ACCESS: u32 = 32;
/// The bytes of one of version 1.1.
pub const ACCESS_1_1: u32 = 16;

/// A descriptor with one receiver, in the form of version 1.1 and later.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Descriptor {
    /// The sender's id.
    pub sender: u16,
    /// The memory's attributes.
    pub attributes: u16,
    /// The flags of the transaction.
    pub flags: u32,
    /// The handle: zero, if the receiver's side chooses it.
    pub handle: u64,
    /// The tag.
    pub tag: u64,
    /// The size of an access descriptor that the header says.
    pub access_size: u32,
    /// The number of access descriptors that the header says.
    pub access_count: u32,
    /// The offset of the access descriptor that the header says.
    pub access_offset: u32,
    /// The receiver's id.
    pub receiver: u16,
    /// Its permissions.
    pub permissions: u8,
    /// Its flags.
    pub receiver_flags: u8,
    /// The offset of the list of ranges that the access descriptor says.
    pub composite_offset: u32,
    /// The sum of pages that the list says; the true one, if nothing.
    pub total: Option<u32>,
    /// The number of ranges that the list says; the true one, if nothing.
    pub count: Option<u32>,
    /// The ranges: an address and a number of pages each.
    pub ranges: Vec<(u64, u32)>,
}

impl Descriptor {
    /// Returns a correct descriptor of version 1.2: what Linux 7 sends.
    pub fn new(sender: u16, ranges: &[(u64, u32)]) -> Self {
        Self {
            sender,
            attributes: ATTRIBUTES,
            flags: 0,
            handle: 0,
            tag: 0,
            access_size: ACCESS,
            access_count: 1,
            access_offset: HEADER,
            receiver: OPTEE,
            permissions: READ_WRITE,
            receiver_flags: 0,
            composite_offset: HEADER + ACCESS,
            total: None,
            count: None,
            ranges: ranges.into(),
        }
    }

    /// Returns the same one with the access descriptor of version 1.1.
    pub fn with_short_access(self) -> Self {
        Self {
            access_size: ACCESS_1_1,
            composite_offset: HEADER + ACCESS_1_1,
            ..self
        }
    }

    /// Returns its bytes. The access descriptor is where a correct one is, whatever the header says, and so is the list
    /// of ranges.
    pub fn bytes(&self) -> Vec<u8> {
        let access = HEADER as usize;
        let short = self.access_size == ACCESS_1_1;
        let composite = access + if short { ACCESS_1_1 } else { ACCESS } as usize;
        let mut bytes = vec![0; composite + 16 + 16 * self.ranges.len()];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &self.sender.to_le_bytes());
        put(2, &self.attributes.to_le_bytes());
        put(4, &self.flags.to_le_bytes());
        put(8, &self.handle.to_le_bytes());
        put(16, &self.tag.to_le_bytes());
        put(24, &self.access_size.to_le_bytes());
        put(28, &self.access_count.to_le_bytes());
        put(32, &self.access_offset.to_le_bytes());
        put(access, &self.receiver.to_le_bytes());
        put(access + 2, &[self.permissions, self.receiver_flags]);
        put(access + 4, &self.composite_offset.to_le_bytes());
        let pages = || self.ranges.iter().map(|range| range.1);
        let total = self
            .total
            .unwrap_or_else(|| pages().fold(0, u32::wrapping_add));
        let count = self.count.unwrap_or(self.ranges.len() as u32);
        put(composite, &total.to_le_bytes());
        put(composite + 4, &count.to_le_bytes());
        for (index, (address, pages)) in self.ranges.iter().enumerate() {
            let at = composite + 16 + 16 * index;
            put(at, &address.to_le_bytes());
            put(at + 8, &pages.to_le_bytes());
        }
        bytes
    }

    /// Returns a correct descriptor of version 1.0: another header, and the access descriptor at 32.
    pub fn bytes_1_0(&self) -> Vec<u8> {
        let newer = self.clone().with_short_access().bytes();
        let mut bytes = vec![0; 32];
        bytes[..2].copy_from_slice(&newer[..2]);
        bytes[2] = newer[2];
        bytes[4..24].copy_from_slice(&newer[4..24]);
        bytes[28..32].copy_from_slice(&newer[28..32]);
        bytes.extend_from_slice(&newer[HEADER as usize..]);
        let composite = 32 + ACCESS_1_1;
        bytes[36..40].copy_from_slice(&composite.to_le_bytes());
        bytes
    }
}
