// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A VM has a device of the machine for itself: QEMU's real-time clock, whose registers and level-sensitive interrupt
//! stock Linux's driver uses.

use anyhow::{Context, Result, ensure};
use postern_flat_tree::FlatTree;
use postern_qemu::board::BoardName;
use postern_qemu::config::System;
use postern_qemu::console::Channel;
use postern_qemu::prepare::Flavour;
use postern_qemu::session::Session;
use postern_tests::{BOOT, Lab, SOON, boot_error, power_off, stopped, xtest};
use std::time::{SystemTime, UNIX_EPOCH};

/// The clock's node, and its folder in a guest.
const RTC: &str = "/pl031@9010000";
const FOLDER: &str = "/sys/bus/amba/devices/9010000.pl031";

/// Two guests, of which the first has the clock.
fn system(lab: &Lab) -> Result<System> {
    let mut system = lab.system("two.toml")?;
    system.vms[0].devices = vec![RTC.into()];
    Ok(system)
}

/// Runs a command in a guest's shell and returns the first line of its output.
fn ask(session: &mut Session, guest: Channel, command: &str) -> Result<String> {
    // The terminal shows the command, too, in which the mark has other characters.
    session.send(guest, &format!("({command}) 2>&1 | sed 's/^/it-''is-:/'"))?;
    let line = session.expect(guest, SOON).line("it-is-:")?;
    let (_, said) = line.split_once("it-is-:").context("no answer")?;
    Ok(said.trim().to_owned())
}

/// Checks the clock's time, and that its alarm interrupts the guest, once for each.
fn use_clock(session: &mut Session, guest: Channel) -> Result<()> {
    session.send(guest, "stty -echo")?;
    let time: u64 = ask(
        session,
        guest,
        &format!("cat {FOLDER}/rtc/rtc*/since_epoch"),
    )?
    .parse()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    ensure!(time.abs_diff(now) < 3600, "the clock has {time}, not {now}");
    for alarm in 1..=2 {
        let alarms = "grep -E 'GICv[23] +34 ' /proc/interrupts | awk '{print $2 + $3}'";
        let set = format!("echo +2 > $(ls {FOLDER}/rtc/rtc*/wakealarm); sleep 4; {alarms}");
        let count = ask(session, guest, &set)?;
        ensure!(
            count == alarm.to_string(),
            "{count} interrupts after {alarm} alarms"
        );
    }
    Ok(())
}

fn shell(session: &mut Session, guest: Channel) -> Result<()> {
    session.send(guest, "shell")?;
    session.expect(guest, SOON).line("A shell")?;
    Ok(())
}

fn leave(session: &mut Session, guest: Channel) -> Result<()> {
    session.send(guest, "exit")?;
    session.expect(guest, SOON).ready()
}

/// The first guest uses the clock, before and after a reset, and its TEE meanwhile; the second has no clock.
#[test]
fn guest_has_the_clock() -> Result<()> {
    let lab = Lab::new("devices")?;
    let system = system(&lab)?;
    let machine = lab.machine(&system, Flavour::Shared)?;
    let mut session = Session::boot(&machine, &lab.folder)?;
    let (a, b) = (session.vm("a")?, session.vm("b")?);
    for guest in [a, b] {
        session.expect(guest, BOOT).ready()?;
    }
    for _ in 0..2 {
        shell(&mut session, a)?;
        use_clock(&mut session, a)?;
        leave(&mut session, a)?;
        // The notifications of OP-TEE have another SPI than usual.
        xtest(&mut session, a, "-t regression 1001", 1)?;
        session.send(a, "reboot")?;
        stopped(&mut session, "a", "reset")?;
        session.expect(a, BOOT).ready()?;
    }
    shell(&mut session, b)?;
    session.send(b, "stty -echo")?;
    let found = ask(&mut session, b, &format!("ls {FOLDER}"))?;
    ensure!(found.contains("No such file"), "{found}");
    leave(&mut session, b)?;
    xtest(&mut session, b, "-t regression 1001", 1)?;
    let log = std::fs::read_to_string(lab.folder.join("hypervisor.log"))?;
    ensure!(
        log.contains("vm a: has /pl031@9010000"),
        "the log names no device"
    );
    power_off(session, &["a", "b"])
}

/// The clock in a partial tree, as a user of Xen has it.
fn partial_tree() -> Vec<u8> {
    const GIC: u32 = 1;
    const CLOCK: u32 = 2;
    FlatTree::write(|root| {
        root.cells("#address-cells", &[2]);
        root.cells("#size-cells", &[2]);
        root.node("gic", |gic| gic.cells("phandle", &[GIC]));
        root.node("aliases", |aliases| {
            aliases.text("rtc9", "/passthrough/pl031@9010000");
        });
        root.node("passthrough", |bus| {
            bus.text("compatible", "simple-bus");
            bus.cells("#address-cells", &[2]);
            bus.cells("#size-cells", &[2]);
            bus.flag("ranges");
            bus.node("clock", |clock| {
                clock.text("compatible", "fixed-clock");
                clock.cells("phandle", &[CLOCK]);
                clock.cells("#clock-cells", &[0]);
                clock.cells("clock-frequency", &[24_000_000]);
            });
            bus.node("pl031@9010000", |rtc| {
                rtc.texts("compatible", &["arm,pl031", "arm,primecell"]);
                rtc.cells("reg", &[0, 0x0901_0000, 0, 0x1000]);
                rtc.cells("interrupt-parent", &[GIC]);
                rtc.cells("interrupts", &[0, 2, 4]);
                rtc.cells("clocks", &[CLOCK]);
                rtc.text("clock-names", "apb_pclk");
                rtc.text("xen,path", RTC);
                rtc.cells("xen,reg", &[0, 0x0901_0000, 0, 0x1000, 0, 0x0901_0000]);
                rtc.flag("xen,force-assign-without-iommu");
            });
        });
    })
}

/// The first guest has the clock by a partial tree, and uses it before and after a reset.
#[test]
fn guest_has_the_clock_of_a_partial_tree() -> Result<()> {
    let lab = Lab::new("devices-partial-tree")?;
    let mut system = lab.system("two.toml")?;
    let file = lab.folder.join("clock.dtb");
    std::fs::write(&file, partial_tree())?;
    system.vms[0].partial_tree = Some(file);
    let machine = lab.machine(&system, Flavour::Shared)?;
    let mut session = Session::boot(&machine, &lab.folder)?;
    let (a, b) = (session.vm("a")?, session.vm("b")?);
    for guest in [a, b] {
        session.expect(guest, BOOT).ready()?;
    }
    for _ in 0..2 {
        shell(&mut session, a)?;
        use_clock(&mut session, a)?;
        let tree = "cd /proc/device-tree; cat aliases/rtc9; ls -d passthrough/pl031*/xen,path";
        let found = ask(
            &mut session,
            a,
            &format!("({tree}) 2>&1 | tr '\\0\\n' '  '; echo"),
        )?;
        ensure!(
            found.contains("/passthrough/pl031@9010000") && found.contains("No such file"),
            "{found}"
        );
        leave(&mut session, a)?;
        xtest(&mut session, a, "-t regression 1001", 1)?;
        session.send(a, "reboot")?;
        stopped(&mut session, "a", "reset")?;
        session.expect(a, BOOT).ready()?;
    }
    power_off(session, &["a", "b"])
}

/// With a GICv2 a device with interrupts is refused.
#[test]
fn devices_with_interrupts_are_refused_with_a_gicv2() -> Result<()> {
    let lab = Lab::new("devices-gicv2")?;
    let system = system(&lab)?.on_board(BoardName::VirtGicv2);
    let machine = lab.machine(&system.map_err(anyhow::Error::msg)?, Flavour::Shared)?;
    let text = boot_error(&mut Session::boot(&machine, &lab.folder)?)?;
    ensure!(
        text.contains("vm `a`: device /pl031@9010000") && text.contains("GICv2"),
        "{text:?}"
    );
    Ok(())
}

/// What cannot be given away is refused in a line.
#[test]
fn devices_that_no_vm_can_have_are_refused() -> Result<()> {
    for (number, (change, words)) in [
        (
            (|system: &mut System| system.vms[1].devices = vec!["/virtio_mmio@a000000".into()])
                as fn(&mut System),
            ["vm `b`: device /virtio_mmio@a000000", "whole pages"],
        ),
        (
            |system| system.vms[1].devices = vec![RTC.into()],
            ["vm `b`: device /pl031@9010000", "vm `a` has it"],
        ),
        (
            |system| system.vms[0].devices = vec!["/pl031@9020000".into()],
            ["vm `a`: device /pl031@9020000", "no such node"],
        ),
        (
            |system| system.vms[0].devices = vec!["/pcie@10000000".into()],
            ["vm `a`: device /pcie@10000000", "SMMU"],
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let lab = Lab::new(&format!("devices-refused-{number}"))?;
        let mut system = system(&lab)?;
        change(&mut system);
        let machine = lab.machine(&system, Flavour::Shared)?;
        let text = boot_error(&mut Session::boot(&machine, &lab.folder)?)?;
        for word in words {
            ensure!(text.contains(word), "{text:?} does not contain {word:?}");
        }
    }
    Ok(())
}
