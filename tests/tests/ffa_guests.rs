// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Two guests share OP-TEE over FF-A: TF-A's SPMD, OP-TEE as SPMC at S-EL1, and Linux's FF-A drivers in the guests. One
//! boot serves all checks, since it takes longer than they do.

use anyhow::{Result, ensure};
use postern_qemu::config::TeeAbi;
use postern_qemu::console::Channel;
use postern_qemu::prepare::Flavour;
use postern_qemu::session::Session;
use postern_tests::guest_shell::shell;
use postern_tests::{BOOT, Lab, SOON, in_case, power_off, stats, stopped, xtest, xtest_end};

/// OP-TEE is a partition, and no node of the tree announces it.
const FOUND: &str = "! test -e /proc/device-tree/firmware/optee && \
                     grep -qx 486178e0-e7f8-11e3-bc5e-0002a5d5c51b /sys/bus/arm_ffa/devices/*/uuid && \
                     dmesg | grep 'ARM FF-A: Firmware version 1.2 found'";

/// The first CPU has taken notifications of OP-TEE.
const NOTIFIED: &str =
    "sleep 2; grep FFA /proc/interrupts; grep -qE ': *[1-9].*FFA' /proc/interrupts";

/// Sessions of several clients at once, and applications that are loaded.
const WORK: &str = "-t regression 1001 1004 1005";
const WORK_CASES: u32 = 3;

#[test]
fn two_guests_share_optee_over_ffa_and_one_starts_anew_beside_the_other() -> Result<()> {
    let lab = Lab::new("ffa-guests")?;
    let system = lab.system("two.toml")?.with_abi(TeeAbi::Ffa);
    let system = system.map_err(anyhow::Error::msg)?;
    let machine = lab.machine(&system, Flavour::Shared)?;
    let mut session = Session::boot(&machine, &lab.folder)?;
    let (a, b) = (session.vm("a")?, session.vm("b")?);
    for guest in [a, b] {
        session.expect(guest, BOOT).ready()?;
    }
    shell(&mut session, a, SOON, FOUND)?;
    // OP-TEE's test of notifications sends one a second.
    shell(&mut session, b, SOON, NOTIFIED)?;

    session.send(a, &format!("xtest {WORK}"))?;
    xtest(&mut session, b, WORK, WORK_CASES)?;
    xtest_end(&mut session, a, WORK_CASES)?;

    // A reset while idle, and an end in the middle of calls.
    session.send(a, "xtest -t regression 1006")?;
    in_case(&mut session, a, "regression_1006")?;
    session.send(b, "reboot")?;
    stopped(&mut session, "b", "reset")?;
    session.expect(b, BOOT).ready()?;
    session.send(b, "xtest -t regression 1006")?;
    in_case(&mut session, b, "regression_1006")?;
    session.send(Channel::Hypervisor, "vm kill b")?;
    stopped(&mut session, "b", "killed")?;
    ensure!(
        stats(&mut session, "b")?.pages_pinned == 0,
        "pinned pages of a VM that is off"
    );
    session.send(Channel::Hypervisor, "vm start b")?;
    session.expect(b, BOOT).ready()?;
    xtest(&mut session, b, "-t regression 1001", 1)?;
    xtest_end(&mut session, a, 1)?;

    for vm in ["a", "b"] {
        let stats = stats(&mut session, vm)?;
        ensure!(
            stats.denied == 0,
            "{vm}: requests of an honest guest were denied: {stats:?}"
        );
    }
    let log = std::fs::read_to_string(lab.folder.join("hypervisor.log"))?;
    ensure!(log.contains("over FF-A 1.2, virtualised"), "{log}");
    power_off(session, &["a", "b"])
}
