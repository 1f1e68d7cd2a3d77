// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks of the VM's devices, in a life that may follow one that was ended while they worked: QEMU's `edu` and a
//! disk on the PCI bus, and a link.

use crate::attack::{holds, same};
use alloc::format;
use alloc::string::String;
use core::time::Duration;
use guest_bare::disk::Disk;
use guest_bare::edu::Edu;
use guest_bare::pages::Pages;
use guest_bare::virtio::{ANSWER, Net, RECEIVE, TRANSMIT};
use guest_bare::{PAGE_SIZE, gic, timer};
use spin::Once;

/// The pages of [`target`].
const TARGET_PAGES: usize = 256;
/// Each word on the disk.
const CONTENT: u64 = 0x6b73_6964_6b73_6964;
/// The bytes of a transfer.
const BYTES: u64 = 256;
/// The most time for an interrupt.
const SOON: Duration = Duration::from_secs(5);
/// The most time for the neighbour's answer. It may rest first.
const PATIENCE: Duration = Duration::from_secs(20);
/// The time between two frames to the neighbour.
const AGAIN: Duration = Duration::from_millis(200);
/// The bytes of a frame.
pub const FRAME: u32 = 1514;

/// Finds the device.
///
/// # Errors
/// Fails when there is none.
pub fn edu() -> Result<Edu, String> {
    Edu::find().ok_or_else(|| "there is no edu device".into())
}

/// Finds the disk.
///
/// # Errors
/// Fails when there is none.
pub fn disk() -> Result<Disk, String> {
    Disk::find().ok_or_else(|| "there is no disk".into())
}

/// Sets the end of the link up.
///
/// # Errors
/// Fails when there is no link.
pub fn net() -> Result<Net, String> {
    Net::start().ok_or_else(|| "there is no link".into())
}

/// The pages that devices write in earlier lives, where nothing must arrive in this one.
static TARGET: Once<Pages> = Once::new();

/// Returns those pages, the same ones in each life.
pub fn target() -> &'static Pages {
    TARGET.call_once(|| Pages::take_last(TARGET_PAGES))
}

/// Checks that devices interrupt the VM, access its RAM and reach its neighbour, and that nothing is left of what they
/// did in an earlier life.
///
/// # Errors
/// Fails with what is not so.
pub fn check() -> Result<(), String> {
    let edu = edu()?;
    interrupts(&edu)?;
    accesses(&edu)?;
    reads(&mut disk()?)?;
    // What was under way when the last life ended would have arrived meanwhile.
    for offset in (0..target().bytes() as usize).step_by(8) {
        let found = target().read_u64(offset);
        same("a word that nothing writes", &found, &0)?;
    }
    link()
}

/// Takes an interrupt; `None` where none is pending.
fn take(intid: u32) -> Option<u32> {
    // Others may be pending, such as a notification of OP-TEE's.
    while let Some(taken) = gic::take() {
        if taken == intid {
            return Some(taken);
        }
        gic::end(taken);
    }
    None
}

/// The device interrupts when it is told to, once each time.
fn interrupts(edu: &Edu) -> Result<(), String> {
    let intid = edu.intid();
    gic::enable_spi(intid);
    same("an interrupt before the first", &take(intid), &None)?;
    for _ in 0..2 {
        edu.raise();
        let came = timer::Deadline::after(SOON).wait(|| take(intid).is_some());
        edu.acknowledge();
        gic::end(intid);
        holds(came, "the device does not interrupt")?;
        same("an interrupt that was acknowledged", &take(intid), &None)?;
    }
    gic::disable_spi(intid);
    Ok(())
}

/// The disk reads, and interrupts once.
fn reads(disk: &mut Disk) -> Result<(), String> {
    let pages = Pages::take(1);
    let intid = disk.intid();
    gic::enable_spi(intid);
    same("an interrupt before the first read", &take(intid), &None)?;
    disk.begin_read(0, pages.address(), PAGE_SIZE);
    let came = timer::Deadline::after(SOON).wait(|| take(intid).is_some());
    disk.acknowledge();
    gic::end(intid);
    gic::disable_spi(intid);
    holds(came, "the disk does not interrupt")?;
    same("the read", &disk.take_ended(), &Some((0, true)))?;
    for offset in (0..PAGE_SIZE as usize).step_by(8) {
        same("a word of the disk", &pages.read_u64(offset), &CONTENT)?;
    }
    Ok(())
}

/// The device copies from a page to another.
fn accesses(edu: &Edu) -> Result<(), String> {
    let pages = Pages::take(2);
    let sample = |offset: usize| timer::frequency() ^ offset as u64;
    let words = || (0..BYTES as usize).step_by(8);
    words().for_each(|offset| pages.write_u64(offset, sample(offset)));
    let done = edu.load(pages.page(0), BYTES) && edu.store(pages.page(1), BYTES);
    holds(done, "the device does not end a transfer")?;
    for offset in words() {
        let found = pages.read_u64(PAGE_SIZE as usize + offset);
        same("a word that the device has copied", &found, &sample(offset))?;
    }
    Ok(())
}

/// The neighbour answers a frame of this life.
fn link() -> Result<(), String> {
    let mut net = net()?;
    let deadline = timer::Deadline::after(PATIENCE);
    holds(deadline.wait(|| net.is_up()), "the link does not come up")?;
    // Below the bits of what the neighbour knows, and not the sign of a group.
    let first = (timer::now() as u8) & 0x1e;
    let (mut sent, mut others) = (0, 0);
    while !deadline.passed() {
        net.reclaim();
        if net.has_room() {
            net.send(first, FRAME);
            sent += 1;
        }
        net.want_interrupt();
        net.notify(TRANSMIT);
        let again = timer::Deadline::after(AGAIN);
        while again.wait(|| net.used(RECEIVE) != 0) {
            net.acknowledge();
            // Answers to an earlier life may be among them.
            while let Some(frame) = net.receive() {
                if frame == (first | ANSWER, FRAME) {
                    return Ok(());
                }
                others += 1;
            }
        }
    }
    Err(format!(
        "the neighbour answers no frame {first:#x}: {sent} sent, {} of them taken, {others} answers to others",
        sent - net.in_flight()
    ))
}
