// SPDX-License-Identifier: Apache-2.0 OR MIT
//! OP-TEE over FF-A on the bare machine: TF-A's SPMD, OP-TEE as SPMC at S-EL1, and Debian's Linux,
//! which finds OP-TEE as a partition.

use anyhow::{Result, ensure};
use postern_qemu::config::TeeAbi;
use postern_qemu::console::Channel;
use postern_qemu::prepare::Flavour;
use postern_qemu::session::Session;
use postern_tests::guest_shell::shell;
use postern_tests::{BOOT, Lab, SOON, xtest};

/// OP-TEE is a partition, and no node of the tree announces it.
const FOUND: &str = "! test -e /proc/device-tree/firmware/optee && \
                     grep -qx 486178e0-e7f8-11e3-bc5e-0002a5d5c51b /sys/bus/arm_ffa/devices/*/uuid && \
                     dmesg | grep 'ARM FF-A: Firmware version 1.[12] found'";

#[test]
fn linux_finds_optee_as_a_partition_and_passes_xtest() -> Result<()> {
    let lab = Lab::new("ffa-native")?;
    let system = lab.system("one.toml")?.with_abi(TeeAbi::Ffa);
    let system = system.map_err(anyhow::Error::msg)?;
    let (machine, versions) = lab.parts(&system, Flavour::Native)?;
    ensure!(versions.optee.ends_with("for FF-A"), "{}", versions.optee);
    let mut session = Session::boot(&machine, &lab.folder)?;
    let guest = Channel::Vm(1);
    session.expect(guest, BOOT).ready()?;
    shell(&mut session, guest, SOON, FOUND)?;
    xtest(&mut session, guest, "-t regression 1001", 1)?;
    // Linux 7.3 powers off only when no process has OP-TEE open.
    session.send(guest, "poweroff")?;
    ensure!(session.exit(SOON)?.success(), "QEMU failed");
    Ok(())
}
