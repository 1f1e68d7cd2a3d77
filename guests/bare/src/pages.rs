// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pages of RAM that the program shares, with the TEE or between vCPUs.

use crate::PAGE_SIZE;
use crate::machine::{Machine, Range, machine};
use crate::mmu::UNCACHED_OFFSET;
use crate::probe;
use spin::mutex::{SpinMutex, SpinMutexGuard};

/// Pages that are managed: 256 MiB from the start of the bank that holds the program.
const MANAGED: usize = 65_536;

/// OP-TEE's static shared memory on the bare machine: never RAM of ours.
const TEE_STATIC: Range = Range {
    start: 0x4200_0000,
    end: 0x4220_0000,
};

/// Which pages are taken, a bit each.
struct Map {
    taken: [u64; MANAGED / 64],
}

static MAP: SpinMutex<Map> = SpinMutex::new(Map {
    taken: [u64::MAX; MANAGED / 64],
});

impl Map {
    fn is_taken(&self, page: usize) -> bool {
        self.taken[page / 64] & 1 << (page % 64) != 0
    }

    fn set(&mut self, page: usize, taken: bool) {
        let bit = 1 << (page % 64);
        if taken {
            self.taken[page / 64] |= bit;
        } else {
            self.taken[page / 64] &= !bit;
        }
    }
}

/// Frees all RAM that nothing lies in.
pub fn init(machine: &Machine) {
    let mut map = MAP.lock();
    let start = machine.ram.start;
    for page in 0..MANAGED.min((machine.ram.bytes() / PAGE_SIZE) as usize) {
        let at = start + page as u64 * PAGE_SIZE;
        let inside =
            |range: &Range| at + PAGE_SIZE > range.start && at < range.end && range.bytes() > 0;
        let used = [machine.image, machine.tree, TEE_STATIC]
            .iter()
            .chain(&machine.initrd)
            .chain(&machine.reserved)
            .any(inside);
        // What is below the image may be firmware's.
        map.set(page, used || at < machine.image.start);
    }
}

/// How many pages are free.
pub fn free() -> usize {
    MAP.lock()
        .taken
        .iter()
        .map(|word| word.count_zeros() as usize)
        .sum()
}

/// What is written into free pages, to be found by whoever has them next.
const TRACE: u64 = 0x7472_6163_655f_6f66;

/// How many free pages are not zero, of those that nobody has taken yet; then leaves something in
/// each of them. A VM's memory is zero where nothing was loaded, whoever had it before.
pub fn look_for_traces() -> u64 {
    let map = MAP.lock();
    let pages = (machine().ram.bytes() / PAGE_SIZE) as usize;
    let mut found = 0;
    for page in (0..MANAGED.min(pages)).filter(|page| !map.is_taken(*page)) {
        let at = machine().ram.start + page as u64 * PAGE_SIZE;
        let words = [0, 8, PAGE_SIZE / 2, PAGE_SIZE - 8].map(|offset| at + offset);
        let dirty = |word: &u64| probe::load(*word) != Ok(0);
        found += u64::from(words.iter().any(dirty));
        for word in words {
            // It is free RAM, which takes it.
            let _ = probe::store(word, TRACE);
        }
    }
    found
}

/// Pages in a row, zeroed when taken, given back when dropped. All accesses are volatile: others
/// may write them at any time.
#[derive(Debug)]
pub struct Pages {
    address: u64,
    count: usize,
}

impl Pages {
    /// Takes `count` pages.
    ///
    /// # Panics
    /// Fewer pages are free in a row.
    pub fn take(count: usize) -> Self {
        Self::try_take(count).expect("enough free pages")
    }

    /// Takes `count` pages, if there are so many in a row.
    pub fn try_take(count: usize) -> Option<Self> {
        let map = MAP.lock();
        let mut run = 0;
        let last = (0..MANAGED).find(|&page| {
            run = if map.is_taken(page) { 0 } else { run + 1 };
            run == count
        })?;
        let first = last + 1 - count;
        Some(Self::claim(map, first, count))
    }

    /// Takes the last `count` pages that are free in a row: the same ones in each life of a program that asks first.
    ///
    /// # Panics
    /// Fewer pages are free in a row.
    pub fn take_last(count: usize) -> Self {
        let map = MAP.lock();
        let mut run = 0;
        let first = (0..MANAGED).rev().find(|&page| {
            run = if map.is_taken(page) { 0 } else { run + 1 };
            run == count
        });
        Self::claim(map, first.expect("enough free pages"), count)
    }

    /// Takes the `count` pages at `address`, if they are free.
    pub fn take_at(address: u64, count: usize) -> Option<Self> {
        let first = (address.checked_sub(machine().ram.start)? / PAGE_SIZE) as usize;
        let map = MAP.lock();
        let free = |page| page < MANAGED && !map.is_taken(page);
        (address.is_multiple_of(PAGE_SIZE) && (first..first + count).all(free))
            .then(|| Self::claim(map, first, count))
    }

    fn claim(mut map: SpinMutexGuard<'_, Map>, first: usize, count: usize) -> Self {
        (first..first + count).for_each(|page| map.set(page, true));
        drop(map);
        let pages = Self {
            address: machine().ram.start + first as u64 * PAGE_SIZE,
            count,
        };
        pages.fill(0);
        pages
    }

    /// Where they are.
    pub const fn address(&self) -> u64 {
        self.address
    }

    /// Where one of them is.
    ///
    /// # Panics
    /// There is none of this number.
    pub fn page(&self, number: usize) -> u64 {
        assert!(number < self.count);
        self.address + number as u64 * PAGE_SIZE
    }

    /// How many.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// How many bytes.
    pub const fn bytes(&self) -> u64 {
        self.count as u64 * PAGE_SIZE
    }

    /// Where they can be reached without caches.
    pub const fn uncached_address(&self) -> u64 {
        self.address + UNCACHED_OFFSET
    }

    fn at(&self, offset: usize, bytes: usize) -> u64 {
        let end = offset.checked_add(bytes).expect("an offset");
        assert!(end as u64 <= self.bytes(), "behind the pages' end");
        self.address + offset as u64
    }

    /// The word at a byte offset, which is a multiple of eight.
    pub fn read_u64(&self, offset: usize) -> u64 {
        assert_eq!(offset % 8, 0);
        // SAFETY: mapped RAM that is this value's; aligned; volatile, for others write it too.
        unsafe { core::ptr::read_volatile(self.at(offset, 8) as *const u64) }
    }

    /// Writes the word at a byte offset, which is a multiple of eight.
    pub fn write_u64(&self, offset: usize, value: u64) {
        assert_eq!(offset % 8, 0);
        // SAFETY: as in `read_u64`.
        unsafe { core::ptr::write_volatile(self.at(offset, 8) as *mut u64, value) };
    }

    /// The half word at a byte offset, which is a multiple of four.
    pub fn read_u32(&self, offset: usize) -> u32 {
        assert_eq!(offset % 4, 0);
        // SAFETY: as in `read_u64`.
        unsafe { core::ptr::read_volatile(self.at(offset, 4) as *const u32) }
    }

    /// Writes the half word at a byte offset, which is a multiple of four.
    pub fn write_u32(&self, offset: usize, value: u32) {
        assert_eq!(offset % 4, 0);
        // SAFETY: as in `read_u64`.
        unsafe { core::ptr::write_volatile(self.at(offset, 4) as *mut u32, value) };
    }

    /// The quarter word at a byte offset, which is a multiple of two.
    pub fn read_u16(&self, offset: usize) -> u16 {
        assert_eq!(offset % 2, 0);
        // SAFETY: as in `read_u64`.
        unsafe { core::ptr::read_volatile(self.at(offset, 2) as *const u16) }
    }

    /// Writes the quarter word at a byte offset, which is a multiple of two.
    pub fn write_u16(&self, offset: usize, value: u16) {
        assert_eq!(offset % 2, 0);
        // SAFETY: as in `read_u64`.
        unsafe { core::ptr::write_volatile(self.at(offset, 2) as *mut u16, value) };
    }

    /// Copies out.
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        let from = self.at(offset, into.len());
        for (index, byte) in into.iter_mut().enumerate() {
            // SAFETY: as in `read_u64`.
            *byte = unsafe { core::ptr::read_volatile((from + index as u64) as *const u8) };
        }
    }

    /// Copies in.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        let to = self.at(offset, bytes.len());
        for (index, &byte) in bytes.iter().enumerate() {
            // SAFETY: as in `read_u64`.
            unsafe { core::ptr::write_volatile((to + index as u64) as *mut u8, byte) };
        }
    }

    /// Fills all words with a value.
    pub fn fill(&self, value: u64) {
        for offset in (0..self.bytes() as usize).step_by(8) {
            self.write_u64(offset, value);
        }
    }

    /// Forgets the pages for good: they are not the program's any more.
    pub fn forget(self) -> u64 {
        let address = self.address;
        core::mem::forget(self);
        address
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        let first = ((self.address - machine().ram.start) / PAGE_SIZE) as usize;
        let mut map = MAP.lock();
        (first..first + self.count).for_each(|page| map.set(page, false));
    }
}
