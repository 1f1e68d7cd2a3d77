// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Kernels that handle interrupts in threads end a level-sensitive interrupt while its line is
//! high, and unmask it later: any kernel with `threadirqs`, and a fully preemptible one always.

use anyhow::{Context, Error, Result, ensure};
use guest_agent::event::Event;
use postern_qemu::board::BoardName;
use postern_qemu::prepare::Flavour;
use postern_qemu::session::{Session, What};
use postern_tests::{BOOT, Lab, SOON, WORK, power_off};
use std::time::{Duration, Instant};

/// The number of typed lines.
const LINES: u32 = 20;
/// The most time for half of them, on a busy host. When each waited for the next timer interrupt it
/// was seconds.
const PROMPT: Duration = Duration::from_secs(1);

/// Types lines to a guest with threaded handlers on that board.
fn echo(lab: &Lab, board: BoardName) -> Result<()> {
    let system = lab.system("two.toml")?;
    let mut system = system.on_board(board).map_err(Error::msg)?;
    system.machine.cpus = 1;
    for vm in &mut system.vms {
        vm.vcpus = 1;
    }
    system.vms[0].cmdline += " threadirqs";
    let machine = lab.machine(&system, Flavour::Shared)?;
    let mut session = Session::boot(&machine, &lab.folder)?;
    let (a, b) = (session.vm("a")?, session.vm("b")?);
    for guest in [a, b] {
        session.expect(guest, BOOT).ready()?;
    }
    let mut times = Vec::new();
    for line in 0..LINES {
        let start = Instant::now();
        let text = format!("line {line}, which is longer than the UART's FIFO is deep");
        session.send(a, &format!("ping {text}"))?;
        session.expect(a, SOON).event("the echo", |event| {
            matches!(event, Event::Pong { text: found } if *found == text).then_some(())
        })?;
        times.push(start.elapsed());
    }
    times.sort();
    println!("{LINES} lines: {times:?}");
    let median = times[times.len() / 2];
    ensure!(median < PROMPT, "half of the lines took {median:?} or more");
    power_off(session, &["a", "b"])
}

#[test]
fn threaded_handlers_echo_typed_lines_promptly() -> Result<()> {
    echo(&Lab::new("threaded-handlers")?, BoardName::Virt)
}

#[test]
fn threaded_handlers_echo_typed_lines_promptly_with_gicv2() -> Result<()> {
    echo(&Lab::new("threaded-handlers-gicv2")?, BoardName::VirtGicv2)
}

/// The number of wake-ups after which the first of cyclictest's threads ends, and with it all.
const LOOPS: u64 = 5000;

#[test]
fn preemptible_kernel_works_on_all_cpus() -> Result<()> {
    let lab = Lab::new("preemptible-kernel")?;
    let system = lab.system("rt.toml")?;
    let vcpus = system.vms[0].vcpus as usize;
    let machine = lab.machine(&system, Flavour::Shared)?;
    let mut session = Session::boot(&machine, &lab.folder)?;
    let rt = session.vm("rt")?;
    session.expect(rt, BOOT).ready()?;
    session.send(rt, "shell")?;
    session.expect(rt, SOON).line("A shell")?;
    // The typed line is echoed, too, and must not look like an answer.
    session.send(rt, "echo preemptible: $(uname -v)")?;
    session.expect(rt, SOON).line("PREEMPT_RT")?;
    session.send(
        rt,
        &format!(
            "cyclictest -q -m -t {vcpus} -a -p 80 -i 2000 -d 0 -l {LOOPS} > /tmp/cyclic & \
             for n in 1001 1004 4001 6001; do xtest -t regression $n > /tmp/xtest; \
             echo case $n: exit=$?; done; wait; cat /tmp/cyclic; echo all of it is $((40 + 2))"
        ),
    )?;
    let mut passed = 0;
    let mut counts = Vec::new();
    session.expect(rt, WORK).find("the end", |what| {
        let What::Line(line) = what else {
            return None;
        };
        passed += usize::from(line.starts_with("case ") && line.ends_with("exit=0"));
        counts.extend(line.starts_with("T:").then(|| loops(line)));
        line.contains("all of it is 42").then_some(())
    })?;
    ensure!(passed == 4, "{passed} of 4 cases of xtest passed");
    ensure!(counts.len() == vcpus, "threads of cyclictest: {counts:?}");
    for count in counts {
        let count = count?;
        ensure!(count >= LOOPS / 2, "a thread woke up only {count} times");
    }
    session.send(rt, "exit")?;
    session.expect(rt, SOON).ready()?;
    power_off(session, &["rt"])
}

/// Returns how many times a thread has woken up, from a line such as `T: 0 (  113) P:80 I:2000 C:
/// 5000 Min: …`.
fn loops(line: &str) -> Result<u64> {
    let count = line.split("C:").nth(1);
    let count = count.and_then(|rest| rest.split_whitespace().next());
    let count = count.with_context(|| format!("no count in {line:?}"))?;
    Ok(count.parse()?)
}
