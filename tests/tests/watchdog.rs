// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A VM's watchdog, with Debian's own driver: a guest that feeds it works on, and one that does not
//! is reset, whatever state its kernel is in, while its neighbour works on.

use anyhow::{Result, ensure};
use postern_qemu::console::Channel;
use postern_qemu::prepare::Flavour;
use postern_qemu::session::Session;
use postern_tests::{BOOT, Lab, SOON, power_off, stopped, xtest, xtest_end};
use std::time::Duration;

/// The other guest's work meanwhile.
const WORK: &str = "-t regression 1001 1004 1006 1008 1009 1021 6001 6009";
const WORK_CASES: u32 = 8;
/// Many times the driver's timeout of ten seconds, on a busy host.
const PATIENCE: Duration = Duration::from_secs(120);

/// Gives a line to a shell in a guest, and waits for a line of its output.
fn shell(session: &mut Session, guest: Channel, line: &str, output: &str) -> Result<()> {
    session.send(guest, "shell")?;
    session.expect(guest, SOON).line("A shell;")?;
    session.send(guest, line)?;
    session.expect(guest, PATIENCE).line(output)?;
    Ok(())
}

/// Checks the driver, and why the guest has started, as the driver sees it: zero, or
/// `WDIOF_CARDRESET`, 0x20.
fn has_started(session: &mut Session, guest: Channel, status: u32) -> Result<()> {
    let line = "cd /sys/class/watchdog/watchdog0; echo started \"with\" $(cat bootstatus identity)";
    let output = format!("started with {status} SBSA Generic Watchdog");
    shell(session, guest, line, &output)?;
    // Not in the same line: the shell ends with its session, and what it has printed last may be lost.
    session.send(guest, "exit")?;
    session.expect(guest, SOON).ready()?;
    Ok(())
}

/// Returns how often the VM's watchdog has reset it.
fn resets(session: &mut Session, vm: &str) -> Result<Option<u64>> {
    session.send(Channel::Hypervisor, &format!("#dog vm info {vm} --json"))?;
    let answer = session.expect(Channel::Hypervisor, SOON).answer("dog")?;
    let info = answer.more.get("vm");
    Ok(info.and_then(|info| info["watchdog_resets"].as_u64()))
}

#[test]
fn watchdog_resets_a_guest_that_does_not_feed_it() -> Result<()> {
    let lab = Lab::new("watchdog")?;
    let mut system = lab.system("two.toml")?;
    system.vms[1].watchdog = true;
    let machine = lab.machine(&system, Flavour::Shared)?;
    let mut session = Session::boot(&machine, &lab.folder)?;
    let (a, b) = (session.vm("a")?, session.vm("b")?);
    session.expect(a, BOOT).ready()?;
    session.expect(b, BOOT).ready()?;

    // The other guest has none.
    shell(&mut session, a, "devmem 0x90d0000; exit", "Bus error")?;
    session.expect(a, SOON).ready()?;
    session.send(a, &format!("xtest {WORK}"))?;

    // Two and a half times the driver's timeout, and fed. Then the guest waits.
    has_started(&mut session, b, 0)?;
    let feed = "exec 3> /dev/watchdog; for i in $(seq 13); do echo >&3; sleep 2; done; echo it was \"fed\"; sleep 1000";
    shell(&mut session, b, feed, "it was fed")?;
    ensure!(resets(&mut session, "b")? == Some(0));
    stopped(&mut session, "b", "watchdog")?;
    session.expect(b, BOOT).ready()?;
    has_started(&mut session, b, 0x20)?;
    xtest(&mut session, b, "-t regression 1001", 1)?;

    // A kernel that has panicked: all vCPUs spin, with interrupts masked.
    let panic = "exec 3> /dev/watchdog; echo c > /proc/sysrq-trigger";
    shell(&mut session, b, panic, "Kernel panic - not syncing")?;
    session.expect(b, SOON).line("end Kernel panic")?;
    stopped(&mut session, "b", "watchdog")?;
    session.expect(b, BOOT).ready()?;
    xtest(&mut session, b, "-t regression 1001", 1)?;
    ensure!(resets(&mut session, "b")? == Some(2) && resets(&mut session, "a")? == Some(0));

    // A reset for another reason.
    session.send(b, "reboot")?;
    stopped(&mut session, "b", "reset")?;
    session.expect(b, BOOT).ready()?;
    has_started(&mut session, b, 0)?;

    xtest_end(&mut session, a, WORK_CASES)?;
    power_off(session, &["a", "b"])
}
