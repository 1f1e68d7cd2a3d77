// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The hardware's words: list registers and the virtual interface's control (IHI 0069, 12.4).

use super::intid::IntId;
use bitflags::bitflags;
use core::fmt;

/// The most list registers that the architecture knows.
pub const MAX_LRS: usize = 16;

/// The priority bits that are kept, five of eight: what the virtual interface of every
/// implementation has at least (ICH_VTR_EL2.PRIbits).
pub const PRIORITY_MASK: u8 = 0xf8;

/// The value of a list register, ICH_LR&lt;n&gt;_EL2.
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

    /// The list register as the hardware gave it.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The value for the hardware.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// An inactive entry for `vintid`, to be given a state with the methods that follow.
    pub const fn new(vintid: IntId, priority: u8, group1: bool) -> Self {
        let group = if group1 { Self::GROUP1 } else { 0 };
        Self(vintid.get() as u64 | (priority as u64) << 48 | group)
    }

    /// With State's pending bit as given.
    pub const fn with_pending(self, pending: bool) -> Self {
        self.with(Self::PENDING, pending)
    }

    /// With State's active bit as given.
    pub const fn with_active(self, active: bool) -> Self {
        self.with(Self::ACTIVE, active)
    }

    /// With a maintenance interrupt at the end of the interrupt, or without. Never with `HW`.
    pub const fn with_eoi(self, eoi: bool) -> Self {
        self.with(Self::EOI, eoi)
    }

    /// Linked to the physical interrupt `pintid`: the guest's deactivation deactivates both.
    pub const fn linked(self, pintid: IntId) -> Self {
        Self(self.0 & !Self::EOI | Self::HW | (pintid.get() as u64) << 32)
    }

    /// The virtual INTID, or `None` where it is one that [`super::Vgic`] never uses.
    pub const fn vintid(self) -> Option<IntId> {
        IntId::new(self.0 as u32)
    }

    /// The physical INTID of a linked entry.
    pub const fn pintid(self) -> Option<IntId> {
        if self.is_linked() {
            IntId::new((self.0 >> 32) as u32 & 0x1fff)
        } else {
            None
        }
    }

    /// The priority, 0 the highest.
    pub const fn priority(self) -> u8 {
        (self.0 >> 48) as u8
    }

    /// Whether the interrupt is in Group 1 (a virtual IRQ; Group 0 is a virtual FIQ).
    pub const fn is_group1(self) -> bool {
        self.0 & Self::GROUP1 != 0
    }

    /// Whether the interrupt is pending, or active and pending.
    pub const fn is_pending(self) -> bool {
        self.0 & Self::PENDING != 0
    }

    /// Whether the interrupt is active, or active and pending.
    pub const fn is_active(self) -> bool {
        self.0 & Self::ACTIVE != 0
    }

    /// Whether the entry is linked to a physical interrupt.
    pub const fn is_linked(self) -> bool {
        self.0 & Self::HW != 0
    }

    /// Whether the end of the interrupt raises a maintenance interrupt.
    pub const fn wants_eoi(self) -> bool {
        !self.is_linked() && self.0 & Self::EOI != 0
    }

    /// Whether the entry holds an interrupt (State is not 0).
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
            .finish()
    }
}

/// The list registers of a pCPU, or what stands for them in tests.
pub trait ListRegisters {
    /// How many there are, from 1 to [`MAX_LRS`].
    fn count(&self) -> usize;
    /// Reads number `index`, below [`Self::count`].
    fn read(&self, index: usize) -> Lr;
    /// Writes number `index`, below [`Self::count`].
    fn write(&mut self, index: usize, value: Lr);
    /// Those from number `used` on are not in use any more.
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

/// A vCPU's ICH_VMCR_EL2: what the guest wrote to its CPU interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Vmcr(u64);

impl Vmcr {
    /// The register as read from the hardware, or as saved for a vCPU that does not run.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The register for the hardware.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// ICC_CTLR_EL1 as the guest reads it (IHI 0069H, 12.2.6): CBPR and EOImode are in here, the rest says
    /// what the CPU can do, and is in `vtr`, ICH_VTR_EL2.
    pub const fn control(self, vtr: u64) -> u64 {
        let (cbpr, eoi_mode) = (self.0 >> 4 & 1, self.0 >> 9 & 1);
        let (priority_bits, id_bits) = (vtr >> 29 & 7, vtr >> 23 & 7);
        let (sei, aff3) = (vtr >> 22 & 1, vtr >> 21 & 1);
        cbpr | eoi_mode << 1 | priority_bits << 8 | id_bits << 11 | sei << 14 | aff3 << 15
    }

    /// With what the guest wrote to ICC_CTLR_EL1.
    pub const fn with_control(self, value: u64) -> Self {
        let kept = self.0 & !(1 << 4 | 1 << 9);
        Self(kept | (value & 1) << 4 | (value >> 1 & 1) << 9)
    }

    /// With what the guest wrote to ICC_PMR_EL1.
    pub const fn with_priority_mask(self, mask: u8) -> Self {
        Self(self.0 & !(0xff << 24) | (mask as u64) << 24)
    }

    /// VPMR: only interrupts of a lower value are signalled.
    pub const fn priority_mask(self) -> u8 {
        (self.0 >> 24) as u8
    }

    /// VEOIM: writes to ICC_EOIR&lt;n&gt;_EL1 drop the priority only, ICC_DIR_EL1 deactivates.
    pub const fn splits_eoi(self) -> bool {
        self.0 & 1 << 9 != 0
    }

    /// VENG0 or VENG1.
    pub const fn enables(self, group1: bool) -> bool {
        self.0 & 1 << group1 as u32 != 0
    }
}

bitflags! {
    /// What to write to ICH_HCR_EL2, its EOIcount being zero.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Hcr: u64 {
        /// The virtual CPU interface is on.
        const EN = 1;
        /// Maintenance interrupt while at most one list register holds an interrupt. Not used
        /// by [`super::Vgic`], as it never ends where one interrupt is left.
        const UIE = 1 << 1;
        /// Maintenance interrupt while EOIcount is not zero. QEMU up to at least 7.2 raises it
        /// at once and for ever (and raises it for a non-zero EOIcount without this bit): a
        /// caller that finds ICH_MISR_EL2.LRENP set right after it set this bit with EOIcount
        /// zero must never set it.
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
        /// Trap all registers that belong to both groups, ICC_DIR_EL1 and [`super::InterfaceRegister`]
        /// among them. [`super::Vgic`] asks for TDIR; see [`Hcr::on`].
        const TC = 1 << 10;
        /// Trap the guest's writes to ICC_DIR_EL1, for [`super::Vgic::deactivate`].
        const TDIR = 1 << 14;
    }
}

impl Hcr {
    /// As a CPU wants it that does not have `missing`. Where that is TDIR, all common registers trap in its
    /// place (IHI 0069H, ICH_HCR_EL2.TDIR: its support is optional, and said by ICH_VTR_EL2.TDS).
    #[must_use]
    pub const fn on(self, missing: Self) -> Self {
        let usable = self.difference(missing);
        if self.intersection(missing).contains(Self::TDIR) {
            usable.union(Self::TC)
        } else {
            usable
        }
    }

    /// EOIcount of an ICH_HCR_EL2 as read: how many interrupts were ended that were in no list
    /// register, modulo 32.
    pub const fn eoi_count(bits: u64) -> u8 {
        (bits >> 27) as u8 & 0x1f
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_cpu_does_not_have_is_not_set_and_its_trap_is_replaced() {
        let wanted = Hcr::EN | Hcr::TDIR | Hcr::LRENPIE;
        assert_eq!(wanted.on(Hcr::empty()), wanted);
        assert_eq!(wanted.on(Hcr::LRENPIE), Hcr::EN | Hcr::TDIR);
        assert_eq!(wanted.on(Hcr::TDIR), Hcr::EN | Hcr::LRENPIE | Hcr::TC);
        assert_eq!((Hcr::EN | Hcr::NPIE).on(Hcr::TDIR), Hcr::EN | Hcr::NPIE);
    }

    /// ICH_HCR_EL2.EOIcount has bits 31 to 27 (IHI 0069H, 12.4.8).
    #[test]
    fn ends_without_a_list_register_are_counted_in_five_bits() {
        assert_eq!(Hcr::eoi_count(!(0x1f << 27)), 0);
        for count in 0..32 {
            assert_eq!(Hcr::eoi_count(u64::from(count) << 27), count);
        }
    }
}
