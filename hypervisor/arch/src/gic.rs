// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The physical GICv3 (IHI 0069), non-secure side, as EL2 uses it: EOImode 1, so that EL2 drops
//! the priority and a guest's end of interrupt deactivates what list registers link to hardware.
//!
//! The registers in memory belong to [`super::gicv3`], which is plain code.

use super::gicv3::{self, Bus, FIRST_SPECIAL_INTID, GicError, LAST_SPECIAL_INTID};
use super::percpu::PerPcpu;
use super::registers::*;
use super::{barrier, timer};
use aarch64_cpu::registers::{ICC_SRE_EL2, Readable, Writeable};
use core::cell::Cell;
use mediator::addr::Pa;
use postern_base::ids::MAX_PCPUS;
use postern_base::ticks::Ticks;
use postern_boot_tree::{Interrupt, Mpidr};
use postern_exceptions::registers::controls;
use spin::Once;

pub use super::gicv3::KICK_INTID;

/// INTID of the virtual interface's maintenance interrupt (PPI 9).
pub const MAINTENANCE_INTID: u32 = 25;
/// ICC_PMR_EL1 that masks no interrupt.
const LOWEST_PRIORITY: u64 = 0xff;
/// ICC_CTLR_EL1.EOImode: the end of an interrupt only drops the priority.
const CTLR_EOI_MODE: u64 = 1 << 1;
/// ICC_IGRPEN1_EL1.Enable.
const IGRPEN1_ENABLE: u64 = 1;

static DISTRIBUTOR: Once<Pa> = Once::new();
/// The first frame of the redistributor of each pCPU.
static REDISTRIBUTOR: PerPcpu<Cell<Pa>> =
    PerPcpu::new([const { Cell::new(Pa::new(0)) }; MAX_PCPUS]);

/// The machine's GIC, which the device tree names.
struct Machine;

impl Bus for Machine {
    fn read(&self, at: Pa) -> u32 {
        // SAFETY: callers pass registers of the GIC found in the device tree, mapped as device memory.
        unsafe { core::ptr::read_volatile(at.get() as *const u32) }
    }

    fn write(&self, at: Pa, value: u32) {
        // SAFETY: as `read`; no GIC register written here masters memory.
        unsafe { core::ptr::write_volatile(at.get() as *mut u32, value) }
    }

    fn write_byte(&self, at: Pa, value: u8) {
        // SAFETY: as `write`; priority registers are byte accessible.
        unsafe { core::ptr::write_volatile(at.get() as *mut u8, value) }
    }

    fn read_double(&self, at: Pa) -> u64 {
        // SAFETY: as `read`.
        unsafe { core::ptr::read_volatile(at.get() as *const u64) }
    }

    fn write_double(&self, at: Pa, value: u64) {
        // SAFETY: as `write`.
        unsafe { core::ptr::write_volatile(at.get() as *mut u64, value) }
    }

    fn now(&self) -> Ticks {
        timer::now()
    }

    fn second(&self) -> Ticks {
        timer::second()
    }
}

/// Sets the distributor up. Once, on the boot pCPU.
///
/// # Errors
/// It does not get ready.
pub fn init_distributor(base: Pa) -> Result<(), GicError> {
    DISTRIBUTOR.call_once(|| base);
    gicv3::init_distributor(&Machine, base)
}

/// Finds the redistributor of the pCPU with this affinity, see [`gicv3::find_redistributor`].
pub fn find_redistributor(
    regions: impl Iterator<Item = (Pa, Pa)>,
    stride: u64,
    mpidr: Mpidr,
) -> Option<Pa> {
    gicv3::find_redistributor(&Machine, regions, stride, mpidr)
}

/// Sets this pCPU's redistributor and CPU interface up, and enables EL2's own private interrupts.
///
/// # Errors
/// The redistributor does not get ready.
pub fn init_pcpu(redistributor: Pa) -> Result<(), GicError> {
    let own = 1 << KICK_INTID
        | 1 << MAINTENANCE_INTID
        | 1 << timer::HYPERVISOR_TIMER_INTID
        | 1 << timer::VIRTUAL_TIMER_INTID;
    gicv3::init_redistributor(&Machine, redistributor, own)?;
    REDISTRIBUTOR.this().set(redistributor);

    // ICC_SRE_EL1 counts only while ICC_SRE_EL2.SRE is set, so that comes first.
    ICC_SRE_EL2.set(controls::ICC_SRE_EL2);
    barrier::isb();
    ICC_SRE_EL1.set(controls::ICC_SRE_EL1);
    barrier::isb();
    ICC_PMR_EL1.set(LOWEST_PRIORITY);
    ICC_BPR1_EL1.set(0);
    ICC_CTLR_EL1.set(CTLR_EOI_MODE);
    ICC_IGRPEN1_EL1.set(IGRPEN1_ENABLE);
    barrier::isb();
    super::ich::init();
    Ok(())
}

/// Enables an SPI and routes it to the pCPU with `mpidr`. Once each.
pub fn enable_spi(spi: Interrupt, mpidr: Mpidr) {
    if let Some(base) = DISTRIBUTOR.get() {
        gicv3::enable_spi(&Machine, *base, spi.intid.get(), spi.trigger, mpidr);
    }
}

/// Routes an SPI to the pCPU with `mpidr`.
pub fn route_spi(spi: Interrupt, mpidr: Mpidr) {
    if let Some(base) = DISTRIBUTOR.get() {
        gicv3::route_spi(&Machine, *base, spi.intid.get(), mpidr);
    }
}

/// Disables an interrupt: a private one on this pCPU, or an SPI.
pub fn disable(intid: u32) {
    if let Some(base) = DISTRIBUTOR.get() {
        let redistributor = REDISTRIBUTOR.this().get();
        gicv3::disable(&Machine, *base, redistributor, intid);
        barrier::dsb();
    }
}

/// Takes the highest pending interrupt, if any: it is active from here on.
#[inline]
pub fn acknowledge() -> Option<u32> {
    let intid = ICC_IAR1_EL1.get() as u32 & 0xff_ffff;
    barrier::dsb();
    // What is above them (LPIs) is taken too, and raises the running priority.
    (!(FIRST_SPECIAL_INTID..=LAST_SPECIAL_INTID).contains(&intid)).then_some(intid)
}

/// Drops the running priority; the interrupt stays active until deactivated.
#[inline]
pub fn drop_priority(intid: u32) {
    ICC_EOIR1_EL1.set(u64::from(intid));
}

/// Deactivates an interrupt that is active on this pCPU (or any SPI).
#[inline]
pub fn deactivate(intid: u32) {
    ICC_DIR_EL1.set(u64::from(intid));
    barrier::isb();
}

/// Sets or clears the active state of a private interrupt of this pCPU.
#[inline]
pub fn set_private_active(intid: u32, active: bool) {
    gicv3::set_private_active(&Machine, REDISTRIBUTOR.this().get(), intid, active);
    barrier::dsb();
}

/// Makes another pCPU leave its guest.
pub fn kick(mpidr: Mpidr) {
    let aff = |level: u32| (mpidr.get() >> (if level == 3 { 32 } else { 8 * level })) & 0xff;
    let low = aff(0);
    let target = 1 << (low & 0xf)
        | aff(1) << 16
        | aff(2) << 32
        | aff(3) << 48
        | (low >> 4) << 44
        | u64::from(KICK_INTID) << 24;
    barrier::dsb();
    ICC_SGI1R_EL1.set(target);
    barrier::isb();
}
