// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Stage 2: which physical memory a guest's addresses lead to.
//!
//! Tables in the VMSAv8-64 format (Arm ARM D8.2, D8.3) with the 4 KiB granule, for a 40-bit IPA
//! space: the walk starts at level 1, in two tables that lie one behind the other. Blocks of
//! 1 GiB and 2 MiB are used wherever addresses allow, and split when a part of one changes.
//!
//! Nothing here touches memory or a TLB itself: [`TablePages`] and [`Tlb`] do, which the
//! hypervisor implements on the machine and the tests as a model. Changes to live tables follow
//! break-before-make (Arm ARM D8.16.1): a valid entry becomes invalid, the TLB forgets it, and only
//! then comes the new entry. A vCPU that runs meanwhile may so take a fault on memory that is
//! there all the time; whoever handles it translates again and lets the guest try once more.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod descriptor;

#[cfg(test)]
mod tests;

use core::ops::ControlFlow;

use mediator::addr::{Ipa, PAGE_SIZE, Pa};

pub use self::descriptor::{Attributes, MemoryType};
use self::descriptor::{Entry, LAST_LEVEL, ROOT_LEVEL, entry_bytes, entry_index};
use postern_base::range::IpaRange;

/// Bits of a guest's physical addresses.
pub const IPA_BITS: u32 = 40;
/// `VTCR_EL2.T0SZ` for [`IPA_BITS`].
pub const T0SZ: u64 = 64 - IPA_BITS as u64;
/// Tables in the root, one behind the other.
pub const ROOT_PAGES: usize = 2;
/// Bits of the physical addresses that an entry can hold.
const PA_BITS: u32 = 48;
const ENTRIES: usize = 512;

/// Memory for tables.
///
/// The hardware walks the tables while they are written, so `read` and `write` must be single
/// 64-bit accesses.
pub trait TablePages {
    /// `pages` pages one behind the other, 1 or [`ROOT_PAGES`], aligned to their whole size and
    /// filled with zeroes; `None` where there are none left.
    fn allocate(&mut self, pages: usize) -> Option<Pa>;

    /// Takes back what `allocate(pages)` gave.
    fn free(&mut self, table: Pa, pages: usize);

    /// The entry at `index` (below 512, in a root below 1024) of the table at `table`.
    fn read(&self, table: Pa, index: usize) -> u64;

    /// Sets that entry.
    fn write(&mut self, table: Pa, index: usize, entry: u64);
}

/// What makes table changes known to the hardware, for the VM whose tables they are and on all
/// pCPUs.
pub trait Tlb {
    /// Makes all writes to tables before it visible to table walks after it (DSB ISHST).
    fn publish(&mut self);

    /// Forgets every translation of the page or block that holds `ipa`, with the table entries on
    /// the way to it, for stage 2 alone and combined with stage 1. Ordered behind all writes
    /// before it, and complete on return (DSB ISHST, TLBI IPAS2E1IS, DSB ISH, TLBI VMALLE1IS, DSB
    /// ISH).
    fn invalidate_ipa(&mut self, ipa: Ipa);

    /// Forgets everything of this VM; ordered and complete in the same way (TLBI VMALLS12E1IS).
    fn invalidate_all(&mut self);
}

/// Why tables were not changed or an address not translated. Except for [`OutOfTables`], whoever
/// called is at fault, and no guest can bring it about.
///
/// [`OutOfTables`]: Stage2Error::OutOfTables
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stage2Error {
    /// No memory for a table; what was mapped before is mapped as before.
    #[error("out of memory for stage-2 tables")]
    OutOfTables,
    /// The range is empty, not in whole pages or reaches beyond [`IPA_BITS`] bits.
    #[error("not a range of guest pages: {} bytes at {}", .0.bytes, .0.start)]
    BadRange(IpaRange),
    /// The physical range is not in whole pages or reaches beyond 48 bits.
    #[error("not a range of physical pages: {0}")]
    BadTarget(Pa),
    /// Something is mapped there; nothing was changed.
    #[error("already mapped: {0}")]
    AlreadyMapped(Ipa),
    /// Nothing is mapped there; nothing was changed.
    #[error("not mapped: {0}")]
    NotMapped(Ipa),
}

/// The stage-2 tables of one VM. They are memory of a [`TablePages`], always the same one, to
/// which [`Stage2::retire`] gives them back.
#[derive(Debug)]
#[must_use]
pub struct Stage2 {
    root: Pa,
}

impl Stage2 {
    /// Tables that map nothing.
    ///
    /// # Errors
    /// [`Stage2Error::OutOfTables`].
    pub fn new<H: TablePages + Tlb>(host: &mut H) -> Result<Self, Stage2Error> {
        let root = host.allocate(ROOT_PAGES).ok_or(Stage2Error::OutOfTables)?;
        host.publish();
        Ok(Self { root })
    }

    /// The root's address, for `VTTBR_EL2.BADDR`.
    pub const fn root(&self) -> Pa {
        self.root
    }

    /// Maps the guest's range `at`, of which nothing is mapped yet, to as many bytes from `to` on.
    ///
    /// # Errors
    /// [`Stage2Error`], all but `NotMapped`; nothing is changed then.
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
            // All of the range was free, so what is there now was put there just now.
            self.clear(host, range);
        }
        host.publish();
        result
    }

    /// Unmaps what is mapped in a guest's range. Of a range with holes the rest is unmapped.
    ///
    /// # Errors
    /// `BadRange`, and `OutOfTables` where a block would have to be split; nothing is changed
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

    /// Changes how a guest may use a range, all of which is mapped, and not where it leads.
    ///
    /// # Errors
    /// `BadRange`, `NotMapped`, and `OutOfTables` where a block would have to be split; nothing
    /// is changed then.
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

    /// Where a guest's address leads, and what it may do there.
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

    /// Maps nothing any more. No vCPU of the VM may run. The tables are to be given back.
    pub fn retire<H: TablePages + Tlb>(self, host: &mut H) -> Retired {
        host.invalidate_all();
        Retired {
            root: self.root,
            next: (0, 0),
        }
    }

    /// Whether the whole range is mapped (`mapped`) or free (not `mapped`); where not, otherwise.
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

    /// Unmaps a range at whose ends no block is cut.
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

    /// Sees to it that no block lies across `address`.
    fn split_at<H: TablePages + Tlb>(&self, host: &mut H, address: u64) -> Result<(), Stage2Error> {
        let mut table = self.root;
        for level in ROOT_LEVEL..=LAST_LEVEL {
            if address.is_multiple_of(entry_bytes(level)) {
                // Also the end of the address space, which no table has an entry for.
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

/// What a look at all entries of a table costs, in tables that are given back without one.
const LOOK: usize = 8;

/// Tables that no walk reaches any more, on their way back to their [`TablePages`].
#[derive(Debug)]
#[must_use]
pub struct Retired {
    root: Pa,
    /// Where in the root, and where in the table that is there, it goes on.
    next: (usize, usize),
}

impl Retired {
    /// Gives some tables back, about `most`, or fewer where many have to be looked through. What is left; `None` when
    /// nothing is.
    pub fn free_some<H: TablePages>(mut self, host: &mut H, most: usize) -> Option<Self> {
        let mut done = 0;
        while self.next.0 < ROOT_PAGES * ENTRIES {
            let (at, part) = &mut self.next;
            if let Entry::Table(table) = Entry::decode(host.read(self.root, *at), ROOT_LEVEL) {
                while *part < ENTRIES {
                    if done >= most {
                        return Some(self);
                    }
                    // A table of the last level leads to no other, so nobody looks into it.
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

/// A checked range of addresses: whole pages, not empty, in the IPA space.
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

/// An entry's place, and the part of a range that it stands for.
struct Piece {
    index: usize,
    span: Span,
    /// Whether the part is all that the entry stands for.
    whole: bool,
}

/// Cuts a range into the parts that the entries of one table stand for.
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

/// An entry that is no table.
struct Slot {
    table: Pa,
    index: usize,
    level: u32,
    /// The first address of the range in what the entry stands for.
    start: u64,
    entry: Entry,
}

/// Shows `act` every entry of the range that is no table, in ascending order. `act` may change
/// the entry that it sees.
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

/// Maps a free range, `offset` bytes (modulo 2^64) further on.
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

/// Gives back the tables of a range that have become empty.
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
