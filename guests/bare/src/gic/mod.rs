// SPDX-License-Identifier: Apache-2.0 OR MIT
//! As much of a GICv2 or GICv3 as polling needs: interrupts stay masked and are asked for.
//!
//! Which of the two the machine has is read from its tree. The functions here work on both; what only one has is in
//! [`v2`] and [`v3`].

pub mod v2;
pub mod v3;

use crate::machine::{at_el2, cpu_index, machine};
use crate::timers::{self, EL2_INTID, Timer};
use v2::CpuInterface;
use v3::Redistributors;

const GICD_CTLR: u64 = 0;
const GICD_TYPER: u64 = 4;
const GICD_IGROUPR: u64 = 0x80;
const GICD_ISENABLER: u64 = 0x100;
const GICD_ICENABLER: u64 = 0x180;
const GICD_ISPENDR: u64 = 0x200;
const GICD_ICPENDR: u64 = 0x280;
const GICD_ISACTIVER: u64 = 0x300;
const GICD_ICACTIVER: u64 = 0x380;
const GICD_IPRIORITYR: u64 = 0x400;
const GICD_ICFGR: u64 = 0xc00;
/// The one software generated interrupt that is used.
const SGI: u32 = 1;
/// [`poke`]'s interrupt, as [`take`] gives it.
pub const POKE: u32 = SGI;
const VIRTUAL_TIMER: u32 = Timer::Virtual.intid();
const PHYSICAL_TIMER: u32 = Timer::Physical.intid();
/// The first INTID that means that no interrupt is pending.
const SPURIOUS: u32 = 1020;

/// The parts of the interrupt controller that depend on its version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gic {
    /// A GICv2, with the CPU interface in memory.
    V2(CpuInterface),
    /// A GICv3, with redistributors and system registers.
    V3(Redistributors),
}

fn read(address: u64) -> u32 {
    // SAFETY: a register of the GIC that the tree names, mapped as device memory.
    unsafe { core::ptr::read_volatile(address as *const u32) }
}

fn write(address: u64, value: u32) {
    // SAFETY: as in `read`; nothing here has the GIC write memory.
    unsafe { core::ptr::write_volatile(address as *mut u32, value) };
}

fn read_byte(address: u64) -> u8 {
    // SAFETY: as in `read`; a register that is byte accessible.
    unsafe { core::ptr::read_volatile(address as *const u8) }
}

fn write_byte(address: u64, value: u8) {
    // SAFETY: as in `write`; a register that is byte accessible.
    unsafe { core::ptr::write_volatile(address as *mut u8, value) };
}

/// Turns the distributor on, and this vCPU's part.
pub fn init() {
    match machine().gic {
        // Group 0, or the only group that the program sees.
        Gic::V2(_) => write(machine().distributor + GICD_CTLR, 1),
        Gic::V3(_) => v3::init_distributor(),
    }
    init_cpu();
}

/// Turns this vCPU's part on, with the timer's interrupt.
pub fn init_cpu() {
    if let Gic::V3(redistributors) = machine().gic {
        redistributors.init();
    }
    let frame = private_frame();
    for register in 0..8 {
        write(frame + GICD_IPRIORITYR + register * 4, 0xa0a0_a0a0);
    }
    let el2 = u32::from(at_el2()) << EL2_INTID;
    write(frame + GICD_ISENABLER, 1 << VIRTUAL_TIMER | 1 << SGI | el2);
    match machine().gic {
        Gic::V2(interface) => interface.init(),
        Gic::V3(_) => v3::init_interface(),
    }
}

/// Makes all interrupts of this vCPU, and all SPIs, inactive, not pending and disabled, and then does what [`init`]
/// does. Other vCPUs' private interrupts stay as they are.
pub fn reset() {
    reset_private();
    let distributor = machine().distributor;
    let words = u64::from(read(distributor + GICD_TYPER) & 0x1f);
    for word in 1..=words {
        clear_states(distributor + word * 4);
    }
    init();
}

/// Does so for this vCPU's private interrupts, and its priorities.
pub fn reset_private() {
    clear_states(private_frame());
    match machine().gic {
        Gic::V2(interface) => {
            (0..16).for_each(|sgi| v2::clear_sgi_pending(sgi, u8::MAX));
            interface.reset();
        }
        Gic::V3(_) => v3::reset_interface(),
    }
    restore_groups();
    init_cpu();
}

/// For the 32 interrupts of a word. `frame` is the address of the registers with that word's offset.
fn clear_states(frame: u64) {
    for register in [GICD_ICENABLER, GICD_ICPENDR, GICD_ICACTIVER] {
        write(frame + register, u32::MAX);
    }
}

/// Enables an SPI (32..288), delivered to this vCPU.
pub fn enable_spi(intid: u32) {
    let distributor = machine().distributor;
    let priority = distributor + GICD_IPRIORITYR + u64::from(intid & !3);
    write(priority, 0xa0a0_a0a0);
    if let Gic::V3(_) = machine().gic {
        let group = distributor + GICD_IGROUPR + word_of(intid);
        write(group, read(group) | bit_of(intid));
    }
    route(intid, cpu_index());
    write(distributor + GICD_ISENABLER + word_of(intid), bit_of(intid));
}

/// Makes an SPI edge-triggered, before it is enabled.
pub fn set_edge_triggered(intid: u32) {
    let register = machine().distributor + GICD_ICFGR + u64::from(intid / 16 * 4);
    write(register, read(register) | 2 << (intid % 16 * 2));
}

/// Disables an SPI.
pub fn disable_spi(intid: u32) {
    let register = machine().distributor + GICD_ICENABLER;
    write(register + word_of(intid), bit_of(intid));
}

/// Delivers an SPI to a vCPU.
pub fn route(intid: u32, cpu: usize) {
    match machine().gic {
        Gic::V2(_) => v2::set_targets(intid, 1 << cpu),
        Gic::V3(_) => v3::route(intid, cpu),
    }
}

/// An interrupt group. Those of group 0 are FIQs, those of group 1 are IRQs; asked for, both are had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    /// Group 0, to which everything belongs in a GICv2 after [`init`]. There these are IRQs, too.
    Zero,
    /// Group 1, to which everything belongs in a GICv3 after [`init`].
    One,
}

/// The group to which everything belongs after [`init`].
pub fn own_group() -> Group {
    match machine().gic {
        Gic::V2(_) => Group::Zero,
        Gic::V3(_) => Group::One,
    }
}

/// This vCPU's registers for SGIs and PPIs.
fn private_frame() -> u64 {
    match machine().gic {
        Gic::V2(_) => machine().distributor,
        Gic::V3(redistributors) => redistributors.private_frame(),
    }
}

/// Enables private interrupts of this vCPU, a bit each.
pub fn enable_private(bits: u32) {
    write(private_frame() + GICD_ISENABLER, bits);
}

/// Disables private interrupts of this vCPU, a bit each. In a GICv2 SGIs may stay enabled (IHI 0048B.b 4.3.5).
pub fn disable_private(bits: u32) {
    write(private_frame() + GICD_ICENABLER, bits);
}

/// Which private interrupts of this vCPU are active, a bit each.
pub fn active_private() -> u32 {
    read(private_frame() + GICD_ISACTIVER)
}

/// Sets the priority of a private interrupt of this vCPU.
pub fn set_private_priority(intid: u32, priority: u8) {
    write_byte(
        private_frame() + GICD_IPRIORITYR + u64::from(intid),
        priority,
    );
}

/// Puts the private interrupts of this vCPU into groups: a bit that is set means group 1.
pub fn set_private_groups(bits: u32) {
    write(private_frame() + GICD_IGROUPR, bits);
}

/// Has the distributor forward a group, or not any more.
pub fn forward(group: Group, on: bool) {
    let control = machine().distributor + GICD_CTLR;
    let bit = match group {
        Group::Zero => 1,
        Group::One => 1 << 1,
    };
    let others = read(control) & !bit;
    write(control, if on { others | bit } else { others });
}

/// Enables or disables a group at this vCPU's interface.
pub fn enable_group(group: Group, on: bool) {
    match machine().gic {
        Gic::V2(interface) => interface.enable_group(group, on),
        Gic::V3(_) => v3::enable_group(group, on),
    }
}

/// Has all private interrupts of this vCPU belong to the group of [`own_group`], the only one that is on.
pub fn restore_groups() {
    for group in [Group::Zero, Group::One] {
        let own = group == own_group();
        enable_group(group, own);
        forward(group, own);
    }
    match machine().gic {
        Gic::V2(interface) => {
            interface.restore_groups();
            set_private_groups(0);
        }
        Gic::V3(_) => set_private_groups(u32::MAX),
    }
}

/// Generates an SGI (0 to 15) at the vCPUs of `targets`, a bit each.
pub fn send(sgi: u32, targets: u16) {
    send_as(own_group(), sgi, targets);
}

/// Generates an SGI of a group. In a GICv2 an SGI has the group that its target gives it.
pub fn send_as(group: Group, sgi: u32, targets: u16) {
    match machine().gic {
        Gic::V2(_) => v2::send(v2::sgi(sgi, targets)),
        Gic::V3(_) => v3::send(group, v3::sgi(sgi, targets)),
    }
}

/// Takes the most urgent pending interrupt of a group. [`end_as`] has to follow. A GICv2 gives those of all groups that
/// are enabled.
pub fn take_as(group: Group) -> Option<u32> {
    match machine().gic {
        Gic::V2(interface) => interface.take(),
        Gic::V3(_) => v3::take(group),
    }
}

/// Ends an interrupt that [`take_as`] gave.
pub fn end_as(group: Group, intid: u32) {
    match machine().gic {
        Gic::V2(interface) => interface.end(intid),
        Gic::V3(_) => v3::end(group, intid),
    }
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
    if let (Gic::V2(_), Property::Pending, 0..16) = (machine().gic, property, intid) {
        return if to {
            v2::set_sgi_pending(intid, 1 << cpu_index());
        } else {
            v2::clear_sgi_pending(intid, u8::MAX);
        };
    }
    // The registers that clear are behind those that set.
    let register = property.set_register() + if to { 0 } else { 0x80 };
    write(frame_of(intid) + register + word_of(intid), bit_of(intid));
    if let Gic::V3(redistributors) = machine().gic {
        // Not before a disabled interrupt is gone.
        redistributors.settle(intid);
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
        private_frame()
    } else {
        machine().distributor
    }
}

/// The priority from which on interrupts are held back.
pub fn priority_mask() -> u8 {
    match machine().gic {
        Gic::V2(interface) => interface.priority_mask(),
        Gic::V3(_) => v3::priority_mask(),
    }
}

/// Sets the priority from which on interrupts are not taken.
pub fn set_priority_mask(priority: u8) {
    match machine().gic {
        Gic::V2(interface) => interface.set_priority_mask(priority),
        Gic::V3(_) => v3::set_priority_mask(priority),
    }
}

/// The priority that runs.
pub fn running_priority() -> u8 {
    match machine().gic {
        Gic::V2(interface) => interface.running_priority(),
        Gic::V3(_) => v3::running_priority(),
    }
}

/// Whether [`end`] drops the priority only, see [`split_end`].
pub fn is_split_end() -> bool {
    match machine().gic {
        Gic::V2(interface) => interface.is_split_end(),
        Gic::V3(_) => v3::is_split_end(),
    }
}

/// Has [`end`] drop the priority only, so that [`deactivate`] has to follow (EOImode), or do both.
pub fn split_end(split: bool) {
    match machine().gic {
        Gic::V2(interface) => interface.split_end(split),
        Gic::V3(_) => v3::split_end(split),
    }
}

/// Deactivates an interrupt that [`end`] did not.
pub fn deactivate(intid: u32) {
    match machine().gic {
        Gic::V2(interface) => interface.deactivate(intid),
        Gic::V3(_) => v3::deactivate(intid),
    }
}

/// A write that has the interrupt controller do something, for programs that count the instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Write {
    /// What is written.
    pub value: u64,
    /// Where to in memory; nothing where it is a system register.
    pub address: Option<u64>,
}

/// The write that interrupts a vCPU, see [`poke`]. The system register is `ICC_SGI1R_EL1`.
pub fn poke_write(cpu: usize) -> Write {
    match machine().gic {
        Gic::V2(_) => Write {
            value: v2::sgi(SGI, 1 << cpu).into(),
            address: Some(machine().distributor + v2::GICD_SGIR),
        },
        Gic::V3(_) => Write {
            value: v3::sgi(SGI, 1 << cpu),
            address: None,
        },
    }
}

/// The write that ends an interrupt, see [`end`]. The system register is `ICC_EOIR1_EL1`.
pub fn end_write(intid: u32) -> Write {
    match machine().gic {
        Gic::V2(interface) => Write {
            value: v2::word(intid).into(),
            address: Some(interface.0 + v2::GICC_EOIR),
        },
        Gic::V3(_) => Write {
            value: intid.into(),
            address: None,
        },
    }
}

/// Interrupts another vCPU (affinity level 0 below 8), which does not have to do anything about it.
pub fn poke(cpu: usize) {
    send(SGI, 1 << cpu);
}

/// Takes the most urgent pending interrupt, if there is one. [`end`] has to follow.
pub fn take() -> Option<u32> {
    take_as(own_group())
}

/// Ends an interrupt that [`take`] gave.
pub fn end(intid: u32) {
    end_as(own_group(), intid);
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
