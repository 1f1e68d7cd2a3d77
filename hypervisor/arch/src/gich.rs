// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The virtual interface control registers of a GICv2, GICH_* (IHI 0048B.b 5.3). Each pCPU sees its own at the same
//! address.

use super::distributor::{Bus, InterfaceBase, offset};

const GICH_HCR: u64 = 0x000;
const GICH_VTR: u64 = 0x004;
const GICH_VMCR: u64 = 0x008;
const GICH_MISR: u64 = 0x010;
const GICH_APR: u64 = 0x0f0;
const GICH_LR: u64 = 0x100;
/// En, the enables of the maintenance interrupts, and EOICount.
const HCR_IMPLEMENTED: u32 = 0xf800_00ff;
/// The most list registers that are used, of up to 64.
const MAX_LRS: usize = 16;

/// The registers at an address.
#[derive(Clone, Copy)]
pub struct Gich<B> {
    bus: B,
    base: InterfaceBase,
}

impl<B: Bus> Gich<B> {
    /// Names the registers at `base`.
    pub const fn new(bus: B, base: InterfaceBase) -> Self {
        Self { bus, base }
    }

    #[inline]
    fn read(&self, register: u64) -> u32 {
        self.bus.read(offset(self.base.pa(), register))
    }

    #[inline]
    fn write(&self, register: u64, value: u32) {
        self.bus.write(offset(self.base.pa(), register), value);
    }

    /// Returns the number of list registers, 16 at most.
    pub fn list_registers(&self) -> usize {
        (self.read(GICH_VTR) as usize & 0x3f)
            .saturating_add(1)
            .min(MAX_LRS)
    }

    /// Reads `GICH_LR<index>`.
    #[inline]
    pub fn read_lr(&self, index: usize) -> u32 {
        self.read(GICH_LR + 4 * index as u64)
    }

    /// Writes `GICH_LR<index>`.
    #[inline]
    pub fn write_lr(&self, index: usize, value: u32) {
        self.write(GICH_LR + 4 * index as u64, value);
    }

    /// Reads GICH_HCR, with EOICount in bits 31:27.
    #[inline]
    pub fn hcr(&self) -> u32 {
        self.read(GICH_HCR)
    }

    /// Sets the bits of GICH_HCR that ICH_HCR_EL2 has too; zero turns the virtual interface off. The others are reserved:
    /// there is no bit that traps (TC, TDIR and so on).
    #[inline]
    pub fn set_hcr(&self, value: u32) {
        self.write(GICH_HCR, value & HCR_IMPLEMENTED);
    }

    /// Reads GICH_VMCR.
    #[inline]
    pub fn vmcr(&self) -> u32 {
        self.read(GICH_VMCR)
    }

    /// Sets GICH_VMCR.
    #[inline]
    pub fn set_vmcr(&self, value: u32) {
        self.write(GICH_VMCR, value);
    }

    /// Reads GICH_MISR: why the maintenance interrupt is asserted.
    pub fn misr(&self) -> u32 {
        self.read(GICH_MISR)
    }

    /// Reads GICH_APR: the active priorities. There is one word, since a GICv2's virtual interface has five preemption
    /// bits at most.
    #[inline]
    pub fn active_priorities(&self) -> u32 {
        self.read(GICH_APR)
    }

    /// Sets GICH_APR.
    #[inline]
    pub fn set_active_priorities(&self, value: u32) {
        self.write(GICH_APR, value);
    }
}

#[cfg(test)]
mod tests;
