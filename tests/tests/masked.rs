// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Nothing that a guest causes, and nothing that is done for one, keeps interrupts masked for long.
//!
//! QEMU counts instructions here, two nanoseconds each, so the figures are the same on every host.

use anyhow::{Result, ensure};
use postern_qemu::console::Channel;
use postern_qemu::prepare::Flavour;
use postern_qemu::session::Session;
use postern_tests::masked::{BOUND_NS, Masked, count};
use postern_tests::{BOOT, Lab, WORK, stopped};

/// What the large guest does in its own calls before it is ended: the states to enter.
const LIVES: [&str; 4] = ["split", "largest", "buffers-most", "registering"];

fn order(session: &mut Session, command: &str) -> Result<()> {
    session.send(Channel::Hypervisor, &format!("#order {command} --json"))?;
    let answer = session.expect(Channel::Hypervisor, BOOT).answer("order")?;
    ensure!(answer.ok, "{command}: {answer:?}");
    Ok(())
}

fn wait(session: &mut Session, guest: Channel, event: &str) -> Result<()> {
    session
        .expect(guest, WORK)
        .program(event, |found| (found["event"] == event).then_some(()))
}

#[test]
fn masked_time_stays_below_half_a_millisecond() -> Result<()> {
    let lab = Lab::new("masked")?;
    let mut machine = lab.machine(&lab.system("masked.toml")?, Flavour::Shared)?;
    count(&mut machine);
    let mut session = Session::boot(&machine, &lab.folder)?;
    let (large, busy) = (session.vm("large")?, session.vm("busy")?);
    for guest in [large, busy] {
        wait(&mut session, guest, "ready")?;
    }
    let mut before = 0;
    let mut late = Vec::new();
    let mut look = |session: &mut Session, what: &str| -> Result<()> {
        let masked = Masked::ask_session(session)?;
        if masked.ns > before {
            before = masked.ns;
            println!("{what}: {} us ({})", masked.ns / 1000, masked.by);
            if masked.ns >= BOUND_NS {
                late.push(format!("{what}: {} ns ({})", masked.ns, masked.by));
            }
        }
        Ok(())
    };
    look(&mut session, "boot")?;
    // Once with no other work on the CPU, and once with steps between another guest's instructions.
    for flooded in [false, true] {
        if flooded {
            session.send(busy, "flood spin")?;
            wait(&mut session, busy, "flooding")?;
        }
        for state in LIVES {
            session.send(large, &format!("park {state}"))?;
            wait(&mut session, large, "parked")?;
            look(&mut session, &format!("{state}, flooded: {flooded}"))?;
            order(&mut session, "vm reset large")?;
            stopped(&mut session, "large", "reset")?;
            look(
                &mut session,
                &format!("the end of {state}, flooded: {flooded}"),
            )?;
            wait(&mut session, large, "ready")?;
            look(
                &mut session,
                &format!("the start after {state}, flooded: {flooded}"),
            )?;
        }
    }
    // The longest answer, in one line, which contains the log of all of this.
    order(&mut session, "log 9999")?;
    look(&mut session, "the log as JSON")?;
    session.send(busy, "ping x")?;
    wait(&mut session, busy, "pong")?;
    for name in ["large", "busy"] {
        order(&mut session, &format!("vm kill {name}"))?;
        stopped(&mut session, name, "killed")?;
    }
    ensure!(late.is_empty(), "beyond {BOUND_NS} ns: {late:?}");
    Ok(())
}
