// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The stage-2 translation tables of a VM, which map guest physical addresses to memory.
//!
//! The tables have the VMSAv8-64 format (Arm ARM DDI 0487 D8.2, D8.3) with the 4 KiB granule, for a
//! 40-bit IPA space. The walk starts at level 1, in two concatenated tables. Blocks of 1 GiB and
//! 2 MiB are used wherever the addresses allow, and split when a part of one changes.
//!
//! This crate does not access memory or a TLB itself. [`TablePages`] and [`Tlb`] do: the hypervisor
//! implements them on the machine, and the tests implement them as a model. Changes to live tables
//! follow break-before-make (DDI 0487 D8.16.1): a valid entry becomes invalid, the TLB entry is
//! invalidated, and then the new entry is written. A vCPU that runs meanwhile may therefore take a
//! fault on memory that stays mapped. The fault handler translates the address again and makes the
//! guest repeat the access.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod descriptor;
pub mod identity;

#[cfg(test)]
mod tests;

use core::ops::ControlFlow;

use mediator::addr::{Ipa, PAGE_SIZE, Pa};

pub use self::descriptor::{Attributes, MemoryType};
use self::descriptor::{Entry, LAST_LEVEL, ROOT_LEVEL, entry_bytes, entry_index};
use postern_base::range::IpaRange;

/// The size of a guest's physical addresses in bits.
pub const IPA_BITS: u32 = 40;
/// The value of `VTCR_EL2.T0SZ` for [`IPA_BITS`].
pub const T0SZ: u64 = 64 - IPA_BITS as u64;
/// The number of concatenated tables in the root.
pub const ROOT_PAGES: usize = 2;
/// The size in bits of the physical addresses that an entry can hold.
const PA_BITS: u32 = 48;
const ENTRIES: usize = 512;

/// Memory for tables.
///
/// The hardware walks the tables while they are written, so `read` and `write` must be single
/// 64-bit accesses.
pub trait TablePages {
    /// Returns `pages` contiguous pages, 1 or [`ROOT_PAGES`], aligned to their total size and
    /// filled with zeroes, or `None` if none are left.
    fn allocate(&mut self, pages: usize) -> Option<Pa>;

    /// Frees pages that `allocate(pages)` returned.
    fn free(&mut self, table: Pa, pages: usize);

    /// Reads the entry at `index` (below 512, in a root below 1024) of the table at `table`.
    fn read(&self, table: Pa, index: usize) -> u64;

    /// Writes that entry.
    fn write(&mut self, table: Pa, index: usize, entry: u64);
}

/// The barriers and TLB maintenance for the tables of one VM, on all pCPUs.
pub trait Tlb {
    /// Makes all earlier writes to tables visible to later table walks (DSB ISHST).
    fn publish(&mut self);

    /// Invalidates every translation of the page or block that holds `ipa`, and the table entries
    /// that lead to it, for stage 2 alone and combined with stage 1. The invalidation is ordered
    /// after all earlier writes, and complete on return (DSB ISHST, TLBI IPAS2E1IS, DSB ISH, TLBI
    /// VMALLE1IS, DSB ISH).
    fn invalidate_ipa(&mut self, ipa: Ipa);

    /// Invalidates all translations of this VM, ordered and complete in the same way (TLBI
    /// VMALLS12E1IS).
    fn invalidate_all(&mut self);
}

/// An error of a change to tables or of a translation. Except for [`OutOfTables`], it is an error
/// of the caller, which no guest can cause.
///
/// [`OutOfTables`]: Stage2Error::OutOfTables
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stage2Error {
    /// No memory is left for a table. Existing mappings did not change.
    #[error("out of memory for stage-2 tables")]
    OutOfTables,
    /// The range is empty, does not consist of whole pages, or exceeds [`IPA_BITS`] bits.
    #[error("not a range of guest pages: {} bytes at {}", .0.bytes, .0.start)]
    BadRange(IpaRange),
    /// The physical range does not consist of whole pages, or exceeds 48 bits.
    #[error("not a range of physical pages: {0}")]
    BadTarget(Pa),
    /// The address is mapped already; nothing was changed.
    #[error("already mapped: {0}")]
    AlreadyMapped(Ipa),
    /// The address is not mapped; nothing was changed.
    #[error("not mapped: {0}")]
    NotMapped(Ipa),
}

/// The stage-2 tables of one VM. Their memory comes from one [`TablePages`]. [`Stage2::retire`]
/// begins to return it there.
#[derive(Debug)]
#[must_use]
pub struct Stage2 {
    root: Pa,
}

impl Stage2 {
    /// Returns tables that map nothing.
    ///
    /// # Errors
    /// [`Stage2Error::OutOfTables`].
    pub fn new<H: TablePages + Tlb>(host: &mut H) -> Result<Self, Stage2Error> {
        let root = host.allocate(ROOT_PAGES).ok_or(Stage2Error::OutOfTables)?;
        host.publish();
        Ok(Self { root })
    }

    /// Returns the root's address, for `VTTBR_EL2.BADDR`.
    pub const fn root(&self) -> Pa {
        self.root
    }

    /// Maps the guest's range `at`, of which nothing is mapped yet, to the same number of bytes
    /// from `to` on.
    ///
    /// # Errors
    /// Any [`Stage2Error`] except `NotMapped`; the mappings do not change then.
    pub fn map<H: TablePages + Tlb>(
        &mut self,
        host: &mut H,
        at: IpaRange,
        to: Pa,
        attributes: Attributes,
    ) -> Result<(), Stage2Error> {
        let range = checked(at)?;
        let end = to.checked_add(at.bytes);
        if !to.is_page_aligned() || end.is_none_or(|end| end.get() > 1 << PA_BITS) {
            return Err(Stage2Error::BadTarget(to));
        }
        self.require(host, range, false)
            .map_err(Stage2Error::AlreadyMapped)?;
        let offset = to.get().wrapping_sub(range.start);
        let result = fill(host, self.root, ROOT_LEVEL, range, offset, attributes);
        if result.is_err() {
            // The whole range was free, so all its mappings are from this call.
            self.clear(host, range);
        }
        host.publish();
        result
    }

    /// Unmaps all pages that are mapped in a guest's range, which may have holes.
    ///
    /// # Errors
    /// `BadRange`, and `OutOfTables` if a block would have to be split; the mappings do not change
    /// then.
    pub fn unmap<H: TablePages + Tlb>(
        &mut self,
        host: &mut H,
        at: IpaRange,
    ) -> Result<(), Stage2Error> {
        let range = checked(at)?;
        self.split_at(host, range.start)?;
        self.split_at(host, range.end)?;
        self.clear(host, range);
        Ok(())
    }

    /// Sets the attributes of a range, all of which is mapped. Its physical addresses do not
    /// change.
    ///
    /// # Errors
    /// `BadRange`, `NotMapped`, and `OutOfTables` if a block would have to be split; the mappings
    /// do not change then.
    pub fn protect<H: TablePages + Tlb>(
        &mut self,
        host: &mut H,
        at: IpaRange,
        attributes: Attributes,
    ) -> Result<(), Stage2Error> {
        let range = checked(at)?;
        self.require(host, range, true)
            .map_err(Stage2Error::NotMapped)?;
        self.split_at(host, range.start)?;
        self.split_at(host, range.end)?;
        let _ = visit(
            host,
            self.root,
            ROOT_LEVEL,
            range,
            &mut |host: &mut H, slot| {
                if let Entry::Leaf(pa, old) = slot.entry
                    && old != attributes
                {
                    host.write(slot.table, slot.index, 0);
                    host.invalidate_ipa(Ipa::new(slot.start));
                    host.write(
                        slot.table,
                        slot.index,
                        Entry::leaf(slot.level, pa, attributes),
                    );
                }
                ControlFlow::<()>::Continue(())
            },
        );
        host.publish();
        Ok(())
    }

    /// Returns the physical address and the attributes of a guest's address.
    ///
    /// # Errors
    /// [`Stage2Error::NotMapped`].
    pub fn translate(
        &self,
        host: &impl TablePages,
        ipa: Ipa,
    ) -> Result<(Pa, Attributes), Stage2Error> {
        let address = ipa.get();
        let mut table = self.root;
        if address >> IPA_BITS == 0 {
            for level in ROOT_LEVEL..=LAST_LEVEL {
                match Entry::decode(host.read(table, entry_index(level, address)), level) {
                    Entry::Invalid => break,
                    Entry::Table(next) => table = next,
                    Entry::Leaf(pa, attributes) => {
                        let offset = address & (entry_bytes(level) - 1);
                        return Ok((Pa::new(pa.get() | offset), attributes));
                    }
                }
            }
        }
        Err(Stage2Error::NotMapped(ipa))
    }

    /// Invalidates all of the VM's TLB entries and returns the tables, which the caller then frees.
    /// No vCPU of the VM may run.
    pub fn retire<H: TablePages + Tlb>(self, host: &mut H) -> Retired {
        host.invalidate_all();
        Retired {
            root: self.root,
            next: (0, 0),
        }
    }

    /// Checks that the whole range is mapped (`mapped`) or free (not `mapped`).
    ///
    /// # Errors
    /// The first address for which that is not so.
    fn require<H: TablePages>(&self, host: &mut H, range: Span, mapped: bool) -> Result<(), Ipa> {
        let found = visit(
            host,
            self.root,
            ROOT_LEVEL,
            range,
            &mut |_: &mut H, slot| {
                if (slot.entry == Entry::Invalid) == mapped {
                    ControlFlow::Break(Ipa::new(slot.start))
                } else {
                    ControlFlow::Continue(())
                }
            },
        );
        found.break_value().map_or(Ok(()), Err)
    }

    /// Unmaps a range whose ends lie in no block.
    fn clear<H: TablePages + Tlb>(&self, host: &mut H, range: Span) {
        let mut gone = 0;
        let mut last = Ipa::new(range.start);
        let _ = visit(
            host,
            self.root,
            ROOT_LEVEL,
            range,
            &mut |host: &mut H, slot| {
                if let Entry::Leaf(..) = slot.entry {
                    host.write(slot.table, slot.index, 0);
                    gone += 1;
                    last = Ipa::new(slot.start);
                }
                ControlFlow::<()>::Continue(())
            },
        );
        match gone {
            0 => {}
            1 => host.invalidate_ipa(last),
            _ => host.invalidate_all(),
        }
        prune(host, self.root, ROOT_LEVEL, range);
    }

    /// Splits blocks so that no block extends across `address`.
    fn split_at<H: TablePages + Tlb>(&self, host: &mut H, address: u64) -> Result<(), Stage2Error> {
        let mut table = self.root;
        for level in ROOT_LEVEL..=LAST_LEVEL {
            if address.is_multiple_of(entry_bytes(level)) {
                // This includes the end of the address space, for which no table has an entry.
                return Ok(());
            }
            let index = entry_index(level, address);
            table = match Entry::decode(host.read(table, index), level) {
                Entry::Invalid => return Ok(()),
                Entry::Table(next) => next,
                Entry::Leaf(pa, attributes) => {
                    let next = host.allocate(1).ok_or(Stage2Error::OutOfTables)?;
                    for part in 0..ENTRIES {
                        let pa = Pa::new(pa.get() + part as u64 * entry_bytes(level + 1));
                        host.write(next, part, Entry::leaf(level + 1, pa, attributes));
                    }
                    host.publish();
                    host.write(table, index, 0);
                    host.invalidate_ipa(Ipa::new(address));
                    host.write(table, index, Entry::table(next));
                    host.publish();
                    next
                }
            };
        }
        Ok(())
    }
}

/// The cost of reading all entries of a table, in tables that are freed without being read.
const LOOK: usize = 8;

/// Tables that no walk reaches any more, while they are returned to their [`TablePages`].
#[derive(Debug)]
#[must_use]
pub struct Retired {
    root: Pa,
    /// The position at which the next call continues: an index in the root, and an index in the
    /// table to which that entry leads.
    next: (usize, usize),
}

impl Retired {
    /// Frees about `most` tables, or fewer if many of them must be read. Returns the rest, or
    /// `None` when all are freed.
    pub fn free_some<H: TablePages>(mut self, host: &mut H, most: usize) -> Option<Self> {
        let mut done = 0;
        while self.next.0 < ROOT_PAGES * ENTRIES {
            let (at, part) = &mut self.next;
            if let Entry::Table(table) = Entry::decode(host.read(self.root, *at), ROOT_LEVEL) {
                while *part < ENTRIES {
                    if done >= most {
                        return Some(self);
                    }
                    // A table of the last level leads to no other, so it is not read.
                    let entry = Entry::decode(host.read(table, *part), ROOT_LEVEL + 1);
                    if let Entry::Table(last) = entry {
                        host.free(last, 1);
                        done += 1;
                    }
                    *part += 1;
                }
                host.free(table, 1);
                done += LOOK;
            }
            self.next = (self.next.0 + 1, 0);
        }
        host.free(self.root, ROOT_PAGES);
        None
    }
}

const _: () = assert!(ROOT_LEVEL + 2 == LAST_LEVEL);

/// A checked range of addresses: not empty, in whole pages, in the IPA space.
#[derive(Clone, Copy)]
struct Span {
    start: u64,
    end: u64,
}

fn checked(at: IpaRange) -> Result<Span, Stage2Error> {
    let good = at.start.is_page_aligned() && at.bytes.is_multiple_of(PAGE_SIZE) && at.bytes != 0;
    match at.end() {
        Some(end) if good && end.get() <= 1 << IPA_BITS => Ok(Span {
            start: at.start.get(),
            end: end.get(),
        }),
        _ => Err(Stage2Error::BadRange(at)),
    }
}

/// The index of an entry, and the part of a range that it covers.
struct Piece {
    index: usize,
    span: Span,
    /// Whether the part is all that the entry covers.
    whole: bool,
}

/// Divides a range into the parts that the entries of one table cover.
fn pieces(level: u32, range: Span) -> impl Iterator<Item = Piece> {
    let bytes = entry_bytes(level);
    let mut start = range.start;
    core::iter::from_fn(move || {
        if start >= range.end {
            return None;
        }
        let end = (start | (bytes - 1)).wrapping_add(1).min(range.end);
        let span = Span { start, end };
        start = end;
        let index = entry_index(level, span.start);
        Some(Piece {
            index,
            span,
            whole: span.end - span.start == bytes,
        })
    })
}

/// An entry that does not lead to a table.
struct Slot {
    table: Pa,
    index: usize,
    level: u32,
    /// The first address of the range that the entry covers.
    start: u64,
    entry: Entry,
}

/// Calls `act` for each entry of the range that does not lead to a table, in ascending order. `act`
/// may change the entry for which it is called.
fn visit<H: TablePages, B>(
    host: &mut H,
    table: Pa,
    level: u32,
    range: Span,
    act: &mut impl FnMut(&mut H, Slot) -> ControlFlow<B>,
) -> ControlFlow<B> {
    for Piece { index, span, .. } in pieces(level, range) {
        match Entry::decode(host.read(table, index), level) {
            Entry::Table(next) => visit(host, next, level + 1, span, act)?,
            entry => act(
                host,
                Slot {
                    table,
                    index,
                    level,
                    start: span.start,
                    entry,
                },
            )?,
        }
    }
    ControlFlow::Continue(())
}

/// Maps a free range to the physical addresses at a distance of `offset` bytes (modulo 2^64).
fn fill<H: TablePages + Tlb>(
    host: &mut H,
    table: Pa,
    level: u32,
    range: Span,
    offset: u64,
    attributes: Attributes,
) -> Result<(), Stage2Error> {
    for Piece { index, span, whole } in pieces(level, range) {
        let pa = span.start.wrapping_add(offset);
        let next = match Entry::decode(host.read(table, index), level) {
            Entry::Invalid if whole && pa.is_multiple_of(entry_bytes(level)) => {
                host.write(table, index, Entry::leaf(level, Pa::new(pa), attributes));
                continue;
            }
            Entry::Invalid => {
                let next = host.allocate(1).ok_or(Stage2Error::OutOfTables)?;
                host.publish();
                host.write(table, index, Entry::table(next));
                next
            }
            Entry::Table(next) => next,
            Entry::Leaf(..) => return Err(Stage2Error::AlreadyMapped(Ipa::new(span.start))),
        };
        fill(host, next, level + 1, span, offset, attributes)?;
    }
    Ok(())
}

/// Frees the tables of a range that have become empty.
fn prune<H: TablePages + Tlb>(host: &mut H, table: Pa, level: u32, range: Span) {
    for Piece { index, span, .. } in pieces(level, range) {
        if let Entry::Table(next) = Entry::decode(host.read(table, index), level) {
            prune(host, next, level + 1, span);
            if (0..ENTRIES).all(|index| host.read(next, index) == 0) {
                host.write(table, index, 0);
                host.invalidate_ipa(Ipa::new(span.start));
                host.free(next, 1);
            }
        }
    }
}
