// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A link between two VMs, with Debian's own drivers: the guests talk over it while both use the TEE,
//! and each sees it go down when the other ends.

use anyhow::{Result, bail, ensure};
use guest_agent::event::Event;
use postern_qemu::config::{Link, LinkKind};
use postern_qemu::console::Channel;
use postern_qemu::prepare::Flavour;
use postern_qemu::session::Session;
use postern_tests::guest_shell::shell;
use postern_tests::{BOOT, Lab, SOON, WORK, power_off, stopped, xtest_end};

/// The addresses of the guests on their link, 10.77.LINK.VM.
const A: &str = "10.77.1.1";
const B: &str = "10.77.1.2";
/// Where a guest serves the other one's transfers.
const PORT: u16 = 4000;
/// The amount of each transfer.
const MIB: u64 = 8;
/// What the far end does meanwhile.
const XTEST: &str = "-t regression 1001 1004";
const XTEST_CASES: u32 = 2;
/// Waits until the link is down, and then up.
const WATCH: &str = "cd /sys/class/net/eth0; until grep 0 carrier; do sleep 0.1; done; \
                     echo carrier \"gone\"; until grep 1 carrier; do sleep 0.1; done";

/// Makes a guest the far end of transfers, and waits until it is.
fn serve(session: &mut Session, guest: Channel) -> Result<()> {
    session.send(guest, &format!("serve {PORT}"))?;
    session.send(guest, "ping served")?;
    let error = session
        .expect(guest, SOON)
        .event("the far end", |event| match event {
            Event::Pong { .. } => Some(None),
            Event::Error { text } => Some(Some(text.clone())),
            _ => None,
        })?;
    ensure!(error.is_none(), "serve: {error:?}");
    Ok(())
}

/// Moves bytes in both directions; both ends check them.
fn transfer(session: &mut Session, guest: Channel, to: &str) -> Result<()> {
    session.send(guest, &format!("network {to}:{PORT} {MIB}"))?;
    let moved =
        session
            .expect(guest, WORK)
            .event("the end of the transfers", |event| match event {
                Event::Network(moved) => Some(Ok(*moved)),
                Event::Error { text } => Some(Err(text.clone())),
                _ => None,
            })?;
    match moved {
        Ok(moved) if moved.bytes == MIB << 20 => Ok(()),
        other => bail!("network to {to}: {other:?}"),
    }
}

/// Checks that the monitor counts a VM's frames: more than the transfers would need at the largest size.
fn check_counters(session: &mut Session, vm: &str) -> Result<()> {
    session.send(Channel::Hypervisor, &format!("#frames vm info {vm} --json"))?;
    let answer = session.expect(Channel::Hypervisor, SOON).answer("frames")?;
    let frames = &answer.more["vm"]["frames"];
    let least = (MIB << 20) / 1500;
    for name in ["sent", "received"] {
        let count = frames[name].as_u64();
        ensure!(count > Some(least), "{name}: {frames}");
    }
    Ok(())
}

/// Begins to watch a guest's link, in a shell.
fn watch(session: &mut Session, guest: Channel) -> Result<()> {
    session.send(guest, "shell")?;
    session.expect(guest, SOON).line("A shell;")?;
    session.send(guest, &format!("{WATCH}; echo carrier \"back\""))
}

/// Waits until [`watch`] has seen the link go down.
fn is_down(session: &mut Session, guest: Channel) -> Result<()> {
    session.expect(guest, SOON).line("carrier gone")?;
    Ok(())
}

/// Waits until [`watch`] has seen the link come back.
fn is_up(session: &mut Session, guest: Channel) -> Result<()> {
    session.expect(guest, BOOT).line("carrier back")?;
    session.send(guest, "exit")?;
    session.expect(guest, SOON).ready()
}

#[test]
fn guests_talk_over_a_link_and_see_it_go_down() -> Result<()> {
    let lab = Lab::new("links")?;
    let mut system = lab.system("two.toml")?;
    system.links = vec![Link {
        name: "lan".into(),
        kind: LinkKind::Network,
        vms: vec!["a".into(), "b".into()],
    }];
    let machine = lab.machine(&system, Flavour::Shared)?;
    let mut session = Session::boot(&machine, &lab.folder)?;
    let (a, b) = (session.vm("a")?, session.vm("b")?);
    session.expect(a, BOOT).ready()?;
    session.expect(b, BOOT).ready()?;

    // Addresses that follow from the numbers of link and VM.
    for (guest, number, other) in [(a, 0, B), (b, 1, A)] {
        let mac = format!("grep -q 02:70:73:74:00:0{number} /sys/class/net/eth0/address");
        // The largest packet that is not split, and one that is.
        let ping = format!("ping -c 3 -s 1472 {other} && ping -c 3 -s 4000 {other}");
        shell(&mut session, guest, WORK, &format!("{mac} && {ping}"))?;
    }
    serve(&mut session, b)?;
    session.send(b, &format!("xtest {XTEST}"))?;
    transfer(&mut session, a, B)?;
    check_counters(&mut session, "a")?;
    xtest_end(&mut session, b, XTEST_CASES)?;

    watch(&mut session, a)?;
    session.send(Channel::Hypervisor, "vm reset b")?;
    is_down(&mut session, a)?;
    session.expect(b, BOOT).ready()?;
    is_up(&mut session, a)?;
    serve(&mut session, b)?;
    transfer(&mut session, a, B)?;

    watch(&mut session, b)?;
    session.send(Channel::Hypervisor, "vm kill a")?;
    stopped(&mut session, "a", "killed")?;
    is_down(&mut session, b)?;
    session.send(Channel::Hypervisor, "vm start a")?;
    session.expect(a, BOOT).ready()?;
    is_up(&mut session, b)?;
    serve(&mut session, a)?;
    transfer(&mut session, b, A)?;
    power_off(session, &["a", "b"])
}
