//! A privileged guest, which is unmodified Linux, manages the others through its second UART; the
//! others have none.

use anyhow::{Context, Result, ensure};
use guest_agent::event::Event;
use postern_qemu::console::Channel;
use postern_qemu::monitor::{Answer, HypervisorEvent, MARK};
use postern_qemu::prepare::Flavour;
use postern_qemu::session::Session;
use postern_tests::{BOOT, Lab, SOON, in_case, power_off, stopped, xtest, xtest_end};
use serde_json::Value;

/// What the managed guest does meanwhile.
const WORK: &str = "-t regression 1006";

/// Has the guest's agent send a line to the monitor; the lines of the answer.
fn monitor(session: &mut Session, guest: Channel, line: &str) -> Result<Vec<String>> {
    session.send(guest, &format!("monitor {line}"))?;
    let mut lines = Vec::new();
    session
        .expect(guest, SOON)
        .event(&format!("the answer to {line:?}"), |event| match event {
            Event::Monitor { line } => {
                lines.push(line.clone());
                None
            }
            Event::MonitorEnd { .. } => Some(()),
            _ => None,
        })?;
    Ok(lines)
}

/// The same for a command with `--json`.
fn answer(session: &mut Session, guest: Channel, command: &str) -> Result<Answer> {
    let lines = monitor(session, guest, &format!("{command} --json"))?;
    let [line] = &lines[..] else {
        anyhow::bail!("{command}: {} lines: {lines:?}", lines.len());
    };
    let object = line.strip_prefix(MARK).context("no event")?;
    let HypervisorEvent::Answer(answer) = serde_json::from_str(object)? else {
        anyhow::bail!("{command}: {line}");
    };
    Ok(*answer)
}

/// A command that is to be obeyed.
fn obey(session: &mut Session, guest: Channel, command: &str) -> Result<()> {
    let answer = answer(session, guest, command)?;
    ensure!(answer.ok, "{command}: {answer:?}");
    Ok(())
}

/// Each VM's name and phase, and whether it is privileged.
fn list(session: &mut Session, guest: Channel) -> Result<Vec<(String, String, bool)>> {
    let answer = answer(session, guest, "vm list")?;
    let vms = answer.more.get("vms").and_then(Value::as_array);
    let text = |vm: &Value, member: &str| vm[member].as_str().unwrap_or("?").to_owned();
    Ok(vms
        .context("no list")?
        .iter()
        .map(|vm| {
            let privileged = vm["privileged"] == Value::Bool(true);
            (text(vm, "name"), text(vm, "phase"), privileged)
        })
        .collect())
}

/// Fails unless `b` is in this phase, as the guest `a` sees it.
fn b_is(session: &mut Session, a: Channel, phase: &str) -> Result<()> {
    let found = list(session, a)?;
    let expected = [("a", "running", true), ("b", phase, false)]
        .map(|(name, phase, privileged)| (name.to_owned(), phase.to_owned(), privileged));
    ensure!(found == expected, "{found:?}, not {expected:?}");
    Ok(())
}

/// Waits for an event of the hypervisor's.
fn told(session: &mut Session, expected: &HypervisorEvent) -> Result<()> {
    let what = format!("{expected:?}");
    session
        .expect(Channel::Hypervisor, SOON)
        .hypervisor(&what, |event| (event == expected).then_some(()))
}

#[test]
fn a_guest_manages_the_other() -> Result<()> {
    let lab = Lab::new("manage")?;
    let mut system = lab.system("two.toml")?;
    system.vms[0].privileged = true;
    let machine = lab.machine(&system, Flavour::Shared)?;
    let mut session = Session::boot(&machine, &lab.folder)?;
    let (a, b) = (session.vm("a")?, session.vm("b")?);
    for guest in [a, b] {
        session.expect(guest, BOOT).ready()?;
    }
    let vm = || "b".to_owned();

    b_is(&mut session, a, "running")?;
    let help = monitor(&mut session, a, "help")?;
    ensure!(help.len() > 10, "{help:?}");
    let wrong = answer(&mut session, a, "vm start nobody")?;
    ensure!(!wrong.ok && wrong.error.is_some(), "{wrong:?}");
    let again = answer(&mut session, a, "vm start a")?;
    ensure!(!again.ok, "{again:?}");
    // Longer than any buffer on the way.
    let log = monitor(&mut session, a, "log 1000")?;
    ensure!(log.iter().any(|line| line.contains("OP-TEE")), "{log:?}");

    session.send(b, "monitor vm kill a")?;
    session
        .expect(b, SOON)
        .event("the refusal", |event| match event {
            Event::Error { text } if text.contains("/dev/ttyAMA1") => Some(()),
            _ => None,
        })?;

    // It is paused in the middle of its work, and goes on with it.
    session.send(b, &format!("xtest {WORK}"))?;
    in_case(&mut session, b, "regression_1006")?;
    obey(&mut session, a, "vm pause b")?;
    told(&mut session, &HypervisorEvent::VmPaused { vm: vm() })?;
    b_is(&mut session, a, "paused")?;
    obey(&mut session, a, "vm resume b")?;
    told(&mut session, &HypervisorEvent::VmResumed { vm: vm() })?;
    xtest_end(&mut session, b, 1)?;

    // The power button: Linux shuts down by itself.
    session.send(b, &format!("xtest {WORK}"))?;
    in_case(&mut session, b, "regression_1006")?;
    obey(&mut session, a, "vm stop b")?;
    session
        .expect(b, SOON)
        .event("b's good-bye", |event| (*event == Event::Bye).then_some(()))?;
    stopped(&mut session, "b", "off")?;
    b_is(&mut session, a, "off")?;
    obey(&mut session, a, "vm start b")?;
    session.expect(b, BOOT).ready()?;
    b_is(&mut session, a, "running")?;

    // Without asking.
    session.send(b, &format!("xtest {WORK}"))?;
    in_case(&mut session, b, "regression_1006")?;
    obey(&mut session, a, "vm kill b")?;
    stopped(&mut session, "b", "killed")?;
    obey(&mut session, a, "vm start b")?;
    session.expect(b, BOOT).ready()?;
    xtest(&mut session, b, WORK, 1)?;

    // A guest may stop itself as any other.
    session.send(a, "monitor vm stop a")?;
    stopped(&mut session, "a", "off")?;
    power_off(session, &["b"])
}
