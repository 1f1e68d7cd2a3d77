// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the device is told to access.

use alloc::format;
use alloc::string::String;
use core::time::Duration;
use guest_bare::edu::Edu;
use guest_bare::event::Event;
use guest_bare::machine::machine;
use guest_bare::pages::Pages;
use guest_bare::{PAGE_SIZE, psci, timer};

/// What is written to where it must not arrive.
const WRITTEN: u64 = 0x444d_415f_5752_4f4e;
/// What the device's buffer holds before it reads what it must not see.
const BEFORE: u64 = 0x6265_666f_7265_5f5f;
/// The value of the device's register after the first life.
const SECOND_LIFE: u32 = 0x0002_11fe;
/// Bytes of a transfer.
const BYTES: u64 = 64;
/// The page into which the device writes while the VM is reset: in the middle of RAM, where nothing is loaded.
const PAGE: u64 = 0x0100_0000;
/// The distance of two accesses to all of RAM, in bytes.
const STEP: u64 = 96 << 20;
/// The end of the machine's RAM in QEMU.
const RAM_END: u64 = 0x1_0000_0000;

/// What lies where in QEMU's machine, and who owns it.
const TARGETS: [(&str, u64); 12] = [
    ("firmware", 0),
    ("distributor", 0x0800_0000),
    ("its", 0x0809_0040),
    ("redistributor", 0x080a_0000),
    ("uart", 0x0900_0000),
    ("smmu", 0x0905_0000),
    ("optee", 0x0e10_0000),
    ("boot-tree", 0x4000_0000),
    ("image", 0x4020_0000),
    ("optee-shm", 0x4200_0000),
    ("other-ram", 0x9000_0000),
    ("beyond", 1 << 41),
];

fn case(name: &str, result: Result<(), String>) {
    let event = Event::new("case")
        .text("name", name)
        .flag("ok", result.is_ok());
    match result {
        Ok(()) => event.send(),
        Err(text) => event.text("text", &text).send(),
    }
}

/// Whether an address is RAM of this VM.
fn is_own(address: u64) -> bool {
    let banks = &machine().banks;
    banks.iter().any(|bank| bank.contains(address))
}

/// Plays all cases of this life.
pub fn run() {
    let Some(edu) = Edu::find() else {
        case("device", Err("there is no edu device".into()));
        return;
    };
    if edu.kept() == SECOND_LIFE {
        second_life(&edu);
        return;
    }
    let pages = Pages::take(2);
    case("own-ram", own_ram(&edu, &pages));
    for (name, target) in TARGETS.iter().filter(|(_, target)| !is_own(*target)) {
        case(&format!("read-{name}"), read(&edu, &pages, *target));
    }
    for (name, target) in TARGETS.iter().filter(|(_, target)| !is_own(*target)) {
        pages.fill(WRITTEN);
        let done = edu.load(pages.address(), BYTES) && edu.store(*target, BYTES);
        let result = done.then_some(()).ok_or("the device does not end".into());
        case(&format!("write-{name}"), result);
    }
    // The machine's RAM, as far as this VM's own addresses do not cover it.
    let targets = (0x4000_0000..RAM_END).step_by(STEP as usize);
    let mut count = 0;
    for target in targets.filter(|target| !is_own(*target)) {
        count += u32::from(edu.store(target, BYTES));
    }
    let result = (count > 0).then_some(()).ok_or("none".into());
    case("write-all-ram", result);
    case("own-ram-again", own_ram(&edu, &pages));

    // The device accesses memory 100 ms after it is told to.
    pages.fill(WRITTEN);
    edu.load(pages.address(), BYTES);
    edu.keep(SECOND_LIFE);
    Event::new("reset").send();
    edu.begin_store(machine().ram.start + PAGE, BYTES);
    psci::system_reset();
}

/// The device reads what the VM has, and writes it elsewhere in the VM.
fn own_ram(edu: &Edu, pages: &Pages) -> Result<(), String> {
    pages.fill(0);
    for offset in (0..BYTES as usize).step_by(8) {
        pages.write_u64(offset, WRITTEN + offset as u64);
    }
    if !edu.load(pages.page(0), BYTES) || !edu.store(pages.page(1), BYTES) {
        return Err("the device does not end".into());
    }
    for offset in (0..BYTES as usize).step_by(8) {
        let found = pages.read_u64(PAGE_SIZE as usize + offset);
        if found != WRITTEN + offset as u64 {
            return Err(format!("{found:#x} at {offset}"));
        }
    }
    Ok(())
}

/// The device reads what the VM must not see. A refused read gives zeroes or nothing.
fn read(edu: &Edu, pages: &Pages, target: u64) -> Result<(), String> {
    pages.fill(BEFORE);
    let done = edu.load(pages.page(0), BYTES)
        && edu.load(target, BYTES)
        && edu.store(pages.page(1), BYTES);
    if !done {
        return Err("the device does not end".into());
    }
    for offset in (0..BYTES as usize).step_by(8) {
        let found = pages.read_u64(PAGE_SIZE as usize + offset);
        if ![0, BEFORE, u64::MAX].contains(&found) {
            return Err(format!("{found:#x} at {offset}"));
        }
    }
    Ok(())
}

/// Nothing of the earlier life arrives.
fn second_life(edu: &Edu) {
    let address = machine().ram.start + PAGE;
    let look = || Pages::take_at(address, 1).map(|page| page.address());
    let before = guest_bare::probe::load(address);
    timer::sleep(Duration::from_millis(400));
    let after = guest_bare::probe::load(address);
    let result = (before == Ok(0) && after == Ok(0))
        .then_some(())
        .ok_or_else(|| format!("{before:x?}, then {after:x?}"));
    case("write-from-before-the-reset", result);
    // The page is free, and the device works.
    case("page", look().map(|_| ()).ok_or("it is taken".into()));
    case("own-ram-in-the-next-life", own_ram(edu, &Pages::take(2)));
    Event::new("dma-end").number("life", 2).send();
}
