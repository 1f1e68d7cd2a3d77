// SPDX-License-Identifier: Apache-2.0 OR MIT
//! As much of a GICv3 (IHI0069) as polling needs: interrupts stay masked and are asked for.

use crate::machine::{at_el2, cpu_index, machine};
use crate::timers::{self, EL2_INTID, Timer};
use core::arch::asm;

const GICD_CTLR: u64 = 0;
const GICD_IGROUPR: u64 = 0x80;
const GICD_ISENABLER: u64 = 0x100;
const GICD_ICENABLER: u64 = 0x180;
const GICD_ISPENDR: u64 = 0x200;
const GICD_ISACTIVER: u64 = 0x300;
const GICD_IPRIORITYR: u64 = 0x400;
const GICD_IROUTER: u64 = 0x6000;
const GICR_WAKER: u64 = 0x14;
const SGI_BASE: u64 = 0x1_0000;
const REDISTRIBUTOR_BYTES: u64 = 0x2_0000;
/// The one software generated interrupt that is used.
const SGI: u64 = 1;
/// [`poke`]'s interrupt, as [`take`] gives it.
pub const POKE: u32 = SGI as u32;
const VIRTUAL_TIMER: u32 = Timer::Virtual.intid();
const PHYSICAL_TIMER: u32 = Timer::Physical.intid();
/// No interrupt is pending.
const SPURIOUS: u64 = 1020;

fn read(address: u64) -> u32 {
    // SAFETY: a register of the GIC that the tree names, mapped as device memory.
    unsafe { core::ptr::read_volatile(address as *const u32) }
}

fn write(address: u64, value: u32) {
    // SAFETY: as in `read`; nothing here has the GIC write memory.
    unsafe { core::ptr::write_volatile(address as *mut u32, value) };
}

/// Turns the distributor on, and this vCPU's part.
pub fn init() {
    // Affinity routing and group 1, where there is one security state and where there are two.
    write(machine().distributor + GICD_CTLR, 1 << 4 | 1 << 1);
    init_cpu();
}

/// Turns this vCPU's part on, with the timer's interrupt.
pub fn init_cpu() {
    let frame = machine().redistributors + cpu_index() as u64 * REDISTRIBUTOR_BYTES;
    write(frame + GICR_WAKER, read(frame + GICR_WAKER) & !(1 << 1));
    while read(frame + GICR_WAKER) & 1 << 2 != 0 {
        core::hint::spin_loop();
    }
    let frame = frame + SGI_BASE;
    write(frame + GICD_IGROUPR, u32::MAX);
    for register in 0..8 {
        write(frame + GICD_IPRIORITYR + register * 4, 0xa0a0_a0a0);
    }
    let el2 = u32::from(at_el2()) << EL2_INTID;
    write(frame + GICD_ISENABLER, 1 << VIRTUAL_TIMER | 1 << SGI | el2);
    // SAFETY: the CPU interface's registers. Interrupts are masked, so no handler is needed.
    unsafe {
        asm!(
            "mrs {level}, CurrentEL",
            "cmp {level}, #8",
            "b.ne 2f",
            "msr icc_sre_el2, {sre}",
            "isb",
            "2: msr icc_sre_el1, {sre}",
            "isb",
            "msr icc_pmr_el1, {pmr}",
            "msr icc_igrpen1_el1, {one}",
            "isb",
            level = out(reg) _,
            sre = in(reg) 0xf_u64,
            pmr = in(reg) 0xff_u64,
            one = in(reg) 1_u64,
            options(nostack)
        );
    }
}

/// Enables an SPI (32..288), delivered to this vCPU.
pub fn enable_spi(intid: u32) {
    let distributor = machine().distributor;
    let (word, bit) = (u64::from(intid / 32) * 4, 1 << (intid % 32));
    let group = distributor + GICD_IGROUPR + word;
    write(group, read(group) | bit);
    let priority = distributor + GICD_IPRIORITYR + u64::from(intid & !3);
    write(priority, 0xa0a0_a0a0);
    let route = distributor + GICD_IROUTER + u64::from(intid) * 8;
    write(route, cpu_index() as u32);
    write(route + 4, 0);
    write(distributor + GICD_ISENABLER + word, bit);
}

/// An interrupt group. Those of group 0 are FIQs, those of group 1 are IRQs; asked for, both are had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    /// Group 0.
    Zero,
    /// Group 1, to which everything belongs after [`init`].
    One,
}

/// This vCPU's frame for SGIs and PPIs.
fn own_frame() -> u64 {
    machine().redistributors + cpu_index() as u64 * REDISTRIBUTOR_BYTES + SGI_BASE
}

/// Enables private interrupts of this vCPU, a bit each.
pub fn enable_private(bits: u32) {
    write(own_frame() + GICD_ISENABLER, bits);
}

/// Disables private interrupts of this vCPU, a bit each.
pub fn disable_private(bits: u32) {
    write(own_frame() + GICD_ICENABLER, bits);
}

/// Which private interrupts of this vCPU are active, a bit each.
pub fn active_private() -> u32 {
    read(own_frame() + GICD_ISACTIVER)
}

/// Sets the priority of a private interrupt of this vCPU.
pub fn set_private_priority(intid: u32, priority: u8) {
    let address = own_frame() + GICD_IPRIORITYR + u64::from(intid);
    // SAFETY: as in `write`; priorities are byte accessible.
    unsafe { core::ptr::write_volatile(address as *mut u8, priority) };
}

/// Puts the private interrupts of this vCPU into groups: a bit that is set means group 1.
pub fn set_private_groups(bits: u32) {
    write(own_frame() + GICD_IGROUPR, bits);
}

/// Has the distributor forward group 0 too, or not any more.
pub fn forward_group0(on: bool) {
    let control = machine().distributor + GICD_CTLR;
    write(control, read(control) & !1 | u32::from(on));
}

/// Enables or disables a group at this vCPU's interface.
pub fn enable_group(group: Group, on: bool) {
    let on = u64::from(on);
    // SAFETY: the CPU interface's registers; interrupts are masked, so no handler is needed.
    unsafe {
        match group {
            Group::Zero => asm!("msr S3_0_C12_C12_6, {}", "isb", in(reg) on, options(nostack)),
            Group::One => asm!("msr S3_0_C12_C12_7, {}", "isb", in(reg) on, options(nostack)),
        }
    }
}

/// Generates an SGI (0 to 15) of a group at the vCPUs of `targets`, a bit each.
pub fn send(group: Group, sgi: u32, targets: u16) {
    let value = u64::from(sgi) << 24 | u64::from(targets);
    // SAFETY: generating an interrupt changes the interrupt controller's state only.
    unsafe {
        match group {
            Group::Zero => asm!("msr S3_0_C12_C11_7, {}", "isb", in(reg) value, options(nostack)),
            Group::One => asm!("msr S3_0_C12_C11_5, {}", "isb", in(reg) value, options(nostack)),
        }
    }
}

/// Takes the most urgent pending interrupt of group 0. [`end_group0`] has to follow.
pub fn take_group0() -> Option<u32> {
    let intid: u64;
    // SAFETY: as in `take`.
    unsafe {
        asm!("dsb sy", "mrs {}, S3_0_C12_C8_0", "dsb sy", out(reg) intid, options(nostack));
    }
    (intid < SPURIOUS).then_some(intid as u32)
}

/// Ends an interrupt that [`take_group0`] gave.
pub fn end_group0(intid: u32) {
    // SAFETY: as in `end`.
    unsafe { asm!("msr S3_0_C12_C8_1, {}", "isb", in(reg) u64::from(intid), options(nostack)) };
}

/// Whether [`end`] drops the priority only (ICC_CTLR_EL1.EOImode), see [`split_end`].
pub fn is_split_end() -> bool {
    let value: u64;
    // SAFETY: reading it has no effect.
    unsafe {
        asm!("mrs {}, icc_ctlr_el1", out(reg) value, options(nostack, preserves_flags));
    }
    value & 2 != 0
}

/// The priority from which on interrupts are held back.
pub fn priority_mask() -> u8 {
    let value: u64;
    // SAFETY: reading it has no effect.
    unsafe {
        asm!("mrs {}, icc_pmr_el1", out(reg) value, options(nostack, preserves_flags));
    }
    value as u8
}

/// Disables an SPI.
pub fn disable_spi(intid: u32) {
    let word = u64::from(intid / 32) * 4;
    write(
        machine().distributor + GICD_ICENABLER + word,
        1 << (intid % 32),
    );
}

/// What an SGI or PPI (0..32) of this vCPU can be told to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Property {
    /// GICR_ISENABLER0.
    Enabled,
    /// GICR_ISPENDR0.
    Pending,
    /// GICR_ISACTIVER0.
    Active,
}

impl Property {
    const fn set_register(self) -> u64 {
        match self {
            Self::Enabled => GICD_ISENABLER,
            Self::Pending => GICD_ISPENDR,
            Self::Active => GICD_ISACTIVER,
        }
    }
}

/// Whether an SGI or PPI (0..32) of this vCPU, or an SPI (32..288), is so.
pub fn is(property: Property, intid: u32) -> bool {
    read(frame_of(intid) + property.set_register() + word_of(intid)) & bit_of(intid) != 0
}

/// Makes an SGI or PPI (0..32) of this vCPU, or an SPI (32..288), so or not.
pub fn set(property: Property, intid: u32, to: bool) {
    // The registers that clear are behind those that set.
    let register = property.set_register() + if to { 0 } else { 0x80 };
    write(frame_of(intid) + register + word_of(intid), bit_of(intid));
    // Not before a disabled interrupt is gone: RWP.
    let control = if intid < 32 {
        own_frame() - SGI_BASE
    } else {
        machine().distributor
    };
    let pending_write = if intid < 32 { 1 << 3 } else { 1 << 31 };
    while read(control + GICD_CTLR) & pending_write != 0 {
        core::hint::spin_loop();
    }
}

const fn word_of(intid: u32) -> u64 {
    intid as u64 / 32 * 4
}

const fn bit_of(intid: u32) -> u32 {
    1 << (intid % 32)
}

fn frame_of(intid: u32) -> u64 {
    if intid < 32 {
        own_frame()
    } else {
        machine().distributor
    }
}

/// Sets the priority from which on interrupts are not taken (ICC_PMR_EL1).
pub fn set_priority_mask(priority: u8) {
    // SAFETY: it changes the interrupt controller's state only.
    unsafe {
        asm!("msr icc_pmr_el1, {}", "isb", in(reg) u64::from(priority), options(nostack, preserves_flags));
    }
}

/// The priority that runs (ICC_RPR_EL1).
pub fn running_priority() -> u8 {
    let priority: u64;
    // SAFETY: reading has no effect.
    unsafe { asm!("mrs {}, icc_rpr_el1", out(reg) priority, options(nostack, preserves_flags)) };
    priority as u8
}

/// Has [`end`] drop the priority only, so that [`deactivate`] has to follow (ICC_CTLR_EL1.EOImode), or do both.
pub fn split_end(split: bool) {
    // SAFETY: it changes the interrupt controller's state only.
    unsafe {
        asm!("msr icc_ctlr_el1, {}", "isb", in(reg) u64::from(split) << 1, options(nostack, preserves_flags));
    }
}

/// Deactivates an interrupt that [`end`] did not (ICC_DIR_EL1).
pub fn deactivate(intid: u32) {
    // SAFETY: it changes the interrupt controller's state only.
    unsafe {
        asm!("msr icc_dir_el1, {}", "isb", in(reg) u64::from(intid), options(nostack, preserves_flags));
    }
}

/// What to write to `ICC_SGI1R_EL1` to interrupt a vCPU (affinity level 0 below 16).
pub const fn sgi_to(cpu: usize) -> u64 {
    SGI << 24 | 1 << cpu
}

/// Interrupts another vCPU (affinity level 0 below 16), which does not have to do anything about it.
pub fn poke(cpu: usize) {
    let target = sgi_to(cpu);
    // SAFETY: generating an interrupt changes the interrupt controller's state only.
    unsafe {
        asm!("msr icc_sgi1r_el1, {}", "isb", in(reg) target, options(nostack, preserves_flags));
    }
}

/// Takes the most urgent pending interrupt, if there is one. [`end`] has to follow.
pub fn take() -> Option<u32> {
    let intid: u64;
    // SAFETY: acknowledging changes the interrupt controller's state only.
    unsafe {
        asm!("dsb sy", "mrs {}, icc_iar1_el1", "dsb sy", out(reg) intid, options(nostack, preserves_flags));
    }
    (intid < SPURIOUS).then_some(intid as u32)
}

/// Ends an interrupt that [`take`] gave.
pub fn end(intid: u32) {
    // SAFETY: ending changes the interrupt controller's state only.
    unsafe {
        asm!("msr icc_eoir1_el1, {}", "isb", in(reg) u64::from(intid), options(nostack, preserves_flags));
    }
}

/// Takes and ends all that is pending. A timer that is due is to be disarmed before.
pub fn drain() {
    while let Some(intid) = take() {
        match intid {
            VIRTUAL_TIMER => Timer::Virtual.set_control(0),
            EL2_INTID => timers::disarm_el2(),
            PHYSICAL_TIMER => Timer::Physical.set_control(0),
            _ => {}
        }
        end(intid);
    }
}
