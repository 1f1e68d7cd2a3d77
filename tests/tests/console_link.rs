// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A console between two VMs, with Debian's own driver: what one guest types is what the other reads, and a guest that
//! writes goes on when nobody reads.

use anyhow::{Result, ensure};
use postern_qemu::config::{Link, LinkKind};
use postern_qemu::console::Channel;
use postern_qemu::prepare::Flavour;
use postern_qemu::session::Session;
use postern_tests::guest_shell::{shell, shell_says};
use postern_tests::{BOOT, Lab, SOON, WORK, power_off, stopped};

/// Makes the text, the same in both guests.
const MAKE_TEXT: &str = "awk 'BEGIN { for (i = 1; i <= 400; i++) print \"line\", i, \"of a text that is typed\" }' \
                         > /tmp/text";
/// Opens the console and leaves it open, since Linux resets its settings at the last close.
const OPEN: &str =
    "(trap '' HUP; stty raw -echo; exec sleep 100000) <>/dev/hvc0 & sleep 1; stty < /dev/hvc0";
/// Reads as many bytes as the text has.
const READ: &str = "rm -f /tmp/got; (trap '' HUP; exec head -c $(wc -c < /tmp/text) /dev/hvc0 > /tmp/got) & sleep 1";
/// Waits for them, and compares.
const COMPARE: &str = "for i in $(seq 60); do cmp -s /tmp/text /tmp/got && break; sleep 0.5; done; \
                       cmp /tmp/text /tmp/got";
/// Writes all at once.
const WRITE: &str = "cat /tmp/text > /dev/hvc0";
/// Writes line by line.
const TYPE: &str = "while read -r line; do echo \"$line\"; done < /tmp/text > /dev/hvc0";
/// Writes without end, and counts.
const WRITE_ON: &str = "(trap '' HUP; n=0; while :; do cat /tmp/text > /dev/hvc0; n=$((n+1)); echo $n > /tmp/n; done) & \
                        echo $! > /tmp/writer; sleep 1";
/// What [`WRITE_ON`] has counted goes on growing.
const GOES_ON: &str = "was=$(cat /tmp/n); sleep 2; test $(cat /tmp/n) -gt $((was + 3))";
/// Drops what has arrived.
const DRAIN: &str = "timeout 3 cat /dev/hvc0 > /dev/null; true";
/// Waits for a login, without asking for a name.
const LOG_IN: &str = "(trap '' HUP; exec setsid getty -n -l /bin/sh 115200 hvc0) & sleep 1";
/// Uses it from the other end.
const USE_LOGIN: &str = "timeout 20 cat /dev/hvc0 > /tmp/session & sleep 1; printf 'echo 6x7=$((6*7)).\\n' > /dev/hvc0; \
                         for i in $(seq 30); do grep -q '6x7=42[.]' /tmp/session && break; sleep 0.5; done; \
                         cat /tmp/session; grep '6x7=42[.]' /tmp/session";

/// Returns the counters of a VM's ends of consoles: sent, received, dropped.
fn counters(session: &mut Session, vm: &str) -> Result<[u64; 3]> {
    session.send(Channel::Hypervisor, &format!("#bytes vm info {vm} --json"))?;
    let answer = session.expect(Channel::Hypervisor, SOON).answer("bytes")?;
    let bytes = &answer.more["vm"]["bytes"];
    Ok(["sent", "received", "dropped"].map(|name| bytes[name].as_u64().unwrap_or(u64::MAX)))
}

#[test]
fn guests_type_to_each_other_and_go_on_when_nobody_reads() -> Result<()> {
    let lab = Lab::new("console-link")?;
    let mut system = lab.system("two.toml")?;
    system.links = vec![Link {
        name: "serial".into(),
        kind: LinkKind::Console,
        vms: vec!["a".into(), "b".into()],
    }];
    let machine = lab.machine(&system, Flavour::Shared)?;
    let mut session = Session::boot(&machine, &lab.folder)?;
    let (a, b) = (session.vm("a")?, session.vm("b")?);
    for guest in [a, b] {
        session.expect(guest, BOOT).ready()?;
    }
    let run = |session: &mut Session, guest, commands: &[&str]| -> Result<()> {
        for commands in commands {
            shell(session, guest, WORK, commands)?;
        }
        Ok(())
    };
    for guest in [a, b] {
        run(&mut session, guest, &[MAKE_TEXT, OPEN])?;
    }
    let length: u64 = shell_says(&mut session, a, SOON, "wc -c < /tmp/text")?.parse()?;
    for (from, to, write) in [(a, b, WRITE), (b, a, WRITE), (b, a, TYPE), (a, b, TYPE)] {
        run(&mut session, to, &[READ])?;
        run(&mut session, from, &[write])?;
        run(&mut session, to, &[COMPARE])?;
    }
    for vm in ["a", "b"] {
        let found = counters(&mut session, vm)?;
        ensure!(found == [2 * length, 2 * length, 0], "{vm}: {found:?}");
    }

    // The reader ends in the middle; and when it is back, it does not read at first.
    run(&mut session, a, &[WRITE_ON])?;
    session.send(Channel::Hypervisor, "vm kill b")?;
    stopped(&mut session, "b", "killed")?;
    let [_, _, dropped] = counters(&mut session, "a")?;
    run(&mut session, a, &[GOES_ON])?;
    let [_, _, more] = counters(&mut session, "a")?;
    ensure!(
        more > dropped,
        "{more} bytes were dropped, not more than {dropped}"
    );
    session.send(Channel::Hypervisor, "vm start b")?;
    session.expect(b, BOOT).ready()?;
    run(&mut session, a, &[GOES_ON, "kill $(cat /tmp/writer)"])?;
    run(&mut session, b, &[MAKE_TEXT, OPEN, DRAIN, READ])?;
    run(&mut session, a, &[TYPE])?;
    run(&mut session, b, &[COMPARE])?;

    // A writer that ends is no reader's harm.
    session.send(Channel::Hypervisor, "vm reset a")?;
    stopped(&mut session, "a", "reset")?;
    session.expect(a, BOOT).ready()?;
    run(&mut session, a, &[MAKE_TEXT, OPEN])?;
    run(&mut session, b, &[READ])?;
    run(&mut session, a, &[WRITE])?;
    run(&mut session, b, &[COMPARE])?;

    // A login, or what follows one.
    run(&mut session, b, &[LOG_IN])?;
    run(&mut session, a, &[USE_LOGIN])?;
    power_off(session, &["a", "b"])
}
