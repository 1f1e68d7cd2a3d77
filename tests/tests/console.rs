// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Console input reaches its guest, whole.

use anyhow::{Context, Result, ensure};
use guest_agent::event::Event;
use postern_ctl::messages::HypervisorEvent;
use postern_qemu::console::Channel;
use postern_qemu::prepare::Flavour;
use postern_qemu::session::Session;
use postern_tests::{BOOT, Lab, SOON, WORK, power_off, stats};
use std::io::Write;
use std::process::{Command, Stdio};

fn pong(session: &mut Session, guest: Channel) -> Result<String> {
    session
        .expect(guest, SOON)
        .event("a pong", |event| match event {
            Event::Pong { text } => Some(text.clone()),
            _ => None,
        })
}

#[test]
fn input_reaches_its_guest_whole() -> Result<()> {
    let lab = Lab::new("console")?;
    let mut session = lab.up("two.toml")?;
    let (a, b) = (session.vm("a")?, session.vm("b")?);

    // The input is interleaved in the middle of lines: each guest joins its own.
    session.send_bytes(a, b"ping for-")?;
    session.send_bytes(b, b"ping for-")?;
    session.send_bytes(a, b"a 1\nping for-a 2\n")?;
    session.send_bytes(b, b"b 1\n")?;
    ensure!(pong(&mut session, a)? == "for-a 1");
    ensure!(pong(&mut session, b)? == "for-b 1");
    ensure!(pong(&mut session, a)? == "for-a 2");

    // The lines are longer than any FIFO on the way and go to both at once, with the monitor in
    // between.
    let long: String = (0..1500)
        .map(|index| char::from(b'a' + (index % 26) as u8))
        .collect();
    session.send(a, &format!("ping {long}"))?;
    session.send(Channel::Hypervisor, "stats")?;
    session.send(b, &format!("ping {}", long.to_uppercase()))?;
    ensure!(pong(&mut session, a)? == long);
    ensure!(pong(&mut session, b)? == long.to_uppercase());
    stats(&mut session, "b")?;

    // A shell in one guest, while the other one works beside it.
    session.send(a, "shell")?;
    session.expect(a, SOON).line("A shell")?;
    session.send(b, "ping still here")?;
    session.send(a, "echo $((6 * 7)) from the shell")?;
    session.expect(a, SOON).line("42 from the shell")?;
    ensure!(pong(&mut session, b)? == "still here");
    session.send(a, "exit")?;
    session.expect(a, SOON).ready()?;
    power_off(session, &["a", "b"])
}

/// The key is pressed while the firmware boots: its byte is in the UART's FIFO before anything
/// reads it.
#[test]
fn key_before_boot_leaves_console_working() -> Result<()> {
    let lab = Lab::new("early-key")?;
    let machine = lab.machine(&lab.system("one.toml")?, Flavour::Shared)?;
    let mut session = Session::boot(&machine, &lab.folder)?;
    session.send_bytes(Channel::Hypervisor, b"\r")?;
    // TF-A has enabled the FIFO, which empties it; OP-TEE and Postern come after this.
    session.expect(Channel::Firmware, BOOT).line("BL31")?;
    session.send_bytes(Channel::Hypervisor, b"\r")?;

    let name = machine.vms[0].name.clone();
    let guest = session.vm(&name)?;
    session.expect(guest, BOOT).ready()?;
    stats(&mut session, &name)?;
    session.send(guest, "ping after an early key")?;
    ensure!(pong(&mut session, guest)? == "after an early key");
    power_off(session, &[&name])
}

/// Returns the MD5 sum of some bytes, as `md5sum` prints it here and in the guest.
fn md5(bytes: &[u8]) -> Result<String> {
    let mut child = Command::new("md5sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("a pipe")?.write_all(bytes)?;
    let output = child.wait_with_output()?;
    let text = String::from_utf8(output.stdout)?;
    let sum = text.split_whitespace().next().context("a sum")?;
    Ok(sum.to_owned())
}

#[test]
fn paste_arrives_whole_and_delays_no_other_guest() -> Result<()> {
    let lab = Lab::new("paste")?;
    let mut session = lab.up("two.toml")?;
    let (a, b) = (session.vm("a")?, session.vm("b")?);
    let monitor = Channel::Hypervisor;

    // One guest is paused and does not read at all.
    session.send(monitor, "vm pause b")?;
    session
        .expect(monitor, SOON)
        .hypervisor("b to pause", |event| match event {
            HypervisorEvent::VmPaused { vm } if vm == "b" => Some(()),
            _ => None,
        })?;
    let waiting: Vec<String> = (0..40)
        .map(|line| format!("{line}-{}", "b".repeat(900)))
        .collect();
    for line in &waiting {
        session.send(b, &format!("ping {line}"))?;
    }

    // 34 KB in one piece, as when a terminal pastes a file.
    let paste: String = (0..680)
        .map(|line| {
            format!(
                "{line:04} {}\n",
                "the quick brown fox jumps over it".repeat(2).split_at(44).0
            )
        })
        .collect();
    ensure!(paste.len() == 34_000, "{} bytes", paste.len());
    session.send(a, "shell")?;
    session.expect(a, SOON).line("A shell")?;
    session.send(
        a,
        "cat > /tmp/paste; md5sum /tmp/paste; echo $(wc -c < /tmp/paste) bytes came",
    )?;
    session.send_bytes(a, paste.as_bytes())?;
    session.send_bytes(a, b"\x04")?;
    // The monitor answers meanwhile.
    stats(&mut session, "a")?;
    let sum = session.expect(a, WORK).line("  /tmp/paste")?;
    let size = session.expect(a, SOON).line(" bytes came")?;
    ensure!(size.contains("34000 bytes came"), "{size}");
    ensure!(sum.contains(&md5(paste.as_bytes())?), "{sum}");

    session.send(monitor, "vm resume b")?;
    for line in &waiting {
        let answer = pong(&mut session, b)?;
        ensure!(answer == *line, "b answers {answer:?} to {line:?}");
    }
    session.send(a, "exit")?;
    session.expect(a, SOON).ready()?;
    power_off(session, &["a", "b"])
}
