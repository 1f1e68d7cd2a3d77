// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The owners of physical memory: RAM for guests in blocks of 2 MiB, and single pages that the
//! hypervisor shares with the secure world.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use mediator::addr::{Ipa, PAGE_SIZE, Pa};

use postern_base::range::{PaRange, TooManyRanges};
use postern_boot_tree::BLOCK_SIZE;

/// The number of physical pieces that the RAM of one VM may consist of.
pub const MAX_CHUNKS: usize = 16;

/// The physical memory of one VM, in the order in which the guest sees it.
pub type Chunks = heapless::Vec<PaRange, MAX_CHUNKS>;

/// The reason that memory was not allocated or freed. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramesError {
    /// A size that is zero or not a multiple of a block, or guest addresses that wrap: the caller's
    /// error.
    #[error("not a number of 2 MiB blocks: {0} bytes")]
    BadSize(u64),
    /// Too little memory is free, or too little of it is where the guest may have it.
    #[error("out of guest memory: {wanted} bytes wanted, {free} free")]
    NotEnough {
        /// The bytes requested.
        wanted: u64,
        /// The bytes free.
        free: u64,
    },
    /// No free range is this large where the guest may have it.
    #[error("no {0} contiguous bytes of memory are free at the addresses that the guest can have")]
    NotContiguous(u64),
    /// The allocation would need more than [`MAX_CHUNKS`] pieces.
    #[error("guest memory is too fragmented for {0} bytes")]
    Fragmented(u64),
    /// The list of free ranges is full.
    #[error("guest memory is too fragmented: {0}")]
    Full(#[from] TooManyRanges),
    /// A range that is not allocated.
    #[error("memory that was not allocated: {0}")]
    NotAllocated(PaRange),
}

/// The machine's RAM for guests.
#[derive(Clone, Debug)]
pub struct Frames {
    all: postern_boot_tree::Memory,
    free: postern_boot_tree::Memory,
    /// Memory with any content. The rest is zero.
    dirty: postern_boot_tree::Memory,
}

impl Frames {
    /// Returns all whole blocks of a machine's free memory, all of them free and dirty.
    ///
    /// # Errors
    /// [`FramesError::Full`], which does not occur for the memory of a boot tree.
    pub fn new(memory: &postern_boot_tree::Memory) -> Result<Self, FramesError> {
        let mut all = postern_boot_tree::Memory::new();
        for range in memory.iter() {
            all.insert(range.aligned_inward(BLOCK_SIZE))?;
        }
        Ok(Self {
            free: all.clone(),
            dirty: all.clone(),
            all,
        })
    }

    /// Returns whether a range is zero: it has been cleared, and has not been used since.
    pub fn is_clear(&self, range: PaRange) -> bool {
        !self.dirty.overlaps(range)
    }

    /// Records that a range has been cleared. Where the list of dirty ranges is full, the range
    /// stays dirty.
    pub fn mark_clear(&mut self, range: PaRange) {
        let _ = self.dirty.remove(range);
    }

    /// Records that a range is about to be written to. Where the list of dirty ranges is full, all
    /// memory becomes dirty.
    pub fn mark_dirty(&mut self, range: PaRange) {
        if self.dirty.insert(range).is_err() {
            self.dirty = self.all.clone();
        }
    }

    /// Returns the number of free bytes.
    pub fn free_bytes(&self) -> u64 {
        self.free.bytes_in_units(BLOCK_SIZE)
    }

    /// Allocates `bytes` bytes for a guest, which sees them from `at` on: one piece from the lowest
    /// range with enough room, or else pieces of several ranges, lowest first.
    ///
    /// No block gets a guest address that equals its physical address, so that a forgotten
    /// translation does not go unnoticed.
    ///
    /// # Errors
    /// See [`FramesError`].
    pub fn allocate(&mut self, bytes: u64, at: Ipa) -> Result<Chunks, FramesError> {
        if bytes == 0 || !bytes.is_multiple_of(BLOCK_SIZE) || at.checked_add(bytes).is_none() {
            return Err(FramesError::BadSize(bytes));
        }
        let mut free = self.free.clone();
        let mut chunks = Chunks::new();
        if let Some(range) = self
            .free
            .iter()
            .find_map(|range| first_part(range, at, bytes))
        {
            free.remove(range)?;
            // The list was empty.
            let _ = chunks.push(range);
        } else {
            let mut have = 0;
            for range in self.free.iter() {
                let at = Ipa::new(at.get() + have);
                let usable = usable_part(range, at);
                let part = PaRange::new(usable.start(), usable.bytes().min(bytes - have));
                let Some(part) = part.filter(|part| !part.is_empty()) else {
                    continue;
                };
                free.remove(part)?;
                chunks
                    .push(part)
                    .map_err(|_| FramesError::Fragmented(bytes))?;
                have += part.bytes();
                if have == bytes {
                    break;
                }
            }
            if have < bytes {
                return Err(FramesError::NotEnough {
                    wanted: bytes,
                    free: self.free_bytes(),
                });
            }
        }
        self.free = free;
        Ok(chunks)
    }

    /// Allocates as [`Frames::allocate`] does, in one piece.
    ///
    /// # Errors
    /// See [`FramesError`].
    pub fn allocate_whole(&mut self, bytes: u64, at: Ipa) -> Result<PaRange, FramesError> {
        let before = self.free.clone();
        let chunks = self.allocate(bytes, at)?;
        let whole = chunks.iter().find(|chunk| chunk.bytes() == bytes);
        whole.copied().ok_or_else(|| {
            self.free = before;
            FramesError::NotContiguous(bytes)
        })
    }

    /// Takes `bytes` contiguous bytes for good, for a guest that sees them at their physical addresses: the lowest that
    /// are free from `from` on and below `end`.
    ///
    /// # Errors
    /// See [`FramesError`].
    pub fn take_direct(&mut self, bytes: u64, from: Pa, end: Pa) -> Result<PaRange, FramesError> {
        if bytes == 0 || !bytes.is_multiple_of(BLOCK_SIZE) {
            return Err(FramesError::BadSize(bytes));
        }
        let usable = |range: PaRange| {
            let start = range.start().max(from);
            let usable = PaRange::between(start, range.end().min(end).max(start));
            let usable = usable.aligned_inward(BLOCK_SIZE);
            PaRange::new(usable.start(), bytes).filter(|_| usable.bytes() >= bytes)
        };
        let range = self.free.iter().find_map(usable);
        let range = range.ok_or(FramesError::NotContiguous(bytes))?;
        self.free.remove(range)?;
        Ok(range)
    }

    /// Frees a range that [`Frames::allocate`] returned, or whole blocks of one.
    ///
    /// # Errors
    /// [`FramesError::NotAllocated`] and [`FramesError::Full`].
    pub fn free(&mut self, range: PaRange) -> Result<(), FramesError> {
        let whole = range.aligned_inward(BLOCK_SIZE) == range;
        if !whole || !self.all.contains(range) || self.free.overlaps(range) {
            return Err(FramesError::NotAllocated(range));
        }
        Ok(self.free.insert(range)?)
    }
}

/// Returns the part of a free range that a guest may see from `at` on: all except a first block
/// whose guest address would equal its physical address. Behind that block the two addresses always
/// differ.
fn usable_part(range: PaRange, at: Ipa) -> PaRange {
    if range.start().get() == at.get() {
        PaRange::between(Pa::new(at.get().saturating_add(BLOCK_SIZE)), range.end())
    } else {
        range
    }
}

fn first_part(range: PaRange, at: Ipa, bytes: u64) -> Option<PaRange> {
    let usable = usable_part(range, at);
    if usable.bytes() < bytes {
        None
    } else {
        PaRange::new(usable.start(), bytes)
    }
}

/// A pool of single pages that the hypervisor shares with the secure world. All pCPUs allocate and
/// free concurrently without a lock.
#[derive(Debug)]
pub struct SharedPool {
    start: Pa,
    pages: usize,
    /// One bit per page, set while the page is in use.
    used: Box<[AtomicU64]>,
    /// The index of the word at which the search begins: the last one in which a page was allocated
    /// or freed.
    hint: AtomicUsize,
}

/// The reason that a [`SharedPool`] cannot be made, or that a page cannot be freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// The range is not in whole pages, which is the caller's error.
    #[error("not a range of pages: {0}")]
    BadRange(PaRange),
    /// The hypervisor's heap has no room for the pool's bitmap.
    #[error("out of memory for the state of a page pool")]
    OutOfMemory,
    /// The address is not that of a page of the pool that is in use.
    #[error("not a shared page in use: {0}")]
    NotAllocated(Pa),
}

impl SharedPool {
    /// Creates a pool of all pages of a range that has no other owner.
    ///
    /// # Errors
    /// See [`PoolError`].
    pub fn new(range: PaRange) -> Result<Self, PoolError> {
        if range.aligned_inward(PAGE_SIZE) != range {
            return Err(PoolError::BadRange(range));
        }
        let bad = PoolError::BadRange(range);
        let pages = usize::try_from(range.bytes() / PAGE_SIZE).map_err(|_| bad)?;
        let words = pages.div_ceil(64);
        let mut used = Vec::new();
        used.try_reserve_exact(words)
            .map_err(|_| PoolError::OutOfMemory)?;
        used.resize_with(words, AtomicU64::default);
        if let (Some(last), over @ 1..) = (used.last_mut(), pages % 64) {
            // The bits of the last word that stand for no page are never free.
            *last = AtomicU64::new(u64::MAX << over);
        }
        let used = used.into_boxed_slice();
        Ok(Self {
            start: range.start(),
            pages,
            used,
            hint: AtomicUsize::new(0),
        })
    }

    /// Allocates a free page, whose content is arbitrary. Returns `None` where no page is free.
    pub fn allocate(&self) -> Option<Pa> {
        let words = self.used.len();
        let hint = self.hint.load(Ordering::Relaxed);
        for word in (hint..words).chain(0..hint.min(words)) {
            let take = |used: u64| (used != u64::MAX).then(|| used | (used + 1));
            let found = self.used[word].fetch_update(Ordering::Acquire, Ordering::Relaxed, take);
            if let Ok(before) = found {
                self.hint.store(word, Ordering::Relaxed);
                let page = word * 64 + before.trailing_ones() as usize;
                return Some(Pa::new(self.start.get() + page as u64 * PAGE_SIZE));
            }
        }
        None
    }

    /// Frees a page.
    ///
    /// # Errors
    /// [`PoolError::NotAllocated`], which is the caller's error.
    pub fn free(&self, page: Pa) -> Result<(), PoolError> {
        let error = PoolError::NotAllocated(page);
        let offset = page.get().checked_sub(self.start.get()).ok_or(error)?;
        let index = usize::try_from(offset / PAGE_SIZE).map_err(|_| error)?;
        if !offset.is_multiple_of(PAGE_SIZE) || index >= self.pages {
            return Err(error);
        }
        let (word, bit) = (index / 64, 1 << (index % 64));
        if self.used[word].fetch_and(!bit, Ordering::Release) & bit == 0 {
            return Err(error);
        }
        self.hint.store(word, Ordering::Relaxed);
        Ok(())
    }

    /// Returns the number of pages in the pool, used or free.
    pub const fn len(&self) -> usize {
        self.pages
    }

    /// Returns whether the pool has no pages at all.
    pub const fn is_empty(&self) -> bool {
        self.pages == 0
    }

    /// Returns the number of pages in use.
    pub fn in_use(&self) -> usize {
        let bits: u32 = self
            .used
            .iter()
            .map(|w| w.load(Ordering::Relaxed).count_ones())
            .sum();
        bits as usize - (self.used.len() * 64 - self.pages)
    }
}

#[cfg(test)]
mod tests;
