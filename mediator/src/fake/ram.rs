// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Memory with owners and pins. A page takes no room until it is written to or pinned.

use crate::addr::{Ipa, PAGE_SIZE};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};

/// The IPA of a VM's RAM.
pub const RAM_BASE: u64 = 0x1_0000_0000;
/// Base of the physical memory: VM n is at this plus n times [`VM_STRIDE`]. It does not fit into a register of
/// the ABI, so no number is taken for an address by chance.
const VM_BASE: u64 = 0x28_5000_0000;
const VM_STRIDE: u64 = 0x1000_0000;
/// The hypervisor's TX buffer, and behind it its RX buffer, of [`EXCHANGE_PAGES`] each.
pub(super) const EXCHANGE_BASE: u64 = 0x28_4f00_0000;
/// The number of pages of each of these buffers.
pub(super) const EXCHANGE_PAGES: u8 = 16;
/// Memory of the secure world.
const SECURE: core::ops::Range<u64> = 0x0e10_0000..0x0f00_0000;
/// Base of the pages to share with OP-TEE.
pub(super) const SHARED_BASE: u64 = 0x28_4800_0000;

/// The owner of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Owner {
    Vm(u16),
    /// Shared with OP-TEE on behalf of this VM.
    Shared(u16),
    /// The hypervisor, which exchanges descriptors with the SPMC in it.
    Exchange,
}

#[derive(Default)]
struct Page {
    /// Zeroes until it is written to.
    bytes: Option<Box<[u8; PAGE_SIZE as usize]>>,
    pins: u32,
}

#[derive(Default)]
struct VmMemory {
    /// Number of pages.
    pages: u64,
    /// Pages that were taken from the VM.
    gone: BTreeSet<u64>,
}

/// All memory of a machine.
#[derive(Default)]
pub(super) struct Ram {
    vms: BTreeMap<u16, VmMemory>,
    pages: BTreeMap<u64, Page>,
    shared: BTreeMap<u64, u16>,
    shared_made: u64,
    shared_free: BTreeSet<u64>,
    /// Pages that were pinned or unpinned since interrupts were taken, and the most of them.
    stretch: (usize, usize),
}

/// Splits an address into the page's address and the offset.
const fn split(at: u64) -> (u64, usize) {
    (at & !(PAGE_SIZE - 1), (at % PAGE_SIZE) as usize)
}

impl Ram {
    pub(super) fn add_vm(&mut self, vm: u16, pages: u64) {
        assert!(2 * pages * PAGE_SIZE <= VM_STRIDE);
        self.vms.insert(
            vm,
            VmMemory {
                pages,
                gone: BTreeSet::new(),
            },
        );
    }

    /// Returns the number of pages of a VM's RAM.
    pub(super) fn pages_of(&self, vm: u16) -> u64 {
        self.vms.get(&vm).map_or(0, |memory| memory.pages)
    }

    pub(super) fn unmap(&mut self, vm: u16, page: Ipa) {
        if let Some(memory) = self.vms.get_mut(&vm) {
            memory.gone.insert(page.get());
        }
    }

    /// Translates by stage 2. Neighbours in the guest's view are not neighbours physically.
    pub(super) fn translate(&self, vm: u16, at: Ipa) -> Option<u64> {
        let memory = self.vms.get(&vm)?;
        let number = at.page().get().checked_sub(RAM_BASE)? / PAGE_SIZE;
        if number >= memory.pages || memory.gone.contains(&at.page().get()) {
            return None;
        }
        let base = VM_BASE + VM_STRIDE * u64::from(vm);
        Some(base + (memory.pages - 1 - number) * 2 * PAGE_SIZE + at.page_offset())
    }

    /// Returns the owner of the page at a physical address.
    pub(super) fn owner(&self, at: u64) -> Option<Owner> {
        let (page, _) = split(at);
        if let Some(&vm) = self.shared.get(&page) {
            return Some(Owner::Shared(vm));
        }
        let exchange = 2 * u64::from(EXCHANGE_PAGES) * PAGE_SIZE;
        if (EXCHANGE_BASE..EXCHANGE_BASE + exchange).contains(&page) {
            return Some(Owner::Exchange);
        }
        let vm = page.checked_sub(VM_BASE)? / VM_STRIDE;
        let number = (page - VM_BASE) % VM_STRIDE / PAGE_SIZE;
        let vm = u16::try_from(vm).ok()?;
        let memory = self.vms.get(&vm)?;
        let inside = number.is_multiple_of(2) && number / 2 < memory.pages;
        inside.then_some(Owner::Vm(vm))
    }

    pub(super) fn read(&self, at: u64, into: &mut [u8]) -> bool {
        let (page, offset) = split(at);
        if self.owner(page).is_none() || offset + into.len() > PAGE_SIZE as usize {
            return false;
        }
        match self.pages.get(&page).and_then(|page| page.bytes.as_ref()) {
            Some(bytes) => into.copy_from_slice(&bytes[offset..offset + into.len()]),
            None => into.fill(0),
        }
        true
    }

    pub(super) fn write(&mut self, at: u64, from: &[u8]) -> bool {
        let (page, offset) = split(at);
        if self.owner(page).is_none() || offset + from.len() > PAGE_SIZE as usize {
            return false;
        }
        let page = self.pages.entry(page).or_default();
        let bytes = page
            .bytes
            .get_or_insert_with(|| Box::new([0; PAGE_SIZE as usize]));
        bytes[offset..offset + from.len()].copy_from_slice(from);
        true
    }

    /// Returns whether an address is the secure world's.
    pub(super) fn is_secure(at: u64) -> bool {
        SECURE.contains(&at)
    }

    /// Reads any number of bytes, page by page. What is not there reads as zero.
    pub(super) fn read_all(&self, at: u64, into: &mut [u8]) {
        let mut at = at;
        let mut rest = into;
        while !rest.is_empty() {
            let room = (PAGE_SIZE - at % PAGE_SIZE) as usize;
            let (now, later) = rest.split_at_mut(room.min(rest.len()));
            if !self.read(at, now) {
                now.fill(0);
            }
            at += now.len() as u64;
            rest = later;
        }
    }

    /// Writes any number of bytes, page by page, where there is memory.
    pub(super) fn write_all(&mut self, mut at: u64, mut from: &[u8]) {
        while !from.is_empty() {
            let room = (PAGE_SIZE - at % PAGE_SIZE) as usize;
            let (now, later) = from.split_at(room.min(from.len()));
            self.write(at, now);
            at += now.len() as u64;
            from = later;
        }
    }

    pub(super) fn pins(&self, at: u64) -> u32 {
        self.pages.get(&at).map_or(0, |page| page.pins)
    }

    pub(super) fn all_pins(&self) -> u64 {
        self.pages.values().map(|page| u64::from(page.pins)).sum()
    }

    /// Notes that interrupts are taken.
    pub(super) const fn take_interrupts(&mut self) {
        self.stretch.0 = 0;
    }

    /// Returns the most pages that were pinned or unpinned between interrupts, and begins anew.
    pub(super) fn longest_stretch(&mut self) -> usize {
        core::mem::take(&mut self.stretch).1
    }

    fn note_page(&mut self) {
        self.stretch.0 += 1;
        self.stretch.1 = self.stretch.1.max(self.stretch.0);
    }

    pub(super) fn pin(&mut self, at: u64) {
        self.note_page();
        self.pages.entry(at).or_default().pins += 1;
    }

    /// Undoes one pin, if there is one.
    pub(super) fn unpin(&mut self, at: u64) -> bool {
        self.note_page();
        let pins = &mut self.pages.entry(at).or_default().pins;
        *pins = match pins.checked_sub(1) {
            Some(pins) => pins,
            None => return false,
        };
        true
    }

    /// Returns the number of pins of a VM's pages.
    pub(super) fn pins_of(&self, vm: u16) -> u64 {
        let base = VM_BASE + VM_STRIDE * u64::from(vm);
        let pages = self.pages.range(base..base + VM_STRIDE);
        pages.map(|(_, page)| u64::from(page.pins)).sum()
    }

    /// Returns a page to share on behalf of a VM, filled with zeroes.
    pub(super) fn share(&mut self, vm: u16) -> u64 {
        let at = self.shared_free.pop_first().unwrap_or_else(|| {
            self.shared_made += 1;
            SHARED_BASE + self.shared_made * PAGE_SIZE
        });
        self.shared.insert(at, vm);
        at
    }

    /// Takes back a shared page of a VM, if it is one.
    pub(super) fn unshare(&mut self, vm: u16, at: u64) -> bool {
        self.pages.remove(&at);
        self.shared_free.insert(at);
        self.shared.remove(&at) == Some(vm)
    }

    /// Returns the number of pages shared on behalf of a VM.
    pub(super) fn shared_of(&self, vm: u16) -> usize {
        self.shared.values().filter(|&&of| of == vm).count()
    }

    pub(super) fn shared(&self) -> usize {
        self.shared.len()
    }
}
