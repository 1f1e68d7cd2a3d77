// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The RAM of one VM: where it lies, and which of its pages the secure world may be using.
//!
//! RAM has no holes for the guest; physically it lies in a few chunks. A VM gets them when it starts and gives them back when it has ended. In between they
//! never change, so that a look-up takes no lock. Only the counters change. Each page has one: it
//! counts the page's pins, or says that the page is withdrawn. The counters are atomic, so several
//! vCPUs pin at the same time without a lock.

use alloc::boxed::Box;
use alloc::vec::Vec;

use mediator::PinError;
use mediator::addr::{Ipa, PAGE_SIZE, Pa};

use super::frames::{Chunks, MAX_CHUNKS};
use crate::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use postern_base::range::{IpaRange, PaRange};
use postern_boot_tree::BLOCK_SIZE;
use postern_guest_tree::layout;
// The chunks need no ordering between pCPUs: see `GuestMemory::assign`.
use core::sync::atomic::AtomicU64;

/// The counter's value for a page that has been withdrawn from the VM.
const WITHDRAWN: u16 = u16::MAX;
/// The most pins of one page at the same time.
pub const MAX_PINS: u16 = WITHDRAWN - 1;

/// The reason that a VM's RAM cannot be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// The hypervisor's heap has no room for the counters.
    #[error("out of memory for {0} pin counters")]
    OutOfMemory(usize),
    /// A chunk is empty or not in whole blocks of 2 MiB, which is the caller's error.
    #[error("not a range of 2 MiB blocks: {0}")]
    BadChunk(PaRange),
    /// The RAM is larger than the counters cover.
    #[error("more RAM than the virtual machine was made for: {0} bytes")]
    TooMuch(u64),
    /// The VM has RAM already.
    #[error("the virtual machine has its RAM already")]
    Assigned,
}

/// The reason that no page of a range was withdrawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WithdrawError {
    /// The range is not in whole pages, or not all of it is RAM that the VM has.
    #[error("not the virtual machine's own pages: {} bytes at {}", .0.bytes, .0.start)]
    NotOwnMemory(IpaRange),
    /// The secure world may be using this page.
    #[error("page in use by the secure world: {0}")]
    Pinned(Ipa),
}

/// The RAM of one VM.
#[derive(Debug)]
pub struct GuestMemory {
    start: Ipa,
    /// The only RAM that the VM can have, if it sees it at its physical addresses.
    direct: Option<PaRange>,
    chunks: [Chunk; MAX_CHUNKS],
    bytes: AtomicU64,
    pages: Box<[AtomicU16]>,
    pinned: AtomicUsize,
    pinned_max: AtomicUsize,
    withdrawn: AtomicUsize,
    /// Changes whenever a look-up may have another result than before.
    version: AtomicU64,
}

/// A physically contiguous piece of RAM.
#[derive(Debug)]
struct Chunk {
    /// The chunk's offset from the start of RAM, in bytes.
    offset: AtomicU64,
    /// The chunk's physical address.
    start: AtomicU64,
    /// The chunk's size in bytes; zero for an unused entry.
    bytes: AtomicU64,
}

impl Chunk {
    const fn none() -> Self {
        Self {
            offset: AtomicU64::new(0),
            start: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    #[inline]
    fn offset(&self) -> u64 {
        self.offset.load(Ordering::Relaxed)
    }

    #[inline]
    fn start(&self) -> Pa {
        Pa::new(self.start.load(Ordering::Relaxed))
    }

    #[inline]
    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn set(&self, offset: u64, start: Pa, bytes: u64) {
        self.offset.store(offset, Ordering::Relaxed);
        self.start.store(start.get(), Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }
}

impl GuestMemory {
    /// Returns a VM's memory without RAM, with counters for `bytes` bytes. The guest sees the RAM from `start` on, a
    /// multiple of the block size.
    ///
    /// # Errors
    /// [`MemoryError::OutOfMemory`].
    pub fn for_bytes(start: Ipa, bytes: u64) -> Result<Self, MemoryError> {
        let count = usize::try_from(bytes / PAGE_SIZE).unwrap_or(usize::MAX);
        let mut pages = Vec::new();
        pages
            .try_reserve_exact(count)
            .map_err(|_| MemoryError::OutOfMemory(count))?;
        pages.resize_with(count, AtomicU16::default);
        Ok(Self {
            start,
            direct: None,
            chunks: [const { Chunk::none() }; MAX_CHUNKS],
            bytes: AtomicU64::new(0),
            pages: pages.into_boxed_slice(),
            pinned: AtomicUsize::new(0),
            pinned_max: AtomicUsize::new(0),
            withdrawn: AtomicUsize::new(0),
            version: AtomicU64::new(0),
        })
    }

    /// Returns the memory, without RAM, of a VM that sees `range` at its physical addresses and never has other RAM.
    ///
    /// # Errors
    /// [`MemoryError::OutOfMemory`].
    pub fn direct(range: PaRange) -> Result<Self, MemoryError> {
        Ok(Self {
            direct: Some(range),
            ..Self::for_bytes(Ipa::new(range.start().get()), range.bytes())?
        })
    }

    /// Returns the RAM that the VM has in every life, if it sees it at its physical addresses.
    pub const fn direct_range(&self) -> Option<PaRange> {
        self.direct
    }

    /// Returns a VM's memory with RAM that consists of these chunks, in this order, from [`layout::RAM`] on.
    ///
    /// # Errors
    /// See [`MemoryError`].
    pub fn new(chunks: &Chunks) -> Result<Self, MemoryError> {
        let memory = Self::for_bytes(layout::RAM, chunks.iter().map(|chunk| chunk.bytes()).sum())?;
        memory.assign(chunks)?;
        Ok(memory)
    }

    /// Gives these chunks, in this order, to a VM that has no RAM.
    ///
    /// Must be called before any of the VM's vCPUs is started. Starting one takes a lock that
    /// orders this call before everything that the vCPU does.
    ///
    /// # Errors
    /// See [`MemoryError`]; nothing has changed then.
    pub fn assign(&self, chunks: &Chunks) -> Result<(), MemoryError> {
        if self.bytes() != 0 {
            return Err(MemoryError::Assigned);
        }
        let mut total: u64 = 0;
        for &at in chunks {
            if at.is_empty() || at.aligned_inward(BLOCK_SIZE) != at {
                return Err(MemoryError::BadChunk(at));
            }
            total = total
                .checked_add(at.bytes())
                .ok_or(MemoryError::BadChunk(at))?;
        }
        if total > self.most_bytes() {
            return Err(MemoryError::TooMuch(total));
        }
        let mut offset = 0;
        for (chunk, at) in self.chunks.iter().zip(chunks) {
            chunk.set(offset, at.start(), at.bytes());
            offset += at.bytes();
        }
        self.bytes.store(total, Ordering::Release);
        self.change();
        Ok(())
    }

    /// Takes the RAM away from a VM that has ended, and returns its chunks. Returns `None`, and
    /// takes nothing, where the secure world may still be using some of it, or where some of it is
    /// withdrawn and therefore not cleared.
    ///
    /// Must be called when none of the VM's vCPUs runs any more, and all of its RAM was cleared and
    /// [restored](GuestMemory::restore).
    pub fn release(&self) -> Option<Chunks> {
        if self.pinned_pages() != 0 || self.withdrawn.load(Ordering::Acquire) != 0 {
            return None;
        }
        self.bytes.store(0, Ordering::Release);
        self.change();
        let mut chunks = Chunks::new();
        for chunk in &self.chunks {
            if let Some(range) =
                PaRange::new(chunk.start(), chunk.bytes()).filter(|range| !range.is_empty())
            {
                // The list has room for all chunks.
                let _ = chunks.push(range);
            }
            chunk.set(0, Pa::new(0), 0);
        }
        Some(chunks)
    }

    /// Returns where the guest sees its RAM.
    pub const fn start(&self) -> Ipa {
        self.start
    }

    /// Returns the size of RAM in bytes; zero where the VM has none.
    #[inline]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// Returns the most bytes of RAM that the VM can have.
    pub fn most_bytes(&self) -> u64 {
        self.pages.len() as u64 * PAGE_SIZE
    }

    /// Returns the mappings of all RAM: the guest's ranges, ascending, and where each begins
    /// physically.
    pub fn mappings(&self) -> impl Iterator<Item = (IpaRange, Pa)> + '_ {
        let chunks = self.chunks.iter().filter(|chunk| chunk.bytes() != 0);
        chunks.map(|chunk| {
            let start = Ipa::new(self.start.get() + chunk.offset());
            let bytes = chunk.bytes();
            (IpaRange { start, bytes }, chunk.start())
        })
    }

    /// Returns a physically contiguous piece of RAM from `offset` on, of at most `most` bytes: the
    /// guest's range, and where it begins physically. `most` is a power of two. The piece ends at a
    /// multiple of `most` as the guest sees it, so that the following ones are whole. Returns
    /// `None` at the end of RAM.
    pub fn piece(&self, offset: u64, most: u64) -> Option<(IpaRange, Pa)> {
        let (pa, room) = self.locate(offset)?;
        let start = self.start.checked_add(offset)?;
        let bytes = room.min(most - (start.get() & (most - 1)));
        Some((IpaRange { start, bytes }, pa))
    }

    /// Returns where `bytes` bytes of RAM from `ipa` on lie, if all of them are the VM's and are
    /// physically contiguous. Within a block of 2 MiB they always are contiguous.
    #[inline]
    pub fn translate(&self, ipa: Ipa, bytes: u64) -> Option<Pa> {
        let offset = ipa.get().checked_sub(self.start.get())?;
        let (pa, room) = self.locate(offset)?;
        (bytes <= room && self.is_owned(offset, bytes)).then_some(pa)
    }

    /// Returns a number that changes whenever RAM is assigned, released or withdrawn.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    fn change(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    /// Returns the physically contiguous RAM around `ipa`: the guest's range, and where it begins physically. Returns
    /// `None` where `ipa` is not the VM's RAM, and while any page of the VM is withdrawn.
    ///
    /// A page of it may be withdrawn from then on. It stays the VM's until the VM has ended, so that an access to it
    /// does no harm to others.
    pub fn around(&self, ipa: Ipa) -> Option<(IpaRange, Pa)> {
        let offset = ipa.get().checked_sub(self.start.get())?;
        if self.withdrawn.load(Ordering::Acquire) != 0 {
            return None;
        }
        let mut mappings = self.mappings();
        mappings.find(|(range, _)| {
            let within = ipa.get().checked_sub(range.start.get());
            offset < self.bytes() && within.is_some_and(|within| within < range.bytes)
        })
    }

    /// Returns the physical pieces of a guest's range, in order, for a copy from or to it. Returns
    /// `None` where any of it is not the VM's RAM.
    pub fn runs(&self, range: IpaRange) -> Option<Runs<'_>> {
        let offset = range.start.get().checked_sub(self.start.get())?;
        let end = offset.checked_add(range.bytes)?;
        (end <= self.bytes() && self.is_owned(offset, range.bytes)).then_some(Runs {
            memory: self,
            offset,
            end,
        })
    }

    /// Pins the page at `page`, a multiple of the page size, and returns its physical address. The
    /// page cannot be withdrawn until each pin has had its [`GuestMemory::unpin`].
    ///
    /// # Errors
    /// [`PinError::NotOwnMemory`], also for an address inside a page, and
    /// [`PinError::TooManyPins`] at [`MAX_PINS`].
    #[inline]
    pub fn pin(&self, page: Ipa) -> Result<Pa, PinError> {
        let none = PinError::NotOwnMemory(page);
        let (offset, counter) = self.page(page).ok_or(none)?;
        let (pa, _) = self.locate(offset).ok_or(none)?;
        let more = |pins: u16| (pins < MAX_PINS).then(|| pins + 1);
        match counter.fetch_update(Ordering::AcqRel, Ordering::Acquire, more) {
            Ok(0) => {
                let now = self.pinned.fetch_add(1, Ordering::Relaxed) + 1;
                if now > self.pinned_max.load(Ordering::Relaxed) {
                    self.pinned_max.fetch_max(now, Ordering::Relaxed);
                }
            }
            Ok(_) => {}
            Err(WITHDRAWN) => return Err(none),
            Err(_) => return Err(PinError::TooManyPins(page)),
        }
        Ok(pa)
    }

    /// Takes back one [`GuestMemory::pin`].
    ///
    /// # Panics
    /// When the page is not pinned: the caller has lost count, and a page that is still in use
    /// might be taken for free.
    #[inline]
    pub fn unpin(&self, page: Ipa) {
        let less = |pins: u16| {
            // Rejects both zero and `WITHDRAWN`, which is the largest number.
            let fewer = pins.wrapping_sub(1);
            (fewer < MAX_PINS).then_some(fewer)
        };
        let before = self.page(page).and_then(|(_, counter)| {
            counter
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, less)
                .ok()
        });
        match before {
            Some(1) => _ = self.pinned.fetch_sub(1, Ordering::Relaxed),
            Some(_) => {}
            None => panic!("unpinned a page that is not pinned: {page}"),
        }
    }

    /// Returns whether the page that holds `ipa` is pinned.
    pub fn is_pinned(&self, ipa: Ipa) -> bool {
        self.page(ipa.page())
            .is_some_and(|(_, counter)| !matches!(counter.load(Ordering::Acquire), 0 | WITHDRAWN))
    }

    /// Returns the number of pinned pages, each counted once.
    pub fn pinned_pages(&self) -> usize {
        self.pinned.load(Ordering::Relaxed)
    }

    /// Returns the most pages that were pinned at the same time.
    pub fn pinned_pages_max(&self) -> usize {
        self.pinned_max.load(Ordering::Relaxed)
    }

    /// Withdraws whole pages from the VM: they can be neither translated nor pinned until they are
    /// restored. A page is withdrawn before it is unmapped. A pinned page is not withdrawn.
    ///
    /// The memory stays the VM's until its end, so that a copy in progress on another pCPU does no
    /// harm.
    ///
    /// # Errors
    /// See [`WithdrawError`].
    pub fn withdraw(&self, range: IpaRange) -> Result<(), WithdrawError> {
        let pages = self
            .pages(range)
            .ok_or(WithdrawError::NotOwnMemory(range))?;
        for (index, page) in pages.iter().enumerate() {
            let taken = page.compare_exchange(0, WITHDRAWN, Ordering::AcqRel, Ordering::Acquire);
            let Err(found) = taken else {
                self.withdrawn.fetch_add(1, Ordering::AcqRel);
                self.change();
                continue;
            };
            self.put_back(&pages[..index]);
            let ipa = Ipa::new(range.start.get() + index as u64 * PAGE_SIZE);
            return Err(match found {
                WITHDRAWN => WithdrawError::NotOwnMemory(range),
                _ => WithdrawError::Pinned(ipa),
            });
        }
        Ok(())
    }

    /// Restores the withdrawn pages of a range; its other pages stay as they are. Does nothing
    /// where the range is not RAM of the VM in whole pages.
    pub fn restore(&self, range: IpaRange) {
        self.put_back(self.pages(range).unwrap_or_default());
    }

    fn put_back(&self, pages: &[AtomicU16]) {
        for page in pages {
            if page
                .compare_exchange(WITHDRAWN, 0, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
            {
                self.withdrawn.fetch_sub(1, Ordering::AcqRel);
            }
        }
    }

    /// Returns the physical address of the byte at `offset`, and the number of bytes from there to
    /// the end of its chunk.
    // The first chunk, which is all RAM of most VMs, is looked at where the caller is, and the others elsewhere.
    #[inline(always)]
    fn locate(&self, offset: u64) -> Option<(Pa, u64)> {
        let [first, ..] = &self.chunks;
        let bytes = first.bytes();
        if offset >= bytes {
            return self.locate_in_others(offset);
        }
        // A chunk does not wrap.
        let at = first.start().get().wrapping_add(offset);
        Some((Pa::new(at), bytes - offset))
    }

    #[inline(never)]
    fn locate_in_others(&self, offset: u64) -> Option<(Pa, u64)> {
        self.chunks.iter().find_map(|chunk| {
            let within = offset.checked_sub(chunk.offset())?;
            let room = chunk.bytes().checked_sub(within).filter(|room| *room > 0)?;
            Some((Pa::new(chunk.start().get() + within), room))
        })
    }

    /// Returns whether none of `bytes` bytes of RAM from `offset` on has been withdrawn.
    #[inline]
    fn is_owned(&self, offset: u64, bytes: u64) -> bool {
        self.withdrawn.load(Ordering::Acquire) == 0 || {
            let first = (offset / PAGE_SIZE) as usize;
            let behind = (offset + bytes).div_ceil(PAGE_SIZE) as usize;
            let pages = self.pages.get(first..behind);
            pages.is_some_and(|p| p.iter().all(|p| p.load(Ordering::Acquire) != WITHDRAWN))
        }
    }

    /// Returns the offset and the counter of the page that begins at `page`.
    #[inline]
    fn page(&self, page: Ipa) -> Option<(u64, &AtomicU16)> {
        let offset = page.get().checked_sub(self.start.get())?;
        let counter = self.pages.get(usize::try_from(offset / PAGE_SIZE).ok()?)?;
        page.is_page_aligned().then_some((offset, counter))
    }

    /// Returns the counters of a range of whole pages.
    fn pages(&self, range: IpaRange) -> Option<&[AtomicU16]> {
        let offset = range.start.get().checked_sub(self.start.get())?;
        let end = offset.checked_add(range.bytes)?;
        let whole = offset.is_multiple_of(PAGE_SIZE) && end.is_multiple_of(PAGE_SIZE);
        if !whole || end > self.bytes() {
            return None;
        }
        self.pages
            .get((offset / PAGE_SIZE) as usize..(end / PAGE_SIZE) as usize)
    }
}

/// The physical pieces of a range of RAM: the address and size of each. There are at most
/// [`MAX_CHUNKS`].
#[derive(Clone, Debug)]
pub struct Runs<'m> {
    memory: &'m GuestMemory,
    offset: u64,
    end: u64,
}

impl Iterator for Runs<'_> {
    type Item = (Pa, u64);

    fn next(&mut self) -> Option<(Pa, u64)> {
        let left = self.end.checked_sub(self.offset).filter(|left| *left > 0)?;
        let (pa, room) = self.memory.locate(self.offset)?;
        let bytes = room.min(left);
        self.offset += bytes;
        Some((pa, bytes))
    }
}

#[cfg(all(test, loom))]
mod models;
#[cfg(test)]
mod tests;
