// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Debian's Linux runs from a disk that the tool makes, and what it has written there with fsync(2)
//! survives a reset in the middle of I/O: on the bare machine, and as a guest that has the PCIe bus
//! behind an SMMU.

use anyhow::{Result, ensure};
use postern_qemu::config::System;
use postern_qemu::console::Channel;
use postern_qemu::prepare::Flavour;
use postern_qemu::session::Session;
use postern_tests::guest_shell::{WRITE, reset_busy, shell};
use postern_tests::{BOOT, Lab, power_off, stopped, xtest};
use std::time::Duration;

/// A machine that Linux has for itself.
const SYSTEM: &str = "[machine]\ncpus = 2\niommu = true\nmemory_mib = 1024\n\
                      [[machine.disk]]\n[[machine.net]]\n[[vm]]\nname = \"io\"\n";
/// The same machine for two guests, one of which has its PCIe bus.
const SHARED: &str = "[machine]\ncpus = 2\niommu = true\nmemory_mib = 2048\n\
                      [[machine.disk]]\n[[machine.net]]\n\
                      [[vm]]\nname = \"io\"\nvcpus = 1\ndevices = [\"/pcie@10000000\"]\n\
                      [[vm]]\nname = \"other\"\nvcpus = 1\n";
/// The most time for the commands of a step.
const WORK: Duration = Duration::from_secs(120);

#[test]
fn synced_data_survives_reset_with_io_in_flight() -> Result<()> {
    let lab = Lab::new("disk")?;
    let machine = lab.machine(&System::parse(SYSTEM)?, Flavour::Native)?;
    let mut session = Session::boot(&machine, &lab.folder)?;
    let guest = Channel::Vm(1);
    session.expect(guest, BOOT).ready()?;
    shell(
        &mut session,
        guest,
        WORK,
        "grep '^/dev/vda1 / ext4' /proc/mounts",
    )?;
    shell(&mut session, guest, WORK, WRITE)?;
    reset_busy(&mut session, guest)?;
    // QEMU is started with -no-reboot.
    let status = session.exit(WORK)?;
    ensure!(status.success(), "QEMU ended with {status}");
    drop(session);

    let mut session = Session::boot(&machine, &lab.folder)?;
    session.expect(guest, BOOT).ready()?;
    shell(&mut session, guest, WORK, "md5sum -c /data.md5")?;
    session.send(guest, "poweroff")?;
    let status = session.exit(WORK)?;
    ensure!(status.success(), "QEMU ended with {status}");
    Ok(())
}

#[test]
fn synced_data_survives_reset_of_a_guest_with_dma_in_flight() -> Result<()> {
    let lab = Lab::new("disk-shared")?;
    let machine = lab.machine(&System::parse(SHARED)?, Flavour::Shared)?;
    let mut session = Session::boot(&machine, &lab.folder)?;
    let (io, other) = (session.vm("io")?, session.vm("other")?);
    for guest in [io, other] {
        session.expect(guest, BOOT).ready()?;
    }
    shell(
        &mut session,
        io,
        WORK,
        "grep '^/dev/vda1 / ext4' /proc/mounts",
    )?;
    shell(&mut session, io, WORK, WRITE)?;
    reset_busy(&mut session, io)?;
    stopped(&mut session, "io", "reset")?;
    session.expect(io, BOOT).ready()?;
    shell(&mut session, io, WORK, "md5sum -c /data.md5")?;
    // Linux counts the bus's interrupts under the numbers of the machine.
    shell(
        &mut session,
        io,
        WORK,
        "grep 'GICv3.*virtio' /proc/interrupts",
    )?;
    for guest in [io, other] {
        xtest(&mut session, guest, "-t regression 1001", 1)?;
    }
    power_off(session, &["io", "other"])
}
