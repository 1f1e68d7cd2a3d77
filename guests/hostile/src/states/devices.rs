// SPDX-License-Identifier: Apache-2.0 OR MIT
//! States in which devices work by themselves: transfers, interrupts, and frames under way on a link.

use super::running::{begin, begun, running_application};
use super::{State, hold, state};
use crate::attack::holds;
use crate::devices::{FRAME, disk, edu, net, target};
use crate::kit::{Kit, of_client};
use crate::parked::Parked;
use alloc::string::String;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use guest_bare::disk::{Disk, REQUESTS};
use guest_bare::edu::{BUFFER_BYTES, TRANSFER_TIME};
use guest_bare::machine::machine;
use guest_bare::pages::Pages;
use guest_bare::tee::apps;
use guest_bare::virtio::{Net, PAUSE, RECEIVE, TRANSMIT};
use guest_bare::{gic, timer};

/// The states of this kind.
pub const STATES: &[State] = &[
    state("dma-write", |_| own_ram(write_for_ever)),
    state("dma-read", |_| own_ram(read_for_ever)),
    state("dma-refused", |_| {
        edu()?;
        begin(1, refused_for_ever);
        Ok(())
    }),
    state("dma-cut-off", dma_cut_off),
    state("dma-shared", dma_shared),
    state("disk-reading", |_| {
        begin(1, read_disk_for_ever);
        Ok(())
    }),
    state("interrupt-pending", interrupt_pending),
    state("interrupt-active", interrupt_active),
    state("interrupt-storm", |_| {
        edu()?;
        begin(1, storm_for_ever);
        Ok(())
    }),
    state("link-sending", |_| {
        begin(1, send_for_ever);
        Ok(())
    }),
    state("link-full", |_| hold(full(0))),
    state("link-waiting", |_| hold(full(PAUSE))),
    state("link-and-dma", |_| {
        own_ram(write_for_ever)?;
        begin(2, send_for_ever);
        Ok(())
    }),
];

/// The distance of two refused accesses: all of the machine's RAM is tried, and not only one page.
const STEP: u64 = 96 << 20;
/// The RAM of QEMU's machine.
const RAM: core::ops::Range<u64> = 0x4000_0000..0x1_0000_0000;
/// RAM of another VM.
const OTHERS: u64 = 0x9000_0000;
/// How often the device is given eight refused transfers, at most.
const CUT_OFF: usize = 8;
/// The most time until the link takes no more frames.
const FULL: Duration = Duration::from_millis(300);

/// The bytes of a transfer to or from the VM's own RAM.
const HALF: u64 = BUFFER_BYTES / 2;

/// Where the device accesses the VM's own RAM.
static PAGE: AtomicU64 = AtomicU64::new(0);

/// Has the device access a page that is the VM's and used for nothing else.
fn own_ram(access: fn(u64)) -> Result<(), String> {
    edu()?;
    PAGE.store(target().address(), Ordering::Release);
    begin(1, access);
    Ok(())
}

fn write_for_ever(_: u64) {
    let edu = edu().expect("the device was there");
    let page = PAGE.load(Ordering::Acquire);
    loop {
        edu.begin_store(page, HALF);
        begun();
        timer::sleep(TRANSFER_TIME);
    }
}

fn read_for_ever(_: u64) {
    let edu = edu().expect("the device was there");
    let page = PAGE.load(Ordering::Acquire);
    loop {
        edu.begin_load(page, HALF);
        begun();
        timer::sleep(TRANSFER_TIME);
    }
}

/// The device reads and writes the RAM of others. What is refused ends its access to memory for this life.
fn refused_for_ever(_: u64) {
    let edu = edu().expect("the device was there");
    let is_own = |address: &u64| machine().banks.iter().any(|bank| bank.contains(*address));
    loop {
        let targets = RAM.step_by(STEP as usize);
        for target in targets.filter(|address| !is_own(address)) {
            edu.load(target, 64);
            edu.store(target, BUFFER_BYTES);
            // The state is reached with the first of them.
            begun();
        }
    }
}

/// So much was refused that the device has no access to memory any more.
fn dma_cut_off(_: &Kit) -> Result<(), String> {
    let edu = edu()?;
    let pages = Pages::take(1);
    holds(edu.load(pages.address(), 8), "the device reads a page")?;
    for _ in 0..CUT_OFF {
        // Of the accesses of one transfer no more are counted than the SMMU's queue of events has room for.
        for _ in 0..8 {
            edu.store(OTHERS, BUFFER_BYTES);
        }
        pages.write_u64(0, OTHERS);
        edu.store(pages.address(), 8);
        if pages.read_u64(0) == OTHERS {
            return Ok(());
        }
    }
    Err("the device still accesses the VM's RAM".into())
}

/// The device writes into a buffer that OP-TEE uses, for a call that waits and for one that runs.
fn dma_shared(kit: &Kit) -> Result<(), String> {
    edu()?;
    let busy = running_application(kit, 2)?;
    // The application has the first half.
    PAGE.store(busy.page + HALF, Ordering::Release);
    begin(1, write_for_ever);
    let opened = kit.client.open(&kit.supplicant, apps::STATS);
    let session = of_client("open stats.pta", opened)?;
    hold(Parked::at_get_time(kit, session))
}

/// The disk has as many requests as it can have, each of a part of the target.
fn read_disk_for_ever(_: u64) {
    let mut disk = disk().expect("the disk was there");
    let part = target().bytes() / u64::from(REQUESTS);
    let begin = |disk: &mut Disk, request: u16| {
        disk.begin_read(
            request,
            target().address() + u64::from(request) * part,
            part,
        );
    };
    (0..REQUESTS).for_each(|request| begin(&mut disk, request));
    loop {
        if let Some((request, _)) = disk.take_ended() {
            begin(&mut disk, request);
            begun();
        }
    }
}

/// An interrupt waits for a vCPU that is off.
fn interrupt_pending(_: &Kit) -> Result<(), String> {
    let edu = edu()?;
    gic::enable_spi(edu.intid());
    gic::route(edu.intid(), 2);
    edu.raise();
    Ok(())
}

/// An interrupt is active, and its line stays asserted.
fn interrupt_active(_: &Kit) -> Result<(), String> {
    let edu = edu()?;
    gic::enable_spi(edu.intid());
    edu.raise();
    while gic::take() != Some(edu.intid()) {}
    // Only its priority is dropped, so that the others go on.
    gic::split_end(true);
    gic::end(edu.intid());
    gic::split_end(false);
    Ok(())
}

/// A line stays asserted, whatever the guest ends.
fn storm_for_ever(_: u64) {
    let edu = edu().expect("the device was there");
    gic::enable_spi(edu.intid());
    edu.raise();
    loop {
        if let Some(intid) = gic::take() {
            gic::end(intid);
            begun();
        }
    }
}

/// The neighbour answers as many frames as it can.
fn send_for_ever(_: u64) {
    let mut net = net().expect("the link was there");
    net.set_interrupt(false);
    loop {
        net.reclaim();
        while net.has_room() {
            net.send(2, FRAME);
        }
        net.notify(TRANSMIT);
        while net.receive().is_some() {
            begun();
        }
    }
}

/// Sends frames until no more go out, and takes no answers. With [`PAUSE`] the neighbour takes none of them either.
fn full(first: u8) -> Result<Net, String> {
    let mut net = net()?;
    net.set_interrupt(false);
    net.send(first, FRAME);
    net.notify(TRANSMIT);
    let deadline = timer::Deadline::after(FULL);
    while !deadline.passed() {
        net.reclaim();
        while net.has_room() {
            net.send(2, FRAME);
        }
        net.notify(TRANSMIT);
        if first != PAUSE && net.used(RECEIVE) >= guest_bare::virtio::SIZE {
            break;
        }
    }
    Ok(net)
}
