//! The physical GICv3 (IHI 0069), non-secure side, as EL2 uses it: EOImode 1, so that EL2 drops
//! the priority and a guest's end of interrupt deactivates what list registers link to hardware.

use super::{barrier, read_register, write_register};
use crate::trap::registers::controls;
use mediator::addr::Pa;
use spin::Once;

/// The SGI that makes a pCPU leave its guest and look around.
pub const KICK_INTID: u32 = 0;
/// INTID of the virtual interface's maintenance interrupt (PPI 9).
pub const MAINTENANCE_INTID: u32 = 25;
/// The first of the special INTIDs, by which the CPU interface says that nothing is pending.
const FIRST_SPECIAL_INTID: u32 = 1020;
/// The last of them.
const LAST_SPECIAL_INTID: u32 = 1023;

const GICD_CTLR: u64 = 0x0000;
const GICD_TYPER: u64 = 0x0004;
const GICD_IGROUPR: u64 = 0x0080;
const GICD_ISENABLER: u64 = 0x0100;
const GICD_ICENABLER: u64 = 0x0180;
const GICD_ICACTIVER: u64 = 0x0380;
const GICD_IPRIORITYR: u64 = 0x0400;
const GICD_IROUTER: u64 = 0x6000;
const GICD_CTLR_RWP: u32 = 1 << 31;
const GICD_CTLR_ARE_NS: u32 = 1 << 4;
const GICD_CTLR_ENABLE_GRP1: u32 = 1 << 1;
const GICR_CTLR: u64 = 0x0000;
const GICR_CTLR_RWP: u32 = 1 << 3;
const GICR_WAKER: u64 = 0x0014;
const GICR_TYPER: u64 = 0x0008;
/// The redistributor's second frame, with the SGIs and PPIs.
const SGI_FRAME: u64 = 0x1_0000;
const REDISTRIBUTOR_STRIDE: u64 = 0x2_0000;
/// The kick's priority: lower than the timer's, so that pCPUs that send it without a rest do not keep
/// their target from seeing that a slice is over.
const KICK_PRIORITY: u8 = 0xc0;
/// All others' priority.
const PRIORITY: u8 = 0xa0;

struct Gic {
    distributor: u64,
}

static GIC: Once<Gic> = Once::new();

fn read32(address: u64) -> u32 {
    // SAFETY: callers pass registers of the GIC found in the device tree, mapped as device memory.
    unsafe { core::ptr::read_volatile(address as *const u32) }
}

fn write32(address: u64, value: u32) {
    // SAFETY: as `read32`; no GIC register written here masters memory.
    unsafe { core::ptr::write_volatile(address as *mut u32, value) }
}

fn write8(address: u64, value: u8) {
    // SAFETY: as `write32`; priority registers are byte accessible.
    unsafe { core::ptr::write_volatile(address as *mut u8, value) }
}

fn read64(address: u64) -> u64 {
    // SAFETY: as `read32`.
    unsafe { core::ptr::read_volatile(address as *const u64) }
}

fn write64(address: u64, value: u64) {
    // SAFETY: as `write32`.
    unsafe { core::ptr::write_volatile(address as *mut u64, value) }
}

fn distributor() -> u64 {
    GIC.get().map_or(0, |gic| gic.distributor)
}

/// Sets the distributor up: all SPIs disabled and inactive, group 1 on. Once, on the boot pCPU.
pub fn init_distributor(base: Pa) {
    let base = base.get();
    GIC.call_once(|| Gic { distributor: base });
    write32(base + GICD_CTLR, GICD_CTLR_ARE_NS | GICD_CTLR_ENABLE_GRP1);
    while read32(base + GICD_CTLR) & GICD_CTLR_RWP != 0 {}
    let words = u64::from(read32(base + GICD_TYPER) & 0x1f) + 1;
    for word in 1..words {
        write32(base + GICD_ICENABLER + 4 * word, u32::MAX);
        write32(base + GICD_ICACTIVER + 4 * word, u32::MAX);
        write32(base + GICD_IGROUPR + 4 * word, u32::MAX);
    }
    while read32(base + GICD_CTLR) & GICD_CTLR_RWP != 0 {}
}

/// Finds the redistributor of the pCPU with this affinity (MPIDR_EL1 without its flag bits)
/// among regions of (start, end), in bytes; `stride` is the distance that the tree asks for.
pub fn find_redistributor(
    regions: impl Iterator<Item = (Pa, Pa)>,
    stride: u64,
    mpidr: u64,
) -> Option<Pa> {
    let affinity = (mpidr & 0xff_ffff) | ((mpidr >> 32) & 0xff) << 24;
    for (start, end) in regions {
        let mut frame = start.get();
        while frame + REDISTRIBUTOR_STRIDE <= end.get() {
            let kind = read64(frame + GICR_TYPER);
            if kind >> 32 == affinity {
                return Some(Pa::new(frame));
            }
            if kind & (1 << 4) != 0 {
                break;
            }
            // VLPIs double the frames.
            frame += stride.max(REDISTRIBUTOR_STRIDE << ((kind >> 1) & 1));
        }
    }
    None
}

/// Sets this pCPU's redistributor and CPU interface up, and enables EL2's own private interrupts.
pub fn init_pcpu(redistributor: Pa) {
    let base = redistributor.get();
    write32(base + GICR_WAKER, read32(base + GICR_WAKER) & !2);
    while read32(base + GICR_WAKER) & 4 != 0 {}
    let sgi = base + SGI_FRAME;
    write32(sgi + GICD_ICENABLER, u32::MAX);
    // Until then they may still be delivered (IHI 0069H, 12.11.2, GICR_CTLR.RWP).
    while read32(base + GICR_CTLR) & GICR_CTLR_RWP != 0 {}
    write32(sgi + GICD_ICACTIVER, u32::MAX);
    write32(sgi + GICD_IGROUPR, u32::MAX);
    for intid in 0..32 {
        write8(sgi + GICD_IPRIORITYR + intid, PRIORITY);
    }
    write8(sgi + GICD_IPRIORITYR + u64::from(KICK_INTID), KICK_PRIORITY);
    let own = 1 << KICK_INTID
        | 1 << MAINTENANCE_INTID
        | 1 << super::timer::HYPERVISOR_TIMER_INTID
        | 1 << super::timer::VIRTUAL_TIMER_INTID;
    write32(sgi + GICD_ISENABLER, own);

    // ICC_SRE_EL1 counts only while ICC_SRE_EL2.SRE is set, so that comes first.
    write_register!("S3_4_C12_C9_5", controls::ICC_SRE_EL2);
    barrier::isb();
    write_register!("S3_0_C12_C12_5", controls::ICC_SRE_EL1);
    barrier::isb();
    write_register!("S3_0_C4_C6_0", 0xff); // ICC_PMR_EL1: everything
    write_register!("S3_0_C12_C12_3", 0); // ICC_BPR1_EL1
    write_register!("S3_0_C12_C12_4", 1 << 1); // ICC_CTLR_EL1: EOImode 1
    write_register!("S3_0_C12_C12_7", 1); // ICC_IGRPEN1_EL1
    barrier::isb();
    super::ich::init();
}

/// Enables an SPI, level or edge as firmware left it, and routes it to the pCPU with `mpidr`.
pub fn enable_spi(intid: u32, mpidr: u64) {
    let base = distributor();
    let intid64 = u64::from(intid);
    write8(base + GICD_IPRIORITYR + intid64, PRIORITY);
    write64(base + GICD_IROUTER + 8 * intid64, mpidr & 0xff_00ff_ffff);
    write32(
        base + GICD_ISENABLER + 4 * (intid64 / 32),
        1 << (intid % 32),
    );
}

/// Disables an interrupt: a private one on this pCPU, whose redistributor is given, or an SPI. No effect
/// on others (LPIs and the extended ranges, which Postern does not enable).
pub fn disable(redistributor: Pa, intid: u32) {
    let frame = match intid {
        0..32 => redistributor.get() + SGI_FRAME,
        32..FIRST_SPECIAL_INTID => distributor(),
        _ => return,
    };
    write32(
        frame + GICD_ICENABLER + 4 * u64::from(intid / 32),
        1 << (intid % 32),
    );
    barrier::dsb();
}

/// Takes the highest pending interrupt, if any: it is active from here on.
#[inline]
pub fn acknowledge() -> Option<u32> {
    let intid = read_register!("S3_0_C12_C12_0") as u32 & 0xff_ffff; // ICC_IAR1_EL1
    barrier::dsb();
    // What is above them (LPIs) is taken too, and raises the running priority.
    (!(FIRST_SPECIAL_INTID..=LAST_SPECIAL_INTID).contains(&intid)).then_some(intid)
}

/// Drops the running priority; the interrupt stays active until deactivated.
#[inline]
pub fn drop_priority(intid: u32) {
    write_register!("S3_0_C12_C12_1", u64::from(intid)); // ICC_EOIR1_EL1
}

/// Deactivates an interrupt that is active on this pCPU (or any SPI).
#[inline]
pub fn deactivate(intid: u32) {
    write_register!("S3_0_C12_C11_1", u64::from(intid)); // ICC_DIR_EL1
    barrier::isb();
}

/// Sets or clears the active state of a private interrupt of this pCPU.
pub fn set_private_active(redistributor: Pa, intid: u32, active: bool) {
    let offset = if active { 0x300 } else { GICD_ICACTIVER };
    write32(redistributor.get() + SGI_FRAME + offset, 1 << intid);
    barrier::dsb();
}

/// Makes another pCPU leave its guest.
pub fn kick(mpidr: u64) {
    let aff = |level: u32| (mpidr >> (if level == 3 { 32 } else { 8 * level })) & 0xff;
    let low = aff(0);
    let target = 1 << (low & 0xf)
        | aff(1) << 16
        | aff(2) << 32
        | aff(3) << 48
        | (low >> 4) << 44
        | u64::from(KICK_INTID) << 24;
    barrier::dsb();
    write_register!("S3_0_C12_C11_5", target); // ICC_SGI1R_EL1
    barrier::isb();
}
