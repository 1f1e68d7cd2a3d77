// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks what only a GICv2 has (IHI 0048B.b): sources of SGIs, target registers, groups at the CPU
//! interface.
//!
//! QEMU's model does not let a disabled group wait, delivers an SPI with two targets to both, and
//! does not move one that is pending. So none of these is checked.

use crate::check::{Case, Found, SOON, ensure, same, wait};
use crate::gic::{SELF, SPI, Used, nothing};
use core::sync::atomic::{AtomicU64, Ordering};
use guest_bare::cpu;
use guest_bare::gic::v2::{self, CpuInterface, FIQ_EN};
use guest_bare::gic::{self, Gic, Group, Property};
use guest_bare::machine::machine;
use guest_bare::sysreg::pending_exceptions;
use guest_bare::timer::Deadline;

/// Returns the cases of this group: none where there is no GICv2.
pub fn cases() -> &'static [Case] {
    match machine().gic {
        Gic::V2(_) => CASES,
        Gic::V3(_) => &[],
    }
}

const CASES: &[Case] = &[
    ("gicv2/type", kind),
    ("gicv2/sgi-names-its-source", names_its_source),
    ("gicv2/sgi-from-two-sources", two_sources),
    ("gicv2/source-waits-while-active", waits_while_active),
    ("gicv2/sources-by-register", sources_by_register),
    ("gicv2/sgi-target-filters", target_filters),
    ("gicv2/sgi-pending-registers-are-read-only", read_only),
    ("gicv2/targets-of-private", targets_of_private),
    ("gicv2/spi-moves", spi_moves),
    ("gicv2/group-1-needs-ackctl", needs_ackctl),
    ("gicv2/group-0-as-fiq", as_fiq),
    ("gicv2/binary-point", binary_point),
    ("gicv2/other-source-waits-for-dir", waits_for_dir),
];

const GICD_TYPER: u64 = 4;
const GICD_ICPIDR2: u64 = 0xfe8;
const GICC_BPR: u64 = 8;
const GICC_RPR: u64 = 0x14;
const GICC_HPPIR: u64 = 0x18;
const GICC_ABPR: u64 = 0x1c;
const GICC_IIDR: u64 = 0xfc;
/// GICC_IAR and GICC_HPPIR: no interrupt is pending, and one of group 1 that is not to be had.
const NONE: u32 = 1023;
const HIDDEN: u32 = 1022;
/// ISR_EL1.
const IRQ: u64 = 1 << 7;
const FIQ: u64 = 1 << 6;

fn interface() -> Result<CpuInterface, alloc::string::String> {
    match machine().gic {
        Gic::V2(interface) => Ok(interface),
        Gic::V3(_) => Err("there is no GICv2".into()),
    }
}

fn distributor(offset: u64) -> u32 {
    v2::read_distributor(offset)
}

/// Runs `work` on the other CPU, and waits until it has ended.
fn elsewhere(work: fn(u64)) -> Found {
    cpu::spawn(1, work, 0);
    ensure(cpu::join(1, 2 * SOON), "the other CPU does not end")
}

fn kind() -> Found {
    let kind = distributor(GICD_TYPER);
    same("GICD_TYPER.CPUNumber", kind >> 5 & 7, 1)?;
    same("GICD_TYPER.SecurityExtn", kind >> 10 & 1, 0)?;
    ensure(kind & 0x1f > 0, "there are no SPIs")?;
    same(
        "GICD_ICPIDR2.ArchRev",
        distributor(GICD_ICPIDR2) >> 4 & 0xf,
        2,
    )?;
    let version = interface()?.read(GICC_IIDR) >> 16 & 0xf;
    same("GICC_IIDR.Architecture_version", version, 2)
}

fn names_its_source() -> Found {
    let _used = Used::new();
    elsewhere(|_| gic::send(5, SELF))?;
    same("the interrupt", wait(), Some(5))?;
    same("its source", v2::source(5), 1)?;
    gic::end(5);
    gic::send(5, SELF);
    same("the interrupt", wait(), Some(5))?;
    same("its source", v2::source(5), 0)?;
    gic::end(5);
    nothing()
}

fn two_sources() -> Found {
    let _used = Used::new();
    elsewhere(|_| gic::send(6, SELF))?;
    gic::send(6, SELF);
    // A second one from the same source is the same.
    gic::send(6, SELF);
    same("the sources", v2::pending_sources(6), 0b11)?;
    let mut seen = 0;
    for _ in 0..2 {
        same("the interrupt", wait(), Some(6))?;
        seen |= 1 << v2::source(6);
        gic::end(6);
    }
    same("the sources", seen, 0b11)?;
    nothing()
}

fn waits_while_active() -> Found {
    let _used = Used::new();
    gic::send(7, SELF);
    same("the interrupt", wait(), Some(7))?;
    elsewhere(|_| gic::send(7, SELF))?;
    ensure(gic::is(Property::Pending, 7), "it is not pending again")?;
    same("the sources", v2::pending_sources(7), 0b10)?;
    nothing()?;
    gic::end(7);
    same("the other", wait(), Some(7))?;
    same("its source", v2::source(7), 1)?;
    gic::end(7);
    nothing()
}

fn sources_by_register() -> Found {
    let _used = Used::new();
    gic::set_priority_mask(0);
    v2::set_sgi_pending(9, 0b11);
    same("the sources", v2::pending_sources(9), 0b11)?;
    v2::clear_sgi_pending(9, 0b01);
    same("the sources", v2::pending_sources(9), 0b10)?;
    ensure(gic::is(Property::Pending, 9), "it is not pending")?;
    gic::set_priority_mask(0xff);
    same("the interrupt", wait(), Some(9))?;
    same("its source", v2::source(9), 1)?;
    gic::end(9);
    gic::set_priority_mask(0);
    v2::set_sgi_pending(9, 0b10);
    v2::clear_sgi_pending(9, 0b10);
    ensure(!gic::is(Property::Pending, 9), "it is still pending")?;
    gic::set_priority_mask(0xff);
    nothing()
}

static SEEN: AtomicU64 = AtomicU64::new(0);

/// Takes what is there: a bit for each interrupt.
fn collect() -> u64 {
    let mut seen = 0;
    while let Some(intid) = gic::take() {
        seen |= 1 << intid;
        gic::end(intid);
    }
    seen
}

fn target_filters() -> Found {
    const OTHERS: u32 = 1 << 24;
    const OWN: u32 = 2 << 24;
    let _used = Used::new();
    SEEN.store(0, Ordering::Relaxed);
    cpu::spawn(
        1,
        |_| {
            gic::enable_private(0xffff);
            SEEN.store(1 << 63, Ordering::Release);
            let mut seen = 0;
            // The last one ends it.
            Deadline::after(SOON).wait(|| {
                seen |= collect();
                seen & 1 << 4 != 0
            });
            SEEN.store(seen, Ordering::Release);
        },
        0,
    );
    ensure(
        Deadline::after(SOON).wait(|| SEEN.load(Ordering::Acquire) != 0),
        "the other CPU does not start",
    )?;
    // The list of targets counts only without a filter; CPU 7 does not exist.
    v2::send(OTHERS | u32::from(SELF) << 16 | 2);
    v2::send(OWN | 0xff << 16 | 3);
    v2::send(0x82 << 16 | 4);
    ensure(cpu::join(1, 2 * SOON), "the other CPU does not end")?;
    same("there", SEEN.load(Ordering::Acquire), 1 << 2 | 1 << 4)?;
    same("here", collect(), 1 << 3)
}

fn read_only() -> Found {
    let _used = Used::new();
    v2::write_distributor(0x200, 1 << 8);
    ensure(!gic::is(Property::Pending, 8), "GICD_ISPENDR0 sets it")?;
    nothing()?;
    gic::set_priority_mask(0);
    gic::send(8, SELF);
    v2::write_distributor(0x280, 1 << 8);
    ensure(gic::is(Property::Pending, 8), "GICD_ICPENDR0 clears it")?;
    gic::set_priority_mask(0xff);
    same("the interrupt", wait(), Some(8))?;
    gic::end(8);
    nothing()
}

fn targets_of_private() -> Found {
    for intid in [0, 15, 16, 27, 31] {
        same("here", v2::targets(intid), 1)?;
        v2::set_targets(intid, 2);
        same("after a write", v2::targets(intid), 1)?;
    }
    same("as a word", distributor(v2::GICD_ITARGETSR), 0x0101_0101)?;
    elsewhere(|_| SEEN.store(v2::targets(30).into(), Ordering::Relaxed))?;
    same("there", SEEN.load(Ordering::Relaxed), 2)
}

fn spi_moves() -> Found {
    let _used = Used::new();
    gic::enable_spi(SPI);
    same("its target", v2::targets(SPI), 1)?;
    // As a part of a word.
    let register = v2::GICD_ITARGETSR + u64::from(SPI & !3);
    let shift = SPI % 4 * 8;
    v2::write_distributor(
        register,
        distributor(register) & !(0xff << shift) | 2 << shift,
    );
    same("its target", v2::targets(SPI), 2)?;
    gic::set(Property::Pending, SPI, true);
    same("here", gic::take(), None)?;
    SEEN.store(0, Ordering::Relaxed);
    elsewhere(|_| {
        if let Some(intid) = wait() {
            SEEN.store(intid.into(), Ordering::Relaxed);
            gic::end(intid);
        }
    })?;
    gic::set(Property::Enabled, SPI, false);
    gic::set(Property::Pending, SPI, false);
    same("there", SEEN.load(Ordering::Relaxed), SPI.into())?;
    nothing()
}

fn needs_ackctl() -> Found {
    let _used = Used::new();
    let interface = interface()?;
    gic::set_private_groups(1 << 3);
    gic::forward(Group::One, true);
    interface.write(v2::GICC_CTLR, v2::ENABLE_GRP0 | v2::ENABLE_GRP1);
    gic::send(3, SELF);
    let without = [GICC_HPPIR, v2::GICC_IAR].map(|register| interface.read(register));
    interface.write(
        v2::GICC_CTLR,
        v2::ENABLE_GRP0 | v2::ENABLE_GRP1 | v2::ACK_CTL,
    );
    let with = [GICC_HPPIR, v2::GICC_IAR].map(|register| interface.read(register));
    interface.write(v2::GICC_EOIR, 3);
    let behind = interface.read(v2::GICC_IAR);
    let priority = interface.read(GICC_RPR);
    gic::restore_groups();
    same("without AckCtl", without, [HIDDEN; 2])?;
    same("with AckCtl", with, [3; 2])?;
    same("behind it", behind, NONE)?;
    same("the idle priority", priority, 0xff)
}

fn as_fiq() -> Found {
    let _used = Used::new();
    let interface = interface()?;
    gic::send(3, SELF);
    let before = pending_exceptions();
    interface.write(v2::GICC_CTLR, v2::ENABLE_GRP0 | FIQ_EN);
    let with = pending_exceptions();
    let taken = wait();
    gic::end(3);
    let after = pending_exceptions();
    gic::restore_groups();
    same("ISR_EL1", before, IRQ)?;
    same("ISR_EL1 with FIQEn", with, FIQ)?;
    same("the interrupt", taken, Some(3))?;
    same("ISR_EL1 after its end", after, 0)
}

/// The binary point decides what preempts: 6 leaves one bit of the priority.
fn binary_point() -> Found {
    let _used = Used::new();
    let interface = interface()?;
    let [before, other] = [GICC_BPR, GICC_ABPR].map(|register| interface.read(register));
    interface.write(GICC_BPR, 6);
    let found = interface.read(GICC_BPR);
    gic::set_private_priority(2, 0x60);
    gic::set_private_priority(3, 0x40);
    gic::set_private_priority(4, 0x80);
    gic::send(4, SELF);
    let first = wait();
    gic::send(2, SELF);
    let second = wait();
    gic::send(3, SELF);
    let third = gic::take();
    gic::end(2);
    let fourth = wait();
    gic::end(3);
    gic::end(4);
    interface.write(GICC_BPR, before);
    same("GICC_BPR", found, 6)?;
    same("the first", first, Some(4))?;
    same("what preempts it", second, Some(2))?;
    same("in the same group", third, None)?;
    same("behind it", fourth, Some(3))?;
    same("GICC_BPR", interface.read(GICC_BPR), before)?;
    same("GICC_ABPR", interface.read(GICC_ABPR), other)?;
    nothing()
}

/// With EOImode an SGI stays active until GICC_DIR, and the other source waits for that.
fn waits_for_dir() -> Found {
    let _used = Used::new();
    elsewhere(|_| gic::send(10, SELF))?;
    gic::split_end(true);
    same("the interrupt", wait(), Some(10))?;
    same("its source", v2::source(10), 1)?;
    gic::send(10, SELF);
    gic::end(10);
    same("before it is deactivated", gic::take(), None)?;
    ensure(gic::is(Property::Active, 10), "it is not active")?;
    gic::deactivate(10);
    same("the other", wait(), Some(10))?;
    same("its source", v2::source(10), 0)?;
    gic::end(10);
    gic::deactivate(10);
    ensure(!gic::is(Property::Active, 10), "it is active after its end")?;
    nothing()
}
