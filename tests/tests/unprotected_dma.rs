// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A machine without an SMMU: a Debian guest that is trusted with all memory has the PCIe bus. It sees its RAM at the
//! physical addresses, which its devices use, before and after a reset with DMA in flight.

use anyhow::{Context, Result, ensure};
use postern_qemu::config::Dma;
use postern_qemu::console::Channel;
use postern_qemu::prepare::Flavour;
use postern_qemu::session::Session;
use postern_tests::guest_shell::{WRITE, reset_busy, shell};
use postern_tests::{BOOT, Lab, WORK, power_off, stopped, xtest};

/// Checks that the guest's RAM is not where guests have it otherwise, and that its root is on the disk.
fn check_life(session: &mut Session, guest: Channel) -> Result<()> {
    let commands = "cd /proc/device-tree && ls -d memory@* | grep -v -e @40000000 -e @100000000 && \
                    grep '^/dev/vda1 / ext4' /proc/mounts";
    shell(session, guest, WORK, commands)
}

#[test]
fn guest_without_an_smmu_uses_disk_before_and_after_a_reset() -> Result<()> {
    let lab = Lab::new("unprotected-dma")?;
    let mut system = lab.system("devices.toml")?;
    system.machine.iommu = false;
    let io = system.vms.iter_mut().find(|vm| vm.name == "io");
    io.context("no VM io")?.dma = Dma::Unprotected;
    let machine = lab.machine(&system, Flavour::Shared)?;
    let mut session = Session::boot(&machine, &lab.folder)?;
    let (io, app) = (session.vm("io")?, session.vm("app")?);
    session.expect(io, BOOT).ready()?;
    session.expect(app, BOOT).ready()?;
    check_life(&mut session, io)?;
    shell(&mut session, io, WORK, WRITE)?;
    reset_busy(&mut session, io)?;
    stopped(&mut session, "io", "reset")?;
    session.expect(io, BOOT).ready()?;
    check_life(&mut session, io)?;
    shell(&mut session, io, WORK, "md5sum -c /data.md5")?;
    for guest in [io, app] {
        xtest(&mut session, guest, "-t regression 1004 6001", 2)?;
    }
    let log = std::fs::read_to_string(lab.folder.join("hypervisor.log"))?;
    let warning = "vm io: no SMMU is in front of /pcie@10000000, so it can access all memory";
    ensure!(log.contains(warning), "no warning");
    session.send(app, "poweroff")?;
    stopped(&mut session, "app", "off")?;
    power_off(session, &["io"])
}
