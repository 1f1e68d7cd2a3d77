// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An identity map: EL2's own stage 1, which has the format of a stage 2 except for the attributes.
//!
//! It is built before it is used, and never changed. So there is no break-before-make, and an error leaves a map of no use.

use super::descriptor::{LAST_LEVEL, entry_bytes};
use super::{ENTRIES, TablePages};
use mediator::addr::{PAGE_SIZE, Pa};

/// The level at which a walk starts: one table, for addresses of 39 bits.
const ROOT_LEVEL: u32 = 1;
/// One past the highest address, in bytes.
pub const ADDRESS_LIMIT: u64 = 1 << 39;

/// A valid entry.
const VALID: u64 = 1 << 0;
/// A valid entry above the last level is a table, not a block; one at the last level is a page.
const TABLE_OR_PAGE: u64 = 1 << 1;
/// The bits of an entry that are an address.
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

/// Why a range is not mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// No memory is left for a table.
    #[error("out of memory for EL2's own tables")]
    OutOfTables,
    /// The range exceeds [`ADDRESS_LIMIT`].
    #[error("a range up to {0}, and EL2 maps 512 GiB")]
    TooHigh(Pa),
}

/// A map of addresses to themselves. Its tables are never freed.
#[derive(Debug)]
pub struct IdentityMap {
    root: Pa,
}

impl IdentityMap {
    /// Returns a map of nothing.
    ///
    /// # Errors
    /// [`IdentityError::OutOfTables`].
    pub fn new(tables: &mut impl TablePages) -> Result<Self, IdentityError> {
        let root = tables.allocate(1).ok_or(IdentityError::OutOfTables)?;
        Ok(Self { root })
    }

    /// Returns the root's address, for TTBR0_EL2.
    pub const fn root(&self) -> Pa {
        self.root
    }

    /// Maps all pages with an address from `start` up to `end`, whatever they were mapped with before. `attributes` are
    /// the bits of an entry except for its address and its type; without bit 0 the range is not mapped.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn map(
        &mut self,
        tables: &mut impl TablePages,
        start: Pa,
        end: Pa,
        attributes: u64,
    ) -> Result<(), IdentityError> {
        if end.get() > ADDRESS_LIMIT {
            return Err(IdentityError::TooHigh(end));
        }
        let first = start.get() & !(PAGE_SIZE - 1);
        let behind = end.get().next_multiple_of(PAGE_SIZE);
        fill(tables, self.root, ROOT_LEVEL, (first, behind), attributes)
    }
}

/// Returns the entry that maps an address to itself.
const fn leaf(level: u32, address: u64, attributes: u64) -> u64 {
    if attributes & VALID == 0 {
        return 0;
    }
    let kind = if level == LAST_LEVEL {
        TABLE_OR_PAGE
    } else {
        0
    };
    address | attributes | kind
}

/// Writes the entries of a table for a range, of which some is in the table. The recursion ends at the last level.
fn fill<T: TablePages>(
    tables: &mut T,
    table: Pa,
    level: u32,
    (start, end): (u64, u64),
    attributes: u64,
) -> Result<(), IdentityError> {
    let bytes = entry_bytes(level);
    let mut at = start;
    while at < end {
        let (first, index) = (at & !(bytes - 1), (at / bytes) as usize % ENTRIES);
        let next = first + bytes;
        if at == first && next <= end {
            tables.write(table, index, leaf(level, at, attributes));
        } else {
            let below = table_below(tables, table, level, (index, first))?;
            fill(tables, below, level + 1, (at, next.min(end)), attributes)?;
        }
        at = next;
    }
    Ok(())
}

/// Returns the table that an entry leads to. If there is none, makes one that maps what the entry has mapped.
fn table_below<T: TablePages>(
    tables: &mut T,
    table: Pa,
    level: u32,
    (index, first): (usize, u64),
) -> Result<Pa, IdentityError> {
    let entry = tables.read(table, index);
    if entry & (VALID | TABLE_OR_PAGE) == VALID | TABLE_OR_PAGE {
        return Ok(Pa::new(entry & ADDRESS));
    }
    let below = tables.allocate(1).ok_or(IdentityError::OutOfTables)?;
    for part in 0..ENTRIES {
        let address = first + part as u64 * entry_bytes(level + 1);
        tables.write(below, part, leaf(level + 1, address, entry & !ADDRESS));
    }
    tables.write(table, index, below.get() | VALID | TABLE_OR_PAGE);
    Ok(below)
}
