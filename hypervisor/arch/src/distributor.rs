// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the registers in memory of GICv2 and GICv3 share: the distributor's registers for enables, active states,
//! priorities and triggers have the same offsets in both (IHI 0048B.b 4.1.2, IHI 0069H 12.8). Those of private
//! interrupts are banked in the distributor of a GICv2, and in the SGI_base frame of a redistributor in a GICv3: the
//! *private frame*.

use core::num::NonZeroU64;
use mediator::addr::Pa;
use postern_base::ticks::Ticks;
use postern_boot_tree::Trigger;

/// The SGI that makes a pCPU leave its guest and look around.
pub const KICK_INTID: u32 = 0;
/// The first of the special INTIDs, by which the CPU interface says that nothing is pending.
pub const FIRST_SPECIAL_INTID: u32 = 1020;
/// The last of them.
pub const LAST_SPECIAL_INTID: u32 = 1023;

pub(super) const GICD_CTLR: u64 = 0x0000;
pub(super) const GICD_TYPER: u64 = 0x0004;
pub(super) const GICD_ISENABLER: u64 = 0x0100;
pub(super) const GICD_ICENABLER: u64 = 0x0180;
const GICD_ISPENDR: u64 = 0x0200;
const GICD_ICPENDR: u64 = 0x0280;
pub(super) const GICD_ISACTIVER: u64 = 0x0300;
pub(super) const GICD_ICACTIVER: u64 = 0x0380;
pub(super) const GICD_IPRIORITYR: u64 = 0x0400;
pub(super) const GICD_ICFGR: u64 = 0x0c00;
/// The kick's priority: lower than the timer's, so that pCPUs that send it without a rest do not keep
/// their target from seeing that a slice is over.
pub(super) const KICK_PRIORITY: u8 = 0xc0;
/// All others' priority.
pub(super) const PRIORITY: u8 = 0xa0;

/// The GIC's registers, by their physical addresses, which are aligned, and a clock.
pub trait Bus {
    /// Reads a register of 32 bits.
    fn read(&self, at: Pa) -> u32;
    /// Writes one.
    fn write(&self, at: Pa, value: u32);
    /// Writes a byte of a register that can be accessed so.
    fn write_byte(&self, at: Pa, value: u8);
    /// Reads a register of 64 bits.
    fn read_double(&self, at: Pa) -> u64;
    /// Writes one.
    fn write_double(&self, at: Pa, value: u64);
    /// Returns the time.
    fn now(&self) -> Ticks;
    /// Returns the ticks of one second, the time that a register may take.
    fn second(&self) -> Ticks;
}

/// An interrupt that a CPU interface has acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    intid: u32,
    word: u32,
}

impl Acknowledged {
    /// Holds an INTID, and the word by which the CPU interface wants to hear of it again: what GICC_IAR read in a GICv2,
    /// with the CPU that sent an SGI (IHI 0048B.b 4.4.5), or the INTID.
    pub const fn new(intid: u32, word: u32) -> Self {
        Self { intid, word }
    }

    /// Returns the INTID.
    #[inline]
    pub const fn intid(self) -> u32 {
        self.intid
    }

    /// Returns the word for the registers that end the interrupt.
    #[inline]
    pub const fn word(self) -> u32 {
        self.word
    }
}

/// The address of an interface's registers, which is not zero. So an enum that has one, or none in a GICv3, is one word
/// that is compared with zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceBase(NonZeroU64);

impl InterfaceBase {
    /// Holds an address; `None` for zero.
    #[inline]
    pub const fn new(address: u64) -> Option<Self> {
        match NonZeroU64::new(address) {
            Some(address) => Some(Self(address)),
            None => None,
        }
    }

    /// Returns the address.
    #[inline]
    pub const fn pa(self) -> Pa {
        Pa::new(self.0.get())
    }
}

/// Returns the address of a register. The tree's ranges do not wrap, and hold all registers.
#[inline]
pub(super) const fn offset(base: Pa, bytes: u64) -> Pa {
    Pa::new(base.get().wrapping_add(bytes))
}

/// Returns the bit of an interrupt within its word of 32.
pub(super) const fn bit(number: u32) -> u32 {
    1 << (number % 32)
}

/// Returns the offset of an interrupt's word from the first word, in bytes.
pub(super) const fn word(number: u32) -> u64 {
    4 * (number / 32) as u64
}

/// Sets the priorities of all private interrupts in a private frame, and enables those of `own`, a bit each.
pub(super) fn enable_private(bus: &impl Bus, private: Pa, own: u32) {
    for intid in 0..32 {
        let priority = if intid == KICK_INTID {
            KICK_PRIORITY
        } else {
            PRIORITY
        };
        let at = GICD_IPRIORITYR + u64::from(intid);
        bus.write_byte(offset(private, at), priority);
    }
    bus.write(offset(private, GICD_ISENABLER), own);
}

/// Sets up an SPI, which is disabled and stays so; `route` routes it. Without a trigger it stays level or edge as firmware
/// left it.
pub(super) fn configure_spi(
    bus: &impl Bus,
    base: Pa,
    intid: u32,
    trigger: Option<Trigger>,
    route: impl FnOnce(),
) {
    if let Some(trigger) = trigger {
        let at = offset(base, GICD_ICFGR + 4 * u64::from(intid / 16));
        let edge = 0b10 << (intid % 16 * 2);
        let others = bus.read(at) & !edge;
        let value = match trigger {
            Trigger::Edge => others | edge,
            Trigger::Level => others,
        };
        bus.write(at, value);
    }
    bus.write_byte(offset(base, GICD_IPRIORITYR + u64::from(intid)), PRIORITY);
    route();
}

/// Enables or disables an SPI.
pub fn set_spi_enabled(bus: &impl Bus, base: Pa, intid: u32, enabled: bool) {
    let register = if enabled {
        GICD_ISENABLER
    } else {
        GICD_ICENABLER
    };
    bus.write(offset(base, register + word(intid)), bit(intid));
}

/// Makes an SPI pending, or takes back that it is.
pub fn set_spi_pending(bus: &impl Bus, base: Pa, intid: u32, pending: bool) {
    let register = if pending { GICD_ISPENDR } else { GICD_ICPENDR };
    bus.write(offset(base, register + word(intid)), bit(intid));
}

/// Makes an SPI inactive, whichever pCPU acknowledged it.
pub fn deactivate_spi(bus: &impl Bus, base: Pa, intid: u32) {
    bus.write(offset(base, GICD_ICACTIVER + word(intid)), bit(intid));
}

/// Sets or clears the active state of an interrupt of this pCPU in its private frame.
#[inline]
pub fn set_private_active(bus: &impl Bus, private: Pa, intid: u32, active: bool) {
    let register = if active {
        GICD_ISACTIVER
    } else {
        GICD_ICACTIVER
    };
    bus.write(offset(private, register), bit(intid));
}
