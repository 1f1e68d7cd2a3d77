// SPDX-License-Identifier: Apache-2.0 OR MIT
//! VMs compete for the TEE: `tee = "required"` and `"optional"`, on an OP-TEE that is built for two
//! VMs and on one that is not virtualised.

use anyhow::{Result, ensure};
use postern_ctl::messages::HypervisorEvent;
use postern_qemu::config::{System, Tee, Vm, WhenAllOff};
use postern_qemu::console::Channel;
use postern_qemu::prepare::Flavour;
use postern_qemu::session::Session;
use postern_tests::{BOOT, Lab, SOON, power_off, stopped, xtest};

/// Returns a VM with the bare-metal program of `guests/soak.toml`.
fn program(lab: &Lab, name: &str, tee: Tee) -> Result<Vm> {
    let mut vm = lab.system("soak.toml")?.vms.pop().expect("it has three");
    vm.name = name.into();
    vm.tee = tee;
    vm.autostart = true;
    Ok(vm)
}

fn boot(lab: &Lab, system: &System) -> Result<Session> {
    let machine = lab.machine(system, Flavour::Shared)?;
    Session::boot(&machine, &lab.folder)
}

/// Waits until those VMs have started, in any order; returns which have the TEE.
fn have_tee<const N: usize>(session: &mut Session, names: [&str; N]) -> Result<[bool; N]> {
    let mut found = [None; N];
    session
        .expect(Channel::Hypervisor, BOOT)
        .hypervisor("the start of all", |event| {
            if let HypervisorEvent::VmStarted { vm, tee, .. } = event
                && let Some(at) = names.iter().position(|name| name == vm)
            {
                found[at] = Some(*tee);
            }
            found.iter().all(Option::is_some).then_some(())
        })?;
    Ok(found.map(|tee| tee == Some(true)))
}

/// Checks whether the program in a VM can use the TEE.
fn alive(session: &mut Session, name: &str) -> Result<()> {
    let channel = session.vm(name)?;
    session.expect(channel, SOON).ready()?;
    session.send(channel, "alive")?;
    let text = session
        .expect(channel, SOON)
        .program("an answer", |event| {
            let answers = event["event"] == "alive";
            answers.then(|| (event["ok"] == true, event["text"].to_string()))
        })?;
    ensure!(text.0, "{name}: {}", text.1);
    Ok(())
}

fn order(session: &mut Session, line: &str) -> Result<()> {
    session.send(Channel::Hypervisor, line)
}

#[test]
fn vm_requiring_tee_does_not_start_without() -> Result<()> {
    let lab = Lab::new("who-gets-the-tee")?;
    let mut system = lab.system("soak.toml")?;
    system.machine.optee_guests = None;
    system.machine.when_all_off = WhenAllOff::Stay;
    system.vms = vec![
        program(&lab, "first", Tee::Required)?,
        program(&lab, "wants", Tee::Optional)?,
        program(&lab, "late", Tee::Optional)?,
        program(&lab, "must", Tee::Required)?,
    ];
    system.vms[3].autostart = false;
    let mut session = boot(&lab, &system)?;
    let found = have_tee(&mut session, ["first", "wants", "late"])?;
    ensure!(found == [true, true, false], "{found:?}");
    alive(&mut session, "first")?;
    alive(&mut session, "wants")?;
    let log = std::fs::read_to_string(lab.folder.join("hypervisor.log"))?;
    let told = log.matches("vm late: starts without a TEE").count();
    ensure!(told == 1, "reported {told} times that it has no TEE");

    // The command fails with a reason, and the others go on.
    order(&mut session, "vm start must")?;
    let why = session
        .expect(Channel::Hypervisor, SOON)
        .line("vm must: tee = \"required\"")?;
    ensure!(why.contains("CFG_VIRT_GUEST_COUNT"), "{why}");
    stopped(&mut session, "must", "error")?;

    // There is room as soon as another VM has ended.
    order(&mut session, "vm kill wants")?;
    stopped(&mut session, "wants", "killed")?;
    order(&mut session, "vm start must")?;
    ensure!(have_tee(&mut session, ["must"])? == [true]);
    alive(&mut session, "must")?;
    order(&mut session, "vm kill first")?;
    stopped(&mut session, "first", "killed")?;
    order(&mut session, "vm reset late")?;
    stopped(&mut session, "late", "reset")?;
    ensure!(have_tee(&mut session, ["late"])? == [true]);
    alive(&mut session, "late")
}

#[test]
fn unvirtualised_optee_serves_one_vm() -> Result<()> {
    let lab = Lab::new("not-virtualised")?;
    let mut system = lab.system("not-virtualised.toml")?;
    system.vms.push(program(&lab, "other", Tee::Optional)?);
    let mut session = boot(&lab, &system)?;
    let found = have_tee(&mut session, ["a", "other"])?;
    ensure!(found == [true, false], "{found:?}");
    let a = session.vm("a")?;
    session.expect(a, BOOT).ready()?;
    xtest(&mut session, a, "-t regression 1004 6001", 2)?;
    // In its next life as well.
    session.send(a, "reboot")?;
    stopped(&mut session, "a", "reset")?;
    ensure!(have_tee(&mut session, ["a"])? == [true]);
    session.expect(a, BOOT).ready()?;
    xtest(&mut session, a, "-t regression 1004 6001", 2)?;
    order(&mut session, "vm kill other")?;
    stopped(&mut session, "other", "killed")?;
    power_off(session, &["a"])
}
