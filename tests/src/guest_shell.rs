// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Commands in the shell of a Linux guest, and those that keep its disk busy.

use crate::SOON;
use anyhow::{Result, ensure};
use postern_qemu::console::Channel;
use postern_qemu::session::Session;
use std::time::Duration;

/// Writes a file and its sum, to the disk and not only to the cache.
pub const WRITE: &str = "dd if=/dev/urandom of=/data bs=64k count=64 conv=fsync 2> /dev/null; \
                         md5sum /data > /data.md5; sync";
/// Keeps the disk busy in both directions.
const BUSY: &str = "for n in 1 2; do \
                        while :; do dd if=/dev/vda of=/dev/null bs=64k iflag=direct; done 2> /dev/null & \
                        while :; do dd if=/dev/zero of=/scratch$n bs=64k count=99 oflag=direct; done 2> /dev/null & \
                        done; sleep 2";

/// Executes commands in a shell of the guest, which take `most` at most.
///
/// # Errors
///
/// Fails unless the last command succeeds.
pub fn shell(session: &mut Session, guest: Channel, most: Duration, commands: &str) -> Result<()> {
    session.send(guest, "shell")?;
    session.expect(guest, SOON).line("A shell;")?;
    session.send(guest, &format!("{commands}; echo status=$?."))?;
    // The typed line is echoed by the terminal, the shell, or both, and is no answer.
    let mut end = session.expect(guest, most).line("status=")?;
    while end.contains("status=$") {
        end = session.expect(guest, most).line("status=")?;
    }
    ensure!(end.contains("status=0."), "{commands}: {end}");
    session.send(guest, "exit")?;
    session.expect(guest, SOON).ready()
}

/// Executes commands in a shell of the guest, which take `most` at most, and returns the last line of their output.
///
/// # Errors
///
/// Fails unless the last command succeeds and prints something.
pub fn shell_says(
    session: &mut Session,
    guest: Channel,
    most: Duration,
    commands: &str,
) -> Result<String> {
    let file = "/tmp/said";
    shell(session, guest, most, &format!("{{ {commands}; }} > {file}"))?;
    session.send(guest, "shell")?;
    session.expect(guest, SOON).line("A shell;")?;
    // The typed line has other characters where the answer has its mark.
    session.send(guest, &format!("tail -n 1 {file} | sed 's/^/it-''is-:/'"))?;
    let line = session.expect(guest, SOON).line("it-is-:")?;
    let said = line.split_once("it-is-:").map(|(_, said)| said.trim());
    session.send(guest, "exit")?;
    session.expect(guest, SOON).ready()?;
    let said = said.unwrap_or_default().to_owned();
    ensure!(!said.is_empty(), "{commands}: no output");
    Ok(said)
}

/// Keeps the guest's disk busy, and resets the guest in the middle of it.
///
/// # Errors
///
/// Fails when the guest has no shell.
pub fn reset_busy(session: &mut Session, guest: Channel) -> Result<()> {
    session.send(guest, "shell")?;
    session.expect(guest, SOON).line("A shell;")?;
    session.send(guest, &format!("{BUSY}; reboot -f"))
}
