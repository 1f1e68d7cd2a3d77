// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Each start of a guest's kernel has fresh random bytes from the first instruction on.

use anyhow::{Context, Result, ensure};
use postern_qemu::console::Channel;
use postern_qemu::session::Session;
use postern_tests::{BOOT, Lab, SOON, power_off, stopped};

/// Returns the address at which a guest's kernel has placed itself.
fn placement(session: &mut Session, guest: Channel) -> Result<String> {
    session.send(guest, "shell")?;
    session.expect(guest, SOON).line("A shell")?;
    session.send(guest, "grep ' _text$' /proc/kallsyms | sed s/^/at-/")?;
    let line = session.expect(guest, SOON).line("at-ffff")?;
    session.send(guest, "exit")?;
    session.expect(guest, SOON).ready()?;
    let place = line.split_whitespace().next();
    Ok(place.context("no address")?.to_owned())
}

/// Checks a guest's console for the kernel's messages about random numbers, in all of its output so
/// far.
fn check_log(lab: &Lab, guest: &str, starts: usize) -> Result<()> {
    let log = std::fs::read(lab.folder.join(format!("vm-{guest}.log")))?;
    let log = String::from_utf8_lossy(&log);
    ensure!(
        !log.contains("KASLR disabled"),
        "{guest} lacks a kaslr-seed"
    );
    let ready = log
        .lines()
        .filter(|line| line.contains("[    0.0") && line.contains("random: crng init done"))
        .count();
    ensure!(
        ready == starts,
        "{guest}: crng ready at 0.0 s {ready} times"
    );
    Ok(())
}

#[test]
fn each_start_has_fresh_seeds() -> Result<()> {
    let lab = Lab::new("seeds")?;
    let mut session = lab.up("two.toml")?;
    let (a, b) = (session.vm("a")?, session.vm("b")?);
    let mut places = vec![placement(&mut session, a)?, placement(&mut session, b)?];
    session.send(a, "reboot")?;
    stopped(&mut session, "a", "reset")?;
    session.expect(a, BOOT).ready()?;
    places.push(placement(&mut session, a)?);

    check_log(&lab, "a", 2)?;
    check_log(&lab, "b", 1)?;
    let said = places.join(" ");
    places.sort();
    places.dedup();
    ensure!(places.len() == 3, "kernels share an address: {said}");
    // QEMU's boot tree has 32 and 8 bytes.
    let log = std::fs::read_to_string(lab.folder.join("hypervisor.log"))?;
    let origin = "seeds of guests' kernels: 40 random bytes in the boot tree";
    ensure!(log.contains(origin), "the log does not name their source");
    power_off(session, &["a", "b"])
}
