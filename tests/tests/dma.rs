// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest has a PCI device access all that is not the VM's (`guests/dma`). It reaches nothing, before and after a reset,
//! and a neighbour's RAM stays as it is.

use anyhow::{Context, Result, ensure};
use postern_ctl::messages::Stats;
use postern_qemu::console::Channel;
use postern_qemu::launch::Machine;
use postern_qemu::prepare::Flavour;
use postern_qemu::session::{Session, What};
use postern_tests::{BOOT, Lab, SOON, WORK, with_edu};

const ATTACKER: Channel = Channel::Vm(1);
const WITNESS: Channel = Channel::Vm(2);
/// The cases of both lives.
const CASES: usize = 24;

fn boot(lab: &Lab) -> Result<(Machine, Session)> {
    let system = lab.system("dma.toml")?;
    let mut machine = lab.machine(&system, Flavour::Shared)?;
    with_edu(&mut machine);
    let session = Session::boot(&machine, &lab.folder)?;
    Ok((machine, session))
}

fn stats(session: &mut Session, vm: &str) -> Result<Stats> {
    session.send(Channel::Hypervisor, "stats")?;
    session
        .expect(Channel::Hypervisor, SOON)
        .find("the attacker's counters", |what| match what {
            What::Stats(stats) if stats.vm == vm => Some((**stats).clone()),
            _ => None,
        })
}

#[test]
fn a_device_reaches_no_memory_but_its_vms() -> Result<()> {
    let lab = Lab::new("dma")?;
    let (_, mut session) = boot(&lab)?;
    session
        .expect(WITNESS, BOOT)
        .program("the neighbour's start", |event| {
            (event["event"] == "ready").then_some(())
        })?;
    let mut cases = Vec::new();
    let mut counted = None;
    for life in 1..=2 {
        let end = if life == 1 { "reset" } else { "dma-end" };
        session
            .expect(ATTACKER, WORK)
            .program("the end of a life", |event| {
                if event["event"] == "case" {
                    println!("{event}");
                    cases.push(event.clone());
                }
                (event["event"] == end).then_some(())
            })?;
        if life == 1 {
            counted = Some(stats(&mut session, "dma")?);
        }
    }
    let changed = session
        .expect(WITNESS, WORK)
        .program("what the neighbour has seen", |event| {
            (event["event"] == "witness-end").then(|| event["changed"].as_u64())?
        })?;
    let wrong: Vec<_> = cases.iter().filter(|case| case["ok"] != true).collect();
    ensure!(wrong.is_empty(), "{wrong:#?}");
    ensure!(cases.len() == CASES, "{} cases: {cases:#?}", cases.len());
    ensure!(changed == 0, "{changed} words of the neighbour's RAM");
    let counted = counted.context("no counters of the first life")?;
    println!("{counted:?}");
    let refused = counted
        .more
        .get("refused")
        .and_then(|counts| counts["dma"].as_u64());
    ensure!(refused > Some(0), "no access was counted: {counted:?}");
    Ok(())
}
