// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Two Debian guests run from one disk: one has the PCIe bus, the other reaches disk and network through
//! it. What was written with fsync(2) survives a reset with DMA in flight, and the other guest goes on.

use anyhow::Result;
use guest_agent::event::Event;
use postern_qemu::console::Channel;
use postern_qemu::session::Session;
use postern_tests::guest_shell::{WRITE, reset_busy, shell};
use postern_tests::{BOOT, Lab, power_off, stopped, xtest};
use std::time::Duration;

/// The most time for the commands of a step.
const WORK: Duration = Duration::from_secs(180);

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
    shell(
        &mut session,
        io,
        WORK,
        "grep '^/dev/vda1 / ext4' /proc/mounts",
    )?;
    shell(
        &mut session,
        app,
        WORK,
        "grep '^/dev/nvme0n1 / ext4' /proc/mounts",
    )?;
    for guest in [io, app] {
        shell(&mut session, guest, WORK, WRITE)?;
        disk(&mut session, guest)?;
    }
    reset_busy(&mut session, io)?;
    stopped(&mut session, "io", "reset")?;
    session.expect(io, BOOT).ready()?;
    shell(&mut session, io, WORK, "md5sum -c /data.md5")?;
    // The other guest's driver connects again by itself.
    shell(&mut session, app, WORK, "md5sum -c /data.md5")?;
    for guest in [io, app] {
        disk(&mut session, guest)?;
        xtest(&mut session, guest, "-t regression 1004 6001", 2)?;
    }
    // The disk of `app` is served by `io`.
    session.send(app, "poweroff")?;
    stopped(&mut session, "app", "off")?;
    power_off(session, &["io"])
}
