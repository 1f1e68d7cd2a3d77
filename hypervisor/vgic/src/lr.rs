// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The formats of the list registers and of the virtual interface's control registers
//! (IHI 0069H 12.4, IHI 0048B.b 5.3).

use super::intid::IntId;
use bitflags::bitflags;
use core::fmt;
use postern_base::ids::VcpuIndex;

/// The maximum number of list registers in the architecture.
pub const MAX_LRS: usize = 16;

/// The priority bits that the vGIC keeps, five of eight: the minimum that the virtual interface of
/// each implementation has (ICH_VTR_EL2.PRIbits).
pub const PRIORITY_MASK: u8 = 0xf8;

/// The value of a list register, in the format of ICH_LR&lt;n&gt;_EL2. [`Lr::to_gich`] returns the value
/// in that of a GICv2.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct Lr(u64);

impl Lr {
    /// A list register that holds no interrupt.
    pub const EMPTY: Self = Self(0);

    const PENDING: u64 = 1 << 62;
    const ACTIVE: u64 = 1 << 63;
    const HW: u64 = 1 << 61;
    const GROUP1: u64 = 1 << 60;
    const EOI: u64 = 1 << 41;
    /// The source of an SGI, of a GICv2 only: a field that ICH_LR&lt;n&gt;_EL2 does not have.
    const SOURCE_SHIFT: u32 = 32;
    const SOURCE: u64 = 7 << Self::SOURCE_SHIFT;

    /// Returns the list register with the hardware's value `bits`.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Returns the value for the hardware.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Returns an inactive entry for `vintid`. The methods that follow set its state.
    pub const fn new(vintid: IntId, priority: u8, group1: bool) -> Self {
        let group = if group1 { Self::GROUP1 } else { 0 };
        Self(vintid.get() as u64 | (priority as u64) << 48 | group)
    }

    /// Returns the entry with the pending bit of State set to `pending`.
    pub const fn with_pending(self, pending: bool) -> Self {
        self.with(Self::PENDING, pending)
    }

    /// Returns the entry with the active bit of State set to `active`.
    pub const fn with_active(self, active: bool) -> Self {
        self.with(Self::ACTIVE, active)
    }

    /// Returns the entry with or without a maintenance interrupt at the end of the interrupt. The
    /// entry must not be linked.
    pub const fn with_eoi(self, eoi: bool) -> Self {
        self.with(Self::EOI, eoi)
    }

    /// Returns the entry with the vCPU that sent the SGI, for a GICv2. The entry must not be linked.
    pub const fn with_source(self, source: VcpuIndex) -> Self {
        Self(self.0 & !Self::SOURCE | (source.get() as u64) << Self::SOURCE_SHIFT)
    }

    /// Returns the entry linked to the physical interrupt `pintid`: the guest's deactivation
    /// deactivates both.
    pub const fn linked(self, pintid: IntId) -> Self {
        Self(self.0 & !(Self::EOI | Self::SOURCE) | Self::HW | (pintid.get() as u64) << 32)
    }

    /// Returns the entry with the value `bits` of GICH_LR&lt;n&gt; (IHI 0048B.b 5.3).
    pub const fn from_gich(bits: u32) -> Self {
        let bits = bits as u64;
        let (vintid, pintid) = (bits & 0x3ff, bits >> 10 & 0x3ff);
        let (priority, state) = (bits >> 23 & 0x1f, bits >> 28);
        // Either format has the EOI bit and the source at the same bits of the physical INTID's
        // field.
        let (pending_active, group1, hw) = (state & 3, state >> 2 & 1, state >> 3);
        Self(
            vintid | pintid << 32 | priority << 51 | group1 << 60 | hw << 61 | pending_active << 62,
        )
    }

    /// Returns the value for GICH_LR&lt;n&gt;. Keeps the upper five bits of the priority.
    pub const fn to_gich(self) -> u32 {
        let (vintid, pintid) = (self.0 & 0x3ff, self.0 >> 32 & 0x3ff);
        let (priority, group1, hw) = (self.0 >> 51 & 0x1f, self.0 >> 60 & 1, self.0 >> 61 & 1);
        let pending_active = self.0 >> 62;
        (vintid | pintid << 10 | priority << 23 | pending_active << 28 | group1 << 30 | hw << 31)
            as u32
    }

    /// Returns the virtual INTID, or `None` if it is one that [`super::Vgic`] never uses.
    pub const fn vintid(self) -> Option<IntId> {
        IntId::new(self.0 as u32)
    }

    /// Returns the physical INTID of a linked entry.
    pub const fn pintid(self) -> Option<IntId> {
        if self.is_linked() {
            IntId::new((self.0 >> 32) as u32 & 0x1fff)
        } else {
            None
        }
    }

    /// Returns the vCPU that sent the SGI of a GICv2, or `None` for a linked entry.
    pub const fn source(self) -> Option<VcpuIndex> {
        if self.is_linked() {
            None
        } else {
            VcpuIndex::new((self.0 >> Self::SOURCE_SHIFT & 7) as usize)
        }
    }

    /// Returns the priority; 0 is the highest.
    pub const fn priority(self) -> u8 {
        (self.0 >> 48) as u8
    }

    /// Returns whether the interrupt is in Group 1 (a virtual IRQ; Group 0 is a virtual FIQ).
    pub const fn is_group1(self) -> bool {
        self.0 & Self::GROUP1 != 0
    }

    /// Returns whether the interrupt is pending, or active and pending.
    pub const fn is_pending(self) -> bool {
        self.0 & Self::PENDING != 0
    }

    /// Returns whether the interrupt is active, or active and pending.
    pub const fn is_active(self) -> bool {
        self.0 & Self::ACTIVE != 0
    }

    /// Returns whether the entry is linked to a physical interrupt.
    pub const fn is_linked(self) -> bool {
        self.0 & Self::HW != 0
    }

    /// Returns whether the end of the interrupt raises a maintenance interrupt.
    pub const fn wants_eoi(self) -> bool {
        !self.is_linked() && self.0 & Self::EOI != 0
    }

    /// Returns whether the entry holds an interrupt (State is not 0).
    pub const fn is_valid(self) -> bool {
        self.0 & (Self::PENDING | Self::ACTIVE) != 0
    }

    const fn with(self, bit: u64, set: bool) -> Self {
        Self(if set { self.0 | bit } else { self.0 & !bit })
    }
}

impl fmt::Debug for Lr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lr")
            .field("vintid", &(self.0 as u32))
            .field("priority", &self.priority())
            .field("group1", &self.is_group1())
            .field("pending", &self.is_pending())
            .field("active", &self.is_active())
            .field("linked", &self.is_linked())
            .field("eoi", &self.wants_eoi())
            .field("source", &self.source())
            .finish()
    }
}

/// The list registers of a pCPU, or their substitute in tests.
pub trait ListRegisters {
    /// Returns the number of list registers, from 1 to [`MAX_LRS`].
    fn count(&self) -> usize;
    /// Reads the list register `index`, below [`Self::count`].
    fn read(&self, index: usize) -> Lr;
    /// Writes the list register `index`, below [`Self::count`].
    fn write(&mut self, index: usize, value: Lr);
    /// Clears the list registers from number `used` on, which are no longer in use.
    fn clear_from(&mut self, used: usize);
}

impl ListRegisters for [Lr] {
    fn count(&self) -> usize {
        self.len()
    }

    fn read(&self, index: usize) -> Lr {
        self[index]
    }

    fn write(&mut self, index: usize, value: Lr) {
        self[index] = value;
    }

    fn clear_from(&mut self, used: usize) {
        self[used..].fill(Lr::EMPTY);
    }
}

/// A vCPU's ICH_VMCR_EL2 or GICH_VMCR, which have the same format and hold the guest's writes to its
/// CPU interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Vmcr(u64);

impl Vmcr {
    /// Returns the register with the value `bits`, read from the hardware or saved for a vCPU that
    /// does not run.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Returns the value for the hardware.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Returns ICC_CTLR_EL1 as the guest reads it (IHI 0069H 12.2.6). CBPR and EOImode come from
    /// this register. The other fields describe the CPU and come from `vtr`, its ICH_VTR_EL2.
    pub const fn control(self, vtr: u64) -> u64 {
        let (cbpr, eoi_mode) = (self.0 >> 4 & 1, self.0 >> 9 & 1);
        let (priority_bits, id_bits) = (vtr >> 29 & 7, vtr >> 23 & 7);
        let (sei, aff3) = (vtr >> 22 & 1, vtr >> 21 & 1);
        cbpr | eoi_mode << 1 | priority_bits << 8 | id_bits << 11 | sei << 14 | aff3 << 15
    }

    /// Returns the register after the guest's write of `value` to ICC_CTLR_EL1.
    pub const fn with_control(self, value: u64) -> Self {
        let kept = self.0 & !(1 << 4 | 1 << 9);
        Self(kept | (value & 1) << 4 | (value >> 1 & 1) << 9)
    }

    /// Returns the register after the guest's write of `mask` to ICC_PMR_EL1.
    pub const fn with_priority_mask(self, mask: u8) -> Self {
        Self(self.0 & !(0xff << 24) | (mask as u64) << 24)
    }

    /// Returns VPMR: only interrupts with a lower priority value are signalled.
    pub const fn priority_mask(self) -> u8 {
        (self.0 >> 24) as u8
    }

    /// Returns VEOIM: whether writes to ICC_EOIR&lt;n&gt;_EL1 only drop the priority, and writes to
    /// ICC_DIR_EL1 deactivate.
    pub const fn splits_eoi(self) -> bool {
        self.0 & 1 << 9 != 0
    }

    /// Returns VENG1 if `group1` is true, VENG0 otherwise: whether the group is enabled.
    pub const fn enables(self, group1: bool) -> bool {
        self.0 & 1 << group1 as u32 != 0
    }
}

bitflags! {
    /// The value for ICH_HCR_EL2 or GICH_HCR, with an EOIcount of zero. GICH_HCR has the same bits
    /// except TC and TDIR, which [`super::Vgic`] does not request for a GICv2: GICC_DIR is in a page
    /// that is not mapped.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Hcr: u32 {
        /// The virtual CPU interface is on.
        const EN = 1;
        /// Maintenance interrupt while at most one list register holds an interrupt.
        /// [`super::Vgic`] does not use it: with one interrupt left it would never end.
        const UIE = 1 << 1;
        /// Maintenance interrupt while EOIcount is not zero. QEMU up to at least 7.2 raises it at
        /// once and permanently, and also raises it for a non-zero EOIcount without this bit. A
        /// caller that finds ICH_MISR_EL2.LRENP set right after it set this bit with an EOIcount
        /// of zero must never set the bit.
        const LRENPIE = 1 << 2;
        /// Maintenance interrupt while no list register is in the pending state.
        const NPIE = 1 << 3;
        /// Maintenance interrupt while the guest's Group 0 is enabled.
        const VGRP0EIE = 1 << 4;
        /// Maintenance interrupt while the guest's Group 0 is disabled.
        const VGRP0DIE = 1 << 5;
        /// Maintenance interrupt while the guest's Group 1 is enabled.
        const VGRP1EIE = 1 << 6;
        /// Maintenance interrupt while the guest's Group 1 is disabled.
        const VGRP1DIE = 1 << 7;
        /// Trap all registers that are common to both groups, including ICC_DIR_EL1 and
        /// [`super::InterfaceRegister`]. [`super::Vgic`] requests TDIR; see [`Hcr::on`].
        const TC = 1 << 10;
        /// Trap the guest's writes to ICC_DIR_EL1, for [`super::Vgic::deactivate`].
        const TDIR = 1 << 14;
    }
}

impl Hcr {
    /// Returns the value for a CPU that does not support the bits of `missing`. If the CPU does not
    /// support TDIR, TC replaces it and traps all common registers (IHI 0069H, ICH_HCR_EL2.TDIR:
    /// support is optional, and ICH_VTR_EL2.TDS indicates it).
    #[must_use]
    pub const fn on(self, missing: Self) -> Self {
        let usable = self.difference(missing);
        if self.intersection(missing).contains(Self::TDIR) {
            usable.union(Self::TC)
        } else {
            usable
        }
    }

    /// Returns EOIcount of a value read from ICH_HCR_EL2: the number of interrupts without a list
    /// register that were ended, modulo 32.
    pub const fn eoi_count(bits: u64) -> u8 {
        (bits >> 27) as u8 & 0x1f
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hcr_bits_that_the_cpu_lacks_are_cleared_and_tdir_becomes_tc() {
        let wanted = Hcr::EN | Hcr::TDIR | Hcr::LRENPIE;
        assert_eq!(wanted.on(Hcr::empty()), wanted);
        assert_eq!(wanted.on(Hcr::LRENPIE), Hcr::EN | Hcr::TDIR);
        assert_eq!(wanted.on(Hcr::TDIR), Hcr::EN | Hcr::LRENPIE | Hcr::TC);
        assert_eq!((Hcr::EN | Hcr::NPIE).on(Hcr::TDIR), Hcr::EN | Hcr::NPIE);
    }

    /// ICH_HCR_EL2.EOIcount is in bits 31 to 27 (IHI 0069H 12.4.8).
    #[test]
    fn eoi_count_is_read_from_bits_31_to_27() {
        assert_eq!(Hcr::eoi_count(!(0x1f << 27)), 0);
        for count in 0..32 {
            assert_eq!(Hcr::eoi_count(u64::from(count) << 27), count);
        }
    }
}
