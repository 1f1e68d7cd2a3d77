// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A privileged guest, an unmodified Linux, manages the others and itself through its second UART.

use anyhow::{Result, bail, ensure};
use guest_agent::event::Event;
use postern_ctl::messages::HypervisorEvent;
use postern_qemu::console::Channel;
use postern_qemu::prepare::Flavour;
use postern_qemu::session::Session;
use postern_tests::{BOOT, Lab, SOON, in_case, stopped, xtest, xtest_end};

/// The other guest's work meanwhile.
const WORK: &str = "-t regression 1006";

/// Makes a guest send a line to its monitor; returns the lines of the answer.
fn manage(session: &mut Session, guest: Channel, line: &str) -> Result<Vec<String>> {
    session.send(guest, &format!("monitor {line}"))?;
    let mut answer = Vec::new();
    session
        .expect(guest, SOON)
        .event(&format!("an answer to `{line}`"), |event| match event {
            Event::Monitor { line } => {
                answer.push(line.clone());
                None
            }
            Event::MonitorEnd { .. } => Some(()),
            _ => None,
        })?;
    Ok(answer)
}

fn told(session: &mut Session, what: &str) -> Result<()> {
    let vm = session
        .expect(Channel::Hypervisor, SOON)
        .hypervisor(what, |event| match event {
            HypervisorEvent::VmPaused { vm } if what == "vm-paused" => Some(vm.clone()),
            HypervisorEvent::VmResumed { vm } if what == "vm-resumed" => Some(vm.clone()),
            _ => None,
        })?;
    ensure!(vm == "b", "{what}: {vm}");
    Ok(())
}

#[test]
fn privileged_guest_manages_itself_and_another() -> Result<()> {
    let lab = Lab::new("manager")?;
    let mut system = lab.system("two.toml")?;
    system.vms[0].privileged = true;
    system.vms[1].autostart = false;
    let machine = lab.machine(&system, Flavour::Shared)?;
    let mut session = Session::boot(&machine, &lab.folder)?;
    let (a, b) = (session.vm("a")?, session.vm("b")?);
    session.expect(a, BOOT).ready()?;

    let answer = manage(&mut session, a, "vm list --json")?;
    let [line] = &answer[..] else {
        bail!("not one line: {answer:?}");
    };
    let list: serde_json::Value = serde_json::from_str(line)?;
    let seen = |index: usize, member: &str| list["vms"][index][member].clone();
    ensure!(seen(0, "privileged") == true && seen(0, "phase") == "running");
    ensure!(seen(1, "privileged") == false && seen(1, "phase") == "off");

    // By hand, in the terminal program.
    session.send(a, "shell")?;
    session.expect(a, SOON).line("A shell")?;
    session.send(a, "postern-ctl; echo it has \"left\"")?;
    session.send_bytes(a, b"vm li\t\r")?;
    session.expect(a, SOON).line("NAME  STATE")?;
    session.send_bytes(a, b"vm inf\tb\t\r")?;
    session.expect(a, SOON).line("vm b: off")?;
    session.send_bytes(a, b"\x04")?;
    // Input before that still goes to the program.
    session.expect(a, SOON).line("it has left")?;
    session.send(a, "postern-ctl vm stop b; exit")?;
    session
        .expect(a, SOON)
        .line("monitor: vm b: it is off: start it first")?;
    session.expect(a, SOON).ready()?;

    ensure!(manage(&mut session, a, "vm start b")? == ["vm b starts"]);
    session.expect(b, BOOT).ready()?;
    // The other guest has no such UART.
    session.send(b, "monitor vm kill a")?;
    let refused = session
        .expect(b, SOON)
        .event("a refusal", |event| match event {
            Event::Error { text } => Some(text.clone()),
            Event::MonitorEnd { .. } => Some(String::new()),
            _ => None,
        })?;
    ensure!(refused.contains("ttyAMA1"), "{refused:?}");
    session.send(b, "shell")?;
    session.expect(b, SOON).line("A shell;")?;
    session.send(b, "devmem 0x9010000; exit")?;
    session.expect(b, SOON).line("Bus error")?;
    session.expect(b, SOON).ready()?;

    // In the middle of calls to the TEE.
    session.send(b, &format!("xtest {WORK}"))?;
    in_case(&mut session, b, "regression_1006")?;
    ensure!(manage(&mut session, a, "vm pause b")? == ["vm b pauses"]);
    told(&mut session, "vm-paused")?;
    session.send(b, "ping later")?;
    ensure!(manage(&mut session, a, "vm resume b")? == ["vm b goes on"]);
    told(&mut session, "vm-resumed")?;
    session
        .expect(b, SOON)
        .event("a pong", |event| match event {
            Event::Pong { text } if text == "later" => Some(()),
            _ => None,
        })?;
    xtest_end(&mut session, b, 1)?;

    // The same, and then everything works again.
    session.send(b, &format!("xtest {WORK}"))?;
    in_case(&mut session, b, "regression_1006")?;
    ensure!(manage(&mut session, a, "vm kill b")? == ["vm b ends"]);
    stopped(&mut session, "b", "killed")?;
    let refusal = ["monitor: vm b: it is off: start it first"];
    ensure!(manage(&mut session, a, "vm stop b")? == refusal);
    ensure!(manage(&mut session, a, "vm start b")? == ["vm b starts"]);
    session.expect(b, BOOT).ready()?;
    xtest(&mut session, b, "-t regression 1001", 1)?;

    // A user at the machine's own console has a session beside it.
    session.send_bytes(Channel::Hypervisor, b"\rvm infx\x7fo a\r")?;
    session
        .expect(Channel::Hypervisor, SOON)
        .line("postern> vm inf")?;
    session
        .expect(Channel::Hypervisor, SOON)
        .line("name=a index=0 phase=running")?;
    session.send_bytes(Channel::Hypervisor, b"echo off\r")?;
    session
        .expect(Channel::Hypervisor, SOON)
        .line("echo=false")?;

    // An answer of many lines.
    let log = manage(&mut session, a, "log 1000")?;
    ensure!(log.iter().any(|line| line.contains("OP-TEE")), "{log:?}");

    // The guest shuts itself down.
    ensure!(manage(&mut session, a, "vm stop b")? == ["vm b was asked to shut down"]);
    stopped(&mut session, "b", "off")?;
    // The guest that sends this command ends before the answer.
    session.send(a, "monitor vm kill a")?;
    stopped(&mut session, "a", "killed")?;
    session
        .expect(Channel::Hypervisor, SOON)
        .hypervisor("the machine's end", |event| {
            matches!(event, HypervisorEvent::AllOff).then_some(())
        })?;
    ensure!(session.exit(SOON)?.success(), "QEMU failed");
    Ok(())
}
