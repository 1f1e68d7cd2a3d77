// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The names of interrupts, and sets of the vCPUs that take them.

use core::fmt;
use postern_base::ids::{MAX_VCPUS, VcpuIndex};

/// The number of INTIDs: 16 SGIs, 16 PPIs and 256 SPIs.
pub const INTIDS: u16 = 288;

/// An INTID below [`INTIDS`] (IHI 0069H 2.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IntId(u16);

impl IntId {
    /// The EL1 virtual timer's PPI, the one interrupt that is linked to the physical interrupt of
    /// the same number.
    pub const VIRTUAL_TIMER: Self = Self(27);

    /// Returns the INTID with this number, or `None` if the number is [`INTIDS`] or higher.
    pub const fn new(number: u32) -> Option<Self> {
        if number < INTIDS as u32 {
            Some(Self(number as u16))
        } else {
            None
        }
    }

    /// Returns the number.
    pub const fn get(self) -> u32 {
        self.0 as u32
    }

    /// Returns whether this is a software-generated interrupt (0 to 15).
    pub const fn is_sgi(self) -> bool {
        self.0 < 16
    }

    /// Returns whether each vCPU has its own interrupt with this number (SGI or PPI, 0 to 31).
    pub const fn is_private(self) -> bool {
        self.0 < 32
    }

    /// Returns the index of the word of 32 INTIDs that contains this INTID.
    pub(super) const fn word(self) -> usize {
        self.0 as usize / 32
    }

    /// Returns the bit of this INTID in its word.
    pub(super) const fn bit(self) -> u32 {
        1 << (self.0 % 32)
    }

    /// Returns the INTID at the lowest bit of `word` that is set in `bits`.
    pub(super) const fn at(word: usize, bits: u32) -> Self {
        Self(word as u16 * 32 + bits.trailing_zeros() as u16 % 32)
    }
}

impl fmt::Debug for IntId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IntId({})", self.0)
    }
}

/// A set of vCPUs of one VM.
///
/// A set that a method returns is a *kick mask*: vCPUs whose list registers are out of date. Their
/// flags ([`super::Vgic::needs_flush`]) are set already. The caller interrupts the pCPUs of those
/// that run, and wakes those that wait. The vCPU on whose behalf the caller acts may be in the set.
/// It needs no interrupt, because its flag is checked before it enters the guest.
#[must_use = "the vCPUs in the mask do not notice by themselves"]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct VcpuSet(u8);

const _: () = assert!(MAX_VCPUS == u8::BITS as usize);

impl VcpuSet {
    /// The empty set.
    pub const EMPTY: Self = Self(0);

    /// Returns the set of the vCPUs whose bits are set.
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// Returns the set that contains only this vCPU.
    pub const fn only(vcpu: VcpuIndex) -> Self {
        Self(1 << vcpu.get())
    }

    /// Returns whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns whether the set contains this vCPU.
    pub const fn contains(self, vcpu: VcpuIndex) -> bool {
        self.0 & 1 << vcpu.get() != 0
    }

    /// Returns the set without this vCPU.
    pub const fn without(self, vcpu: VcpuIndex) -> Self {
        Self(self.0 & !(1 << vcpu.get()))
    }

    /// Returns the bits of the vCPUs.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Returns the vCPUs in this set that are not in the other.
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Returns the vCPUs in either set.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns the vCPUs in both sets.
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Iterates over the vCPUs, the lowest first.
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = VcpuIndex> {
        let mut left = self.0;
        core::iter::from_fn(move || {
            // For an empty set the number is MAX_VCPUS, which is no vCPU's index.
            let next = VcpuIndex::new(left.trailing_zeros() as usize)?;
            left &= left - 1;
            Some(next)
        })
    }
}

/// An input of the interrupt controller that an emulated device drives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IrqLine {
    pub(super) vcpu: VcpuIndex,
    pub(super) intid: IntId,
}

impl IrqLine {
    /// Returns the input of a shared peripheral interrupt, or `None` if `intid` is not an SPI (32
    /// and up).
    pub const fn spi(intid: IntId) -> Option<Self> {
        if intid.is_private() {
            return None;
        }
        Some(Self {
            vcpu: VcpuIndex::BOOT,
            intid,
        })
    }

    /// Returns the input of a vCPU's private peripheral interrupt, or `None` if `intid` is not a
    /// PPI (16 to 31) or is the virtual timer, which the hardware drives.
    pub const fn ppi(vcpu: VcpuIndex, intid: IntId) -> Option<Self> {
        if intid.is_sgi() || !intid.is_private() || intid.0 == IntId::VIRTUAL_TIMER.0 {
            return None;
        }
        Some(Self { vcpu, intid })
    }
}
