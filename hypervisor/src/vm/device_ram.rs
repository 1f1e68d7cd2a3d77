// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A VM's RAM as the VM's virtio devices see it.

use super::guest_memory::GuestMemory;
use core::cell::Cell;
use mediator::addr::{Ipa, Pa};
use postern_arch::guest_ram;
use postern_base::range::IpaRange;
use postern_virtio::ram::{GuestRam, OutsideRam, copy_in_parts};

/// A VM's RAM as its devices see it. While the VM has none, all addresses are outside.
pub struct VmRam<'m> {
    memory: &'m GuestMemory,
    /// RAM around the last access that was not in it: nearly all accesses are.
    window: Cell<Window>,
    /// The version of the VM's RAM when the window was made.
    version: Cell<u64>,
}

/// A physically contiguous part of a VM's RAM.
#[derive(Clone, Copy)]
struct Window {
    /// The guest's first address.
    start: u64,
    /// The length in bytes.
    bytes: u64,
    /// What added to a guest's address is the physical one.
    delta: u64,
}

impl Window {
    const NONE: Self = Self {
        start: 0,
        bytes: 0,
        delta: 0,
    };
}

impl<'m> VmRam<'m> {
    /// Returns a VM's RAM.
    pub const fn new(memory: &'m GuestMemory) -> Self {
        Self {
            memory,
            window: Cell::new(Window::NONE),
            version: Cell::new(0),
        }
    }

    /// Forgets where RAM is if it has changed: the VM has given pages back, or ended. To be called at the beginning of
    /// each call, if there are several. What changes during a call does no harm before the next one: RAM stays the VM's
    /// until its devices were reset, which is such a call.
    #[inline]
    pub fn update(&self) {
        let version = self.memory.version();
        if self.version.replace(version) != version {
            self.window.set(Window::NONE);
        }
    }

    /// Returns where a range is physically, if all of it is the VM's and contiguous.
    #[inline(always)]
    fn place(&self, at: Ipa, bytes: u64) -> Option<Pa> {
        let window = self.window.get();
        let offset = at.get().wrapping_sub(window.start);
        if offset < window.bytes && bytes <= window.bytes - offset {
            return Some(Pa::new(at.get().wrapping_add(window.delta)));
        }
        self.find(at, bytes)
    }

    /// Does the same without the window, and moves the window there.
    #[cold]
    #[inline(never)]
    fn find(&self, at: Ipa, bytes: u64) -> Option<Pa> {
        if let Some((range, to)) = self.memory.around(at) {
            self.window.set(Window {
                start: range.start.get(),
                bytes: range.bytes,
                delta: to.get().wrapping_sub(range.start.get()),
            });
        }
        self.memory.translate(at, bytes)
    }

    /// Calls `piece` with each physically contiguous piece of a range: its place, and where it begins in the range.
    #[cold]
    #[inline(never)]
    fn each(
        &self,
        start: Ipa,
        bytes: usize,
        mut piece: impl FnMut(Pa, core::ops::Range<usize>),
    ) -> Result<(), OutsideRam> {
        let range = IpaRange {
            start,
            bytes: bytes as u64,
        };
        let mut done = 0;
        for (at, bytes) in self.memory.runs(range).ok_or(OutsideRam)? {
            let end = done + bytes as usize;
            piece(at, done..end);
            done = end;
        }
        Ok(())
    }
}

impl GuestRam for VmRam<'_> {
    #[inline]
    fn read(&self, from: Ipa, into: &mut [u8]) -> Result<(), OutsideRam> {
        if let Some(at) = self.place(from, into.len() as u64) {
            guest_ram::read(at, into);
            return Ok(());
        }
        self.each(from, into.len(), |at, range| {
            if let Some(part) = into.get_mut(range) {
                guest_ram::read(at, part);
            }
        })
    }

    #[inline]
    fn write(&self, to: Ipa, bytes: &[u8]) -> Result<(), OutsideRam> {
        if let Some(at) = self.place(to, bytes.len() as u64) {
            guest_ram::write(at, bytes);
            return Ok(());
        }
        self.each(to, bytes.len(), |at, range| {
            if let Some(part) = bytes.get(range) {
                guest_ram::write(at, part);
            }
        })
    }

    #[inline]
    fn contains(&self, start: Ipa, bytes: u64) -> bool {
        self.place(start, bytes).is_some() || {
            let range = IpaRange { start, bytes };
            self.memory.runs(range).is_some()
        }
    }

    #[inline]
    fn copy_from(&self, to: Ipa, source: &Self, from: Ipa, bytes: u32) -> Result<(), OutsideRam> {
        let length = u64::from(bytes);
        match (source.place(from, length), self.place(to, length)) {
            (Some(from), Some(to)) => {
                guest_ram::copy(from, to, length);
                Ok(())
            }
            _ => copy_in_parts(self, to, source, from, bytes),
        }
    }

    #[inline]
    fn load_u16(&self, from: Ipa) -> Result<u16, OutsideRam> {
        let at = self.place(from, 2).ok_or(OutsideRam)?;
        Ok(guest_ram::load_u16(at))
    }

    #[inline]
    fn store_u16(&self, to: Ipa, value: u16) -> Result<(), OutsideRam> {
        let at = self.place(to, 2).ok_or(OutsideRam)?;
        guest_ram::store_u16(at, value);
        Ok(())
    }

    #[inline]
    fn store_u32(&self, to: Ipa, value: u32) -> Result<(), OutsideRam> {
        let at = self.place(to, 4).ok_or(OutsideRam)?;
        guest_ram::store_u32(at, value);
        Ok(())
    }
}
