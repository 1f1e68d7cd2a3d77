// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The registers of a GICv3's distributor and redistributors (IHI 0069H 12.9 to 12.11), and those
//! that a GICv2's distributor has at the same offsets.
//!
//! An access to a reserved or unimplemented register, a misaligned access and an access of a width
//! that the register does not support read as zero and ignore writes.

use super::bank::{SGIS, WORDS, each_bit};
use super::bits::BitRegister;
use super::intid::{IntId, VcpuSet};
use super::lr::PRIORITY_MASK;
use super::state::VgicState;
use postern_base::gic::GicVersion;
use postern_base::ids::VcpuIndex;
use postern_base::mmio::{Access, AccessSize};

/// The size of the distributor's window in bytes.
pub const DISTRIBUTOR_SIZE: u64 = 0x1_0000;
/// The size of each vCPU's redistributor in bytes: its RD_base frame and its SGI_base frame.
pub const REDISTRIBUTOR_SIZE: u64 = 0x2_0000;

/// One of the two windows that a guest accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// GICD_*, [`DISTRIBUTOR_SIZE`] or [`super::GICV2_DISTRIBUTOR_SIZE`] bytes.
    Distributor,
    /// GICR_*, [`REDISTRIBUTOR_SIZE`] bytes per vCPU, in the order of their indices. A GICv2 has
    /// none.
    Redistributors,
}

/// The result of an access.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MmioOutcome {
    /// The access is complete.
    Done {
        /// The value read; zero for a write.
        value: u64,
        /// The vCPUs whose list registers are now out of date.
        kick: VcpuSet,
    },
    /// A read of state that is in the list registers of these vCPUs, on their pCPUs. Their flags
    /// are set ([`super::Vgic::needs_flush`]). The caller interrupts the vCPUs and makes the guest
    /// execute its instruction again. The read waits for each vCPU only once.
    Retry {
        /// The vCPUs to synchronise.
        sync: VcpuSet,
    },
}

/// A register that describes interrupts, in a distributor of either version or in an SGI_base frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InterruptRegister {
    Bits(BitRegister, usize),
    /// The priorities from this interrupt on, one byte each.
    Priority(IntId),
    /// The configuration of 16 interrupts, from the lower or the upper half of a word.
    Config {
        word: usize,
        upper: bool,
    },
}

/// GICD_IIDR of either version, and GICR_IIDR: implementer Arm (JEP106 0x43b), product 'P', a number for which guests
/// have no workaround.
pub(super) const IIDR: u32 = 0x5000_043b;
/// GICD_PIDR2 and GICR_PIDR2: architecture revision 3, as in Arm's implementations.
const PIDR2: u32 = 0x3b;
/// GICD_CTLR.DS and ARE, which read as one.
const CTLR_FIXED: u32 = 1 << 6 | 1 << 4;
/// GICD_TYPER: 288 INTIDs, ten bits of INTID; no LPIs, no message-based interrupts, no Aff3, no
/// range selector.
const TYPER: u32 = (WORDS as u32 - 1) | 9 << 19;

impl VgicState {
    /// Does one access on behalf of `vcpu`.
    ///
    /// # Errors
    /// The vCPUs that must be synchronised first.
    pub fn access(
        &mut self,
        vcpu: VcpuIndex,
        window: Window,
        access: &Access,
    ) -> Result<u64, VcpuSet> {
        if !access.is_aligned() {
            return Ok(0);
        }
        if self.version == GicVersion::V2 {
            return match window {
                Window::Distributor => self.distributor_v2(vcpu, access),
                Window::Redistributors => Ok(0),
            };
        }
        match window {
            Window::Distributor => self.distributor(vcpu, access),
            Window::Redistributors => {
                let index = usize::try_from(access.offset / REDISTRIBUTOR_SIZE).ok();
                match index.and_then(VcpuIndex::new) {
                    Some(of) if of.get() < self.vcpus => self.redistributor(vcpu, of, access),
                    _ => Ok(0),
                }
            }
        }
    }

    fn distributor(&mut self, vcpu: VcpuIndex, access: &Access) -> Result<u64, VcpuSet> {
        let is_word = access.size == AccessSize::Word;
        if let Some(intid) = routed_by(access) {
            return Ok(self.access_router(intid, access));
        }
        match InterruptRegister::decode(access) {
            // The private interrupts are in the redistributors, as affinity routing is enabled.
            Some(register) if register.word() > 0 => {
                self.access_interrupts(vcpu, vcpu, register, access)
            }
            Some(_) => Ok(0),
            None => Ok(match (access.offset, access.write) {
                (0x0000, None) if is_word => self.read_ctlr(),
                (0x0000, Some(value)) if is_word => self.write_ctlr(vcpu, value as u32),
                (0x0004, None) if is_word => u64::from(TYPER),
                (0x0008, None) if is_word => u64::from(IIDR),
                (0xffe8, None) if is_word => u64::from(PIDR2),
                _ => 0,
            }),
        }
    }

    fn redistributor(
        &mut self,
        vcpu: VcpuIndex,
        of: VcpuIndex,
        access: &Access,
    ) -> Result<u64, VcpuSet> {
        let frame = Access {
            offset: access.offset % REDISTRIBUTOR_SIZE,
            ..*access
        };
        if frame.offset >= 0x1_0000 {
            let frame = Access {
                offset: frame.offset - 0x1_0000,
                ..frame
            };
            return match InterruptRegister::decode(&frame) {
                Some(register) if register.word() == 0 => {
                    self.access_interrupts(vcpu, of, register, &frame)
                }
                _ => Ok(0),
            };
        }
        let is_word = frame.size == AccessSize::Word;
        Ok(match (frame.offset, frame.write) {
            (0x0000, None) if is_word => u64::from(self.disabling_private.contains(of)) << 3,
            (0x0004, None) if is_word => u64::from(IIDR),
            (0x0008, None) if frame.size >= AccessSize::Word => frame.size.truncate(self.typer(of)),
            (0x000c, None) if is_word => self.typer(of) >> 32,
            (0xffe8, None) if is_word => u64::from(PIDR2),
            _ => 0,
        })
    }

    /// Returns GICR_TYPER: affinity, processor number and Last.
    fn typer(&self, of: VcpuIndex) -> u64 {
        let number = of.get() as u64;
        let last = of.get() + 1 == self.vcpus;
        number << 32 | number << 8 | u64::from(last) << 4
    }

    fn read_ctlr(&self) -> u64 {
        let rwp = u32::from(!self.disabling.is_empty()) << 31;
        u64::from(rwp | CTLR_FIXED | self.groups)
    }

    pub fn write_ctlr(&mut self, vcpu: VcpuIndex, value: u32) -> u64 {
        let groups = value & 3;
        if groups != self.groups {
            if self.groups & !groups != 0 {
                self.disabling = self.disabling.union(self.resident().without(vcpu));
            }
            self.groups = groups;
            self.touch_all();
        }
        0
    }

    /// Returns the vCPUs whose list registers are in use.
    fn resident(&self) -> VcpuSet {
        let mut resident = VcpuSet::EMPTY;
        for vcpu in self.everybody().iter() {
            if self.cpus[vcpu.get()].resident {
                resident = resident.union(VcpuSet::only(vcpu));
            }
        }
        resident
    }

    fn access_router(&mut self, intid: IntId, access: &Access) -> u64 {
        // The upper half is Aff3, which is not supported.
        let upper = access.offset & 4 != 0;
        match access.write {
            _ if upper => 0,
            None => u64::from(self.router(intid)),
            Some(value) => {
                self.set_router(intid, value as u32);
                0
            }
        }
    }

    pub fn access_interrupts(
        &mut self,
        vcpu: VcpuIndex,
        of: VcpuIndex,
        register: InterruptRegister,
        access: &Access,
    ) -> Result<u64, VcpuSet> {
        match (register, access.write) {
            (InterruptRegister::Bits(register, word), None) => {
                self.read_bits(vcpu, of, word, register).map(u64::from)
            }
            (InterruptRegister::Bits(register, word), Some(value)) => {
                self.write_bits(vcpu, of, word, register, value as u32);
                Ok(0)
            }
            (InterruptRegister::Priority(first), None) => {
                let bank = self.banks.get(of, first.word());
                let at = first.get() as usize % 32;
                let mut value = 0;
                for (byte, priority) in bank.priority[at..][..access.size.bytes() as usize]
                    .iter()
                    .enumerate()
                {
                    value |= u64::from(*priority) << (8 * byte);
                }
                Ok(value)
            }
            (InterruptRegister::Priority(first), Some(value)) => {
                let bank = self.banks.get_mut(of, first.word());
                let at = first.get() as usize % 32;
                let mut changed = 0;
                for byte in 0..access.size.bytes() as usize {
                    let priority = (value >> (8 * byte)) as u8 & PRIORITY_MASK;
                    if bank.priority[at + byte] != priority {
                        bank.priority[at + byte] = priority;
                        changed |= 1 << (at + byte);
                    }
                }
                self.touch(of, first.word(), changed);
                Ok(0)
            }
            (InterruptRegister::Config { word, upper }, None) => {
                let edge = self.banks.get(of, word).edge;
                Ok(u64::from(spread(if upper { edge >> 16 } else { edge })))
            }
            (InterruptRegister::Config { word, upper }, Some(value)) => {
                let half = gather(value as u32);
                let (bits, edge) = if upper {
                    (0xffff_0000, half << 16)
                } else {
                    (0xffff, half)
                };
                // SGIs are always edge-triggered.
                let bits = if word == 0 { bits & !SGIS } else { bits };
                let bank = self.banks.get_mut(of, word);
                let changed = (bank.edge ^ edge) & bits;
                bank.edge ^= changed;
                self.touch(of, word, changed);
                Ok(0)
            }
        }
    }
}

impl InterruptRegister {
    pub fn decode(access: &Access) -> Option<Self> {
        let Access { offset, size, .. } = *access;
        let index = |from: u64, bytes: u64| usize::try_from((offset - from) / bytes).ok();
        match offset {
            0x0080..0x0400 if size == AccessSize::Word => {
                let register = match offset & !0x7f {
                    0x0080 => BitRegister::Group,        // GICD_IGROUPR, GICR_IGROUPR0
                    0x0100 => BitRegister::SetEnable,    // GICD_ISENABLER, GICR_ISENABLER0
                    0x0180 => BitRegister::ClearEnable,  // GICD_ICENABLER, GICR_ICENABLER0
                    0x0200 => BitRegister::SetPending,   // GICD_ISPENDR, GICR_ISPENDR0
                    0x0280 => BitRegister::ClearPending, // GICD_ICPENDR, GICR_ICPENDR0
                    0x0300 => BitRegister::SetActive,    // GICD_ISACTIVER, GICR_ISACTIVER0
                    _ => BitRegister::ClearActive,       // GICD_ICACTIVER, GICR_ICACTIVER0
                };
                let word = index(offset & !0x7f, 4).filter(|word| *word < WORDS)?;
                Some(Self::Bits(register, word))
            }
            // GICD_IPRIORITYR, GICR_IPRIORITYR
            0x0400..0x0800 if size == AccessSize::Word || size == AccessSize::Byte => {
                IntId::new((offset - 0x0400) as u32).map(Self::Priority)
            }
            // GICD_ICFGR, GICR_ICFGR
            0x0c00..0x0d00 if size == AccessSize::Word => {
                let half = index(0x0c00, 4)?;
                let word = Some(half / 2).filter(|word| *word < WORDS)?;
                Some(Self::Config {
                    word,
                    upper: half % 2 == 1,
                })
            }
            _ => None,
        }
    }

    const fn word(self) -> usize {
        match self {
            Self::Bits(_, word) | Self::Config { word, .. } => word,
            Self::Priority(first) => first.word(),
        }
    }
}

/// Returns the SPI whose GICD_IROUTER is accessed, if any.
fn routed_by(access: &Access) -> Option<IntId> {
    if access.size < AccessSize::Word || !(0x6100..0x8000).contains(&access.offset) {
        return None;
    }
    IntId::new(((access.offset - 0x6000) / 8) as u32)
}

/// Returns GICD_ICFGR for 16 interrupts: two bits each, of which the upper means edge-triggered.
fn spread(edge: u32) -> u32 {
    each_bit(edge & 0xffff).fold(0, |value, bit| value | 2 << (2 * bit.trailing_zeros()))
}

/// Returns the inverse of [`spread`].
fn gather(value: u32) -> u32 {
    each_bit(value & 0xaaaa_aaaa).fold(0, |edge, bit| edge | 1 << (bit.trailing_zeros() / 2))
}
