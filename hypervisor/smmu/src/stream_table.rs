// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The stream table (IHI 0070F.b 3.3.1, 5.1, 5.2): two levels, the second of which has pages of 64 entries.
//!
//! All descriptors of the first level are valid. They lead to one page of entries that abort, until a VM has a stream
//! among the 64. A VM whose streams are whole blocks of 64, as those of a PCI bus are, has one page for all of them, since
//! all its entries are the same. Other streams have pages that several VMs may share.

use super::Hardware;
use alloc::vec::Vec;
use mediator::addr::{PAGE_SIZE, Pa};
use postern_base::ids::VmIndex;
use thiserror::Error;

/// The base-2 logarithm of the entries of a page.
const PAGE_BITS: u32 = 6;
/// The entries of a page.
const PAGE_ENTRIES: u32 = 1 << PAGE_BITS;
/// The bytes of an entry.
const ENTRY_BYTES: u64 = 64;
/// Span in a descriptor of the first level: the page has 2^(Span - 1) entries.
const SPAN: u64 = PAGE_BITS as u64 + 1;

/// Dword 0: valid, and Config 0b000: abort, without an event.
const ABORT: u64 = 1;
/// Dword 0: valid, and Config 0b110: stage 2 only.
const TRANSLATE: u64 = 1 | 0b110 << 1;
/// Dword 1: SHCFG 0b01: the device's shareability. MEV: similar events may be merged.
const ATTRIBUTES: u64 = 0b01 << 44 | 1 << 19;
/// The low bits of VTCR_EL2 that dword 2 has from bit 32 on: T0SZ, SL0, IRGN0, ORGN0, SH0, TG0, PS.
const VTCR: u64 = 0x7_ffff;
/// Dword 2: S2AA64, S2PTW. Not S2S: nothing stalls.
const STAGE_2: u64 = 1 << 51 | 1 << 54;
/// Dword 2: S2R: faults make events.
const RECORD: u64 = 1 << 58;

/// The translation of a VM's streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// The root of the VM's stage-2 tables.
    pub root: Pa,
    /// VTCR_EL2.
    pub vtcr: u64,
}

/// The reason that streams cannot be a VM's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReserveError {
    /// The SMMU, or its table, has no such stream.
    #[error("the SMMU has no stream {stream:#x}: there are {streams:#x}")]
    NoStream {
        /// The last stream that is wanted.
        stream: u32,
        /// How many there are.
        streams: u32,
    },
    /// A VM has one of them.
    #[error(
        "stream {0:#x} belongs to two devices: give a VM both, the one with more streams first"
    )]
    Owned(u32),
    /// There is no memory for tables.
    #[error("out of memory for stream tables")]
    OutOfMemory,
}

/// Streams of a VM.
#[derive(Clone, Copy, Debug)]
struct Owned {
    vm: VmIndex,
    first: u32,
    last: u32,
}

/// Entries of a VM in a page.
#[derive(Clone, Copy, Debug)]
struct Entries {
    vm: VmIndex,
    page: Pa,
    first: u32,
    count: u32,
}

/// The stream table.
#[derive(Debug)]
pub struct StreamTable {
    /// The first level.
    root: Pa,
    /// The bits of a StreamID.
    bits: u32,
    /// The page of entries that nobody owns.
    abort: Pa,
    owned: Vec<Owned>,
    entries: Vec<Entries>,
}

/// Returns the descriptor that leads to a page.
const fn descriptor(page: Pa) -> u64 {
    page.get() | SPAN
}

impl StreamTable {
    /// Makes a table in which all streams abort. Returns `None` where there is no memory.
    pub fn new(hardware: &mut impl Hardware, bits: u32) -> Option<Self> {
        let blocks = 1_u64 << bits.saturating_sub(PAGE_BITS);
        let bytes = (8 * blocks).max(64);
        let root = hardware.allocate(usize::try_from(bytes).ok()?)?;
        let abort = abort_page(hardware)?;
        for block in 0..blocks {
            hardware.write_memory(Pa::new(root.get() + 8 * block), descriptor(abort));
        }
        Some(Self {
            root,
            bits,
            abort,
            owned: Vec::new(),
            entries: Vec::new(),
        })
    }

    /// Returns the first level.
    pub const fn root(&self) -> Pa {
        self.root
    }

    /// Returns the VM that has a stream.
    pub fn owner(&self, stream: u32) -> Option<VmIndex> {
        let is_in = |owned: &&Owned| (owned.first..=owned.last).contains(&stream);
        self.owned.iter().find(is_in).map(|owned| owned.vm)
    }

    /// Makes `count` streams from `first` on, at least one, a VM's. They abort as before.
    pub fn reserve(
        &mut self,
        hardware: &mut impl Hardware,
        vm: VmIndex,
        first: u32,
        count: u32,
    ) -> Result<(), ReserveError> {
        let last = first.saturating_add(count.saturating_sub(1));
        if last >> self.bits != 0 {
            let streams = 1 << self.bits;
            return Err(ReserveError::NoStream {
                stream: last,
                streams,
            });
        }
        let overlaps = |owned: &&Owned| owned.first <= last && first <= owned.last;
        if let Some(other) = self.owned.iter().find(overlaps) {
            if other.vm == vm && other.first <= first && last <= other.last {
                // Another device of the VM has them, too.
                return Ok(());
            }
            return Err(ReserveError::Owned(other.first.max(first)));
        }
        let full = |_| ReserveError::OutOfMemory;
        self.owned.try_reserve(1).map_err(full)?;
        // A page for whole blocks, and one at each end.
        self.entries.try_reserve(3).map_err(full)?;
        for block in first >> PAGE_BITS..=last >> PAGE_BITS {
            let start = block << PAGE_BITS;
            let from = first.max(start) - start;
            let to = last.min(start + PAGE_ENTRIES - 1) - start;
            let at = Pa::new(self.root.get() + 8 * u64::from(block));
            let whole = from == 0 && to == PAGE_ENTRIES - 1;
            let page = self.page(hardware, vm, at, whole)?;
            if !whole || !self.has_whole(vm) {
                self.entries.push(Entries {
                    vm,
                    page,
                    first: from,
                    count: to - from + 1,
                });
            }
            hardware.write_memory(at, descriptor(page));
        }
        self.owned.push(Owned { vm, first, last });
        Ok(())
    }

    /// Returns the page for a VM's streams of the block whose descriptor is at `at`.
    fn page(
        &self,
        hardware: &mut impl Hardware,
        vm: VmIndex,
        at: Pa,
        whole: bool,
    ) -> Result<Pa, ReserveError> {
        let new = |hardware| abort_page(hardware).ok_or(ReserveError::OutOfMemory);
        if whole {
            return match self.whole(vm) {
                Some(page) => Ok(page),
                None => new(hardware),
            };
        }
        let found = hardware.read_memory(at);
        if found == descriptor(self.abort) {
            new(hardware)
        } else {
            Ok(Pa::new(found - SPAN))
        }
    }

    /// Returns the page that a VM has for whole blocks.
    fn whole(&self, vm: VmIndex) -> Option<Pa> {
        let is_it = |entries: &&Entries| entries.vm == vm && entries.count == PAGE_ENTRIES;
        self.entries.iter().find(is_it).map(|entries| entries.page)
    }

    fn has_whole(&self, vm: VmIndex) -> bool {
        self.whole(vm).is_some()
    }

    /// Returns whether a VM has streams.
    pub fn has_streams(&self, vm: VmIndex) -> bool {
        self.owned.iter().any(|owned| owned.vm == vm)
    }

    /// Writes what [`StreamTable::translate`] lets count, while the VM's streams abort.
    pub fn prepare(&self, hardware: &mut impl Hardware, vm: VmIndex, to: Translation) {
        let stage_2 = u64::from(vmid(vm)) | (to.vtcr & VTCR) << 32 | STAGE_2 | RECORD;
        self.write(hardware, vm, 1, ATTRIBUTES);
        self.write(hardware, vm, 2, stage_2);
        self.write(hardware, vm, 3, to.root.get());
    }

    /// Lets a VM's streams be translated.
    pub fn translate(&self, hardware: &mut impl Hardware, vm: VmIndex) {
        self.write(hardware, vm, 0, TRANSLATE);
    }

    /// Makes a VM's streams abort.
    pub fn abort(&self, hardware: &mut impl Hardware, vm: VmIndex) {
        self.write(hardware, vm, 0, ABORT);
    }

    /// Writes a double word of all entries of a VM. Each is written at once, so the SMMU sees the old value or the new.
    fn write(&self, hardware: &mut impl Hardware, vm: VmIndex, double: u64, value: u64) {
        for entries in self.entries.iter().filter(|entries| entries.vm == vm) {
            for entry in entries.first..entries.first + entries.count {
                let at = entries.page.get() + ENTRY_BYTES * u64::from(entry) + 8 * double;
                hardware.write_memory(Pa::new(at), value);
            }
        }
    }
}

/// Returns a VM's VMID.
pub const fn vmid(vm: VmIndex) -> u16 {
    vm.get() as u16 + 1
}

/// Makes a page of entries that abort.
fn abort_page(hardware: &mut impl Hardware) -> Option<Pa> {
    let page = hardware.allocate(PAGE_SIZE as usize)?;
    for entry in 0..u64::from(PAGE_ENTRIES) {
        let at = page.get() + ENTRY_BYTES * entry;
        hardware.write_memory(Pa::new(at), ABORT);
    }
    Some(page)
}
