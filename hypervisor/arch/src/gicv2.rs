// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The physical GICv2 (IHI 0048B.b), as software of the normal world sees it: the distributor, and the CPU interface with
//! EOImode 1.
//!
//! EL2 leaves all interrupts in their groups. With the Security Extensions only firmware can change them, and those of
//! Group 0 are not EL2's: their registers ignore it. Without, all are in Group 0 after reset. Bit 0 of GICD_CTLR and of
//! GICC_CTLR enables the group that EL2 has in both cases (4.3.1, 4.4.1).

use super::distributor::*;
use mediator::addr::Pa;
use postern_boot_tree::Trigger;
use thiserror::Error;

const GICD_CTLR_ENABLE: u32 = 1 << 0;
const GICD_ITARGETSR: u64 = 0x0800;
/// The words of GICD_ITARGETSR that are for private interrupts and read the pCPU's own interface.
const PRIVATE_TARGETS: u64 = 8;
const GICD_SGIR: u64 = 0x0f00;
const GICC_CTLR: u64 = 0x0000;
const GICC_CTLR_ENABLE: u32 = 1 << 0;
/// FIQBypDisGrp0 to IRQBypDisGrp1, which firmware chooses.
const GICC_CTLR_BYPASS: u32 = 0xf << 5;
/// EOImodeNS; EOImode without the Security Extensions: GICC_EOIR only drops the priority.
const GICC_CTLR_EOI_MODE: u32 = 1 << 9;
const GICC_PMR: u64 = 0x0004;
/// The mask that masks no interrupt.
const LOWEST_PRIORITY: u32 = 0xff;
const GICC_BPR: u64 = 0x0008;
const GICC_IAR: u64 = 0x000c;
const GICC_EOIR: u64 = 0x0010;
/// GICC_APR0 to GICC_APR3; in the normal world of a GIC with the Security Extensions its view of them.
const GICC_APR: u64 = 0x00d0;
const GICC_IIDR: u64 = 0x00fc;
const GICC_DIR: u64 = 0x1000;

/// The interface of a pCPU to a distributor: a bit of a target byte. Zero in a GIC that has one pCPU only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceMask(u8);

impl InterfaceMask {
    /// Holds the target byte `bits`.
    pub const fn new(bits: u8) -> Self {
        Self(bits)
    }

    /// Returns the target byte.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Returns whether the mask names one interface.
    pub const fn is_one(self) -> bool {
        self.0.is_power_of_two()
    }
}

/// An error: no GICv2 CPU interface is where the tree says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "no GICv2 CPU interface at {:#x} (GICC_IIDR is {iidr:#x}): check the second range of the GIC node's reg",
    at.get()
)]
pub struct InterfaceError {
    /// The address of the CPU interface.
    pub at: Pa,
    /// What its identification register reads.
    pub iidr: u32,
}

/// Sets the distributor up: all SPIs disabled and inactive, EL2's group on. Once, on the boot pCPU.
pub fn init_distributor(bus: &impl Bus, base: Pa) {
    let write = |register: u64, value| bus.write(offset(base, register), value);
    let words = u64::from(bus.read(offset(base, GICD_TYPER)) & 0x1f) + 1;
    // The first word is banked.
    for number in 1..words {
        write(GICD_ICENABLER + 4 * number, u32::MAX);
        write(GICD_ICACTIVER + 4 * number, u32::MAX);
    }
    write(GICD_CTLR, GICD_CTLR_ENABLE);
}

/// Sets a pCPU's private interrupts and its CPU interface at `cpu` up, on that pCPU: all private interrupts disabled and
/// inactive, but those of `own`, a bit each. Returns the interface.
///
/// # Errors
/// There is none at the address.
pub fn init_cpu_interface(
    bus: &impl Bus,
    distributor: Pa,
    cpu: Pa,
    own: u32,
) -> Result<InterfaceMask, InterfaceError> {
    let iidr = bus.read(offset(cpu, GICC_IIDR));
    // The architecture version. A region with a place for a repeated page may have none there.
    if iidr >> 16 & 0xf != 2 {
        return Err(InterfaceError { at: cpu, iidr });
    }
    bus.write(offset(distributor, GICD_ICENABLER), u32::MAX);
    bus.write(offset(distributor, GICD_ICACTIVER), u32::MAX);
    enable_private(bus, distributor, own);

    let write = |register: u64, value| bus.write(offset(cpu, register), value);
    // An active priority that firmware left would keep all interrupts of the same and of lower ones away.
    for number in 0..4 {
        write(GICC_APR + 4 * number, 0);
    }
    write(GICC_PMR, LOWEST_PRIORITY);
    write(GICC_BPR, 0);
    let bypass = bus.read(offset(cpu, GICC_CTLR)) & GICC_CTLR_BYPASS;
    write(GICC_CTLR, bypass | GICC_CTLR_EOI_MODE | GICC_CTLR_ENABLE);
    Ok(interface(bus, distributor))
}

/// Returns this pCPU's interface: what the target bytes of its private interrupts read. Those that the GIC does not
/// have read zero (4.3.12).
fn interface(bus: &impl Bus, distributor: Pa) -> InterfaceMask {
    let words = (0..PRIVATE_TARGETS).map(|word| {
        let at = offset(distributor, GICD_ITARGETSR + 4 * word);
        bus.read(at).to_le_bytes()
    });
    let mut targets = words.flatten();
    InterfaceMask(targets.find(|target| *target != 0).unwrap_or(0))
}

/// Sets up an SPI, which is disabled and stays so, and routes it to a pCPU. Without a trigger it stays level or edge as firmware left
/// it.
pub fn configure_spi(
    bus: &impl Bus,
    base: Pa,
    intid: u32,
    trigger: Option<Trigger>,
    target: InterfaceMask,
) {
    super::distributor::configure_spi(bus, base, intid, trigger, || {
        route_spi(bus, base, intid, target);
    });
}

/// Routes an SPI to a pCPU.
pub fn route_spi(bus: &impl Bus, base: Pa, intid: u32, target: InterfaceMask) {
    let at = offset(base, GICD_ITARGETSR + u64::from(intid));
    bus.write_byte(at, target.0);
}

/// Sends the kick to a pCPU.
pub fn kick(bus: &impl Bus, base: Pa, target: InterfaceMask) {
    // TargetListFilter is 0: the list. NSATT is the secure world's.
    bus.write(
        offset(base, GICD_SGIR),
        u32::from(target.0) << 16 | KICK_INTID,
    );
}

/// Takes the highest pending interrupt, if any: it is active from here on.
#[inline]
pub fn acknowledge(bus: &impl Bus, cpu: Pa) -> Option<Acknowledged> {
    let word = bus.read(offset(cpu, GICC_IAR));
    let intid = word & 0x3ff;
    (intid < FIRST_SPECIAL_INTID).then_some(Acknowledged::new(intid, word))
}

/// Drops the running priority; the interrupt stays active until deactivated.
#[inline]
pub fn drop_priority(bus: &impl Bus, cpu: Pa, interrupt: Acknowledged) {
    bus.write(offset(cpu, GICC_EOIR), interrupt.word());
}

/// Deactivates an interrupt whose priority was dropped.
#[inline]
pub fn deactivate(bus: &impl Bus, cpu: Pa, interrupt: Acknowledged) {
    bus.write(offset(cpu, GICC_DIR), interrupt.word());
}

#[cfg(test)]
mod tests;
