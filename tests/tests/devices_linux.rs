// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Two Debian guests run from one disk: one has the PCIe bus, the other reaches disk and network through
//! it. What was written with fsync(2) survives a reset with DMA in flight, and the other guest goes on.

use anyhow::{Result, ensure};
use guest_agent::event::Event;
use postern_qemu::console::Channel;
use postern_qemu::session::Session;
use postern_tests::{BOOT, Lab, SOON, power_off, stopped, xtest};
use std::time::Duration;

/// The most time for the commands of a step.
const WORK: Duration = Duration::from_secs(180);
/// Writes a file and its sum, to the disk and not only to the cache.
const WRITE: &str = "dd if=/dev/urandom of=/data bs=64k count=64 conv=fsync 2> /dev/null; \
                     md5sum /data > /data.md5; sync";
/// Keeps the disk busy in both directions.
const BUSY: &str = "for n in 1 2; do \
                    while :; do dd if=/dev/vda of=/dev/null bs=64k iflag=direct; done 2> /dev/null & \
                    while :; do dd if=/dev/zero of=/scratch$n bs=64k count=99 oflag=direct; done 2> /dev/null & \
                    done; sleep 2";

/// Executes commands in a shell of the guest; fails unless the last one succeeds.
fn shell(session: &mut Session, guest: Channel, commands: &str) -> Result<()> {
    session.send(guest, "shell")?;
    session.expect(guest, SOON).line("A shell")?;
    session.send(guest, &format!("{commands}; echo status=$?."))?;
    let mut end = session.expect(guest, WORK).line("status=")?;
    // The typed line is echoed, by the terminal and by the shell.
    while end.contains("status=$") {
        end = session.expect(guest, WORK).line("status=")?;
    }
    ensure!(end.contains("status=0."), "{commands}: {end}");
    session.send(guest, "exit")?;
    session.expect(guest, SOON).ready()
}

/// Writes and reads the guest's disk, and checks the content.
fn disk(session: &mut Session, guest: Channel) -> Result<()> {
    session.send(guest, "disk 4")?;
    session
        .expect(guest, WORK)
        .event("the disk's throughput", |event| {
            matches!(event, Event::Disk(_)).then_some(())
        })
}

#[test]
fn synced_data_survives_reset_with_dma_in_flight() -> Result<()> {
    let lab = Lab::new("devices-linux")?;
    let mut session = lab.up("devices.toml")?;
    let (io, app) = (session.vm("io")?, session.vm("app")?);
    shell(&mut session, io, "grep '^/dev/vda1 / ext4' /proc/mounts")?;
    shell(
        &mut session,
        app,
        "grep '^/dev/nvme0n1 / ext4' /proc/mounts",
    )?;
    for guest in [io, app] {
        shell(&mut session, guest, WRITE)?;
        disk(&mut session, guest)?;
    }
    session.send(io, "shell")?;
    session.expect(io, SOON).line("A shell")?;
    session.send(io, &format!("{BUSY}; reboot -f"))?;
    stopped(&mut session, "io", "reset")?;
    session.expect(io, BOOT).ready()?;
    shell(&mut session, io, "md5sum -c /data.md5")?;
    // The other guest's driver connects again by itself.
    shell(&mut session, app, "md5sum -c /data.md5")?;
    for guest in [io, app] {
        disk(&mut session, guest)?;
        xtest(&mut session, guest, "-t regression 1004 6001", 2)?;
    }
    // The disk of `app` is served by `io`.
    session.send(app, "poweroff")?;
    stopped(&mut session, "app", "off")?;
    power_off(session, &["io"])
}
