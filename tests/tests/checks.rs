// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest finds its machine as it would find a real one: `guests/checks` on the bare machine and
//! under Postern.

use anyhow::{Context, Error, Result, ensure};
use postern_qemu::board::BoardName;
use postern_qemu::config::System;
use postern_qemu::console::Channel;
use postern_qemu::launch::{Firmware, Machine};
use postern_qemu::prepare::Flavour;
use postern_qemu::session::Session;
use postern_tests::{BOOT, Lab};
use serde_json::Value;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Enough for all cases.
const CHECKS: Duration = Duration::from_secs(240);

/// Returns the result of each case, in order.
fn run(machine: &Machine, lab: &Lab, place: &str) -> Result<Vec<String>> {
    let mut session = Session::boot(machine, &lab.folder.join(place))?;
    let program = Channel::Vm(1);
    session
        .expect(program, BOOT)
        .program("the program's start", |event| {
            (event["event"] == "ready").then_some(())
        })?;
    let mut lines = Vec::new();
    let mut clock = None;
    let cases = session
        .expect(program, CHECKS)
        .program("the end of the checks", |event| {
            match event["event"].as_str()? {
                "clock" => {
                    clock = event["seconds"].as_u64();
                    None
                }
                "case" | "error" => {
                    println!("{place}: {event}");
                    lines.push(event.to_string());
                    None
                }
                "checks-end" => event["cases"].as_u64(),
                _ => None,
            }
        })
        .with_context(|| format!("{place}: {lines:#?}"))?;
    ensure!(
        u64::try_from(lines.len())? == cases,
        "{place}: {cases} cases, {lines:#?}"
    );
    // QEMU's clock follows the host's, and is read at its start, which may be some minutes ago.
    let host = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    ensure!(
        clock.is_some_and(|clock| clock.abs_diff(host) < 600),
        "{place}: the guest's clock has {clock:?}, the host's {host}"
    );
    Ok(lines)
}

/// Returns the same machine without firmware, hypervisor and OP-TEE: QEMU starts the program at EL1
/// with its own tree.
fn bare(lab: &Lab, system: &System, model: &str) -> Result<Machine> {
    let mut machine = lab.machine(system, Flavour::Bare)?;
    let program = machine
        .loads
        .drain(..)
        .next()
        .context("there is no program")?;
    machine.model = model.into();
    machine.firmware = Firmware::Kernel(program.file);
    machine.tree = None;
    machine.cpus = 2;
    Ok(machine)
}

/// Compares the machines of a board, on which QEMU itself starts `model`.
fn compare(lab: &Lab, board: BoardName, model: &str) -> Result<()> {
    let system = lab.system("checks.toml")?;
    let system = system.on_board(board).map_err(Error::msg)?;
    let bare = run(&bare(lab, &system, model)?, lab, "bare")?;
    let shared = lab.machine(&system, Flavour::Shared)?;
    let guest = run(&shared, lab, "postern")?;
    let wrong = |lines: &[String]| -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        for line in lines {
            let event: Value = serde_json::from_str(line)?;
            if event["ok"] != true {
                wrong.push(line.clone());
            }
        }
        Ok(wrong)
    };
    let (of_guest, of_bare) = (wrong(&guest)?, wrong(&bare)?);
    ensure!(
        of_guest.is_empty() && of_bare.is_empty(),
        "{of_guest:#?} under Postern, {of_bare:#?} bare"
    );
    ensure!(guest == bare, "{guest:#?} under Postern, {bare:#?} bare");
    ensure!(!guest.is_empty(), "nothing was checked");
    Ok(())
}

#[test]
fn guest_machine_matches_bare_machine() -> Result<()> {
    let lab = Lab::new("checks")?;
    compare(&lab, BoardName::Virt, "virt,gic-version=3")
}

#[test]
fn guest_machine_matches_bare_machine_with_gicv2() -> Result<()> {
    let lab = Lab::new("checks-gicv2")?;
    compare(&lab, BoardName::VirtGicv2, "virt,gic-version=2")
}
