// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `make bench-linux`: measures the round trip to the TEE as a program in a Linux guest sees it,
//! idle and with load from other guests, and the SMCs and RPCs per call, with `RPC_ARG` and
//! without.

use anyhow::{Context, Result, bail, ensure};
use guest_agent::event::{Event, Latency};
use postern_ctl::messages::Stats;
use postern_qemu::console::Channel;
use postern_qemu::prepare::Flavour;
use postern_qemu::report::latency_picture;
use postern_qemu::session::{Session, What};
use postern_tests::meter::{CLOCK, INSTRUCTION_NS, latency, quiet};
use postern_tests::{BOOT, Lab, WORK, power_off, stats};
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

/// The guests; the first one measures. The first has `RPC_ARG`, the second has not.
const GUESTS: [&str; 4] = ["a", "b", "c", "d"];
/// The numbers of working guests.
const LOADED: [usize; 3] = [1, 2, 4];
/// The number of calls that are timed.
const SAMPLES: u32 = 5000;
/// The number of the other guests' calls, which begin first and end last.
const OTHERS: u32 = SAMPLES / 4 * 5;
/// The number of calls after the first, by which the SMCs are divided.
const MORE: u32 = 100;

/// A kind of call, by its name in `tee-latency`.
struct Call {
    name: &'static str,
    title: &'static str,
    /// Whether the call is timed as well.
    timed: bool,
}

const fn call(name: &'static str, title: &'static str, timed: bool) -> Call {
    Call { name, title, timed }
}

const CALLS: [Call; 7] = [
    call("plain", "INVOKE, no parameters", true),
    call("values", "INVOKE, a value", true),
    call("memref", "INVOKE, a registered memref", true),
    call("time", "INVOKE with an RPC", true),
    call("buffer", "register and unregister 8 KiB", false),
    call("session", "open and close a session", true),
    call("application", "the same with a TA that is loaded", false),
];

/// The cost of a guest's calls.
#[derive(Clone, Copy, Default)]
struct Cost {
    smcs: u64,
    rpcs: u64,
}

impl Cost {
    /// Interrupts depend on the time, so they are not counted.
    fn so_far(stats: &Stats) -> Self {
        Self {
            smcs: stats.smcs - stats.foreign_intr,
            rpcs: stats.rpc.values().sum(),
        }
    }

    const fn less(self, other: Self) -> Self {
        Self {
            smcs: self.smcs - other.smcs,
            rpcs: self.rpcs - other.rpcs,
        }
    }

    fn json(self) -> Value {
        json!({ "smcs": self.smcs, "rpcs": self.rpcs })
    }
}

/// The SMCs of one guest for one kind of call.
struct Count {
    /// One call with all that it needs, for the first time in this guest.
    first: Cost,
    /// The same again.
    again: Cost,
    /// [`MORE`] further calls.
    more: Cost,
}

fn count(session: &mut Session, vm: &str, call: &str) -> Result<Count> {
    let guest = session.vm(vm)?;
    let mut take = |samples: u32| {
        let before = Cost::so_far(&stats(session, vm)?);
        latency(session, guest, "count", samples, &format!("{call} 0"))?;
        Ok::<_, anyhow::Error>(Cost::so_far(&stats(session, vm)?).less(before))
    };
    let (first, again) = (take(1)?, take(1)?);
    let more = take(1 + MORE)?.less(again);
    Ok(Count { first, again, more })
}

/// Measures in the first guest while the others make the same calls for longer.
fn round(session: &mut Session, guests: &[Channel], call: &str) -> Result<Latency> {
    let (first, others) = guests.split_first().context("no guest")?;
    for other in others {
        session.send(*other, &format!("latency load {OTHERS} {call}"))?;
    }
    session.send(*first, &format!("latency {call} {SAMPLES} {call}"))?;
    let deadline = Instant::now() + WORK;
    let (mut found, mut ended) = (None, 0);
    while found.is_none() || ended < others.len() {
        let left = deadline.saturating_duration_since(Instant::now());
        let item = session
            .next(left)?
            .context("the measurement takes too long")?;
        match item.what {
            What::Guest(Event::Latency(latency)) if item.channel == *first => found = Some(latency),
            What::Guest(Event::Latency(_)) => {
                ensure!(found.is_some(), "another guest ended before");
                ended += 1;
            }
            What::Guest(Event::Error { text }) => bail!("{}: {text}", session.name(item.channel)),
            What::Closed => bail!("QEMU ended"),
            _ => {}
        }
    }
    let found = found.context("no measurement")?;
    ensure!(
        found.samples == u64::from(SAMPLES),
        "only {} calls",
        found.samples
    );
    Ok(found)
}

/// Returns the figures of a measurement, by their columns' names.
fn figures(latency: &Latency) -> [(&'static str, u64); 8] {
    [
        ("min", latency.min_ns),
        ("p50", latency.median_ns),
        ("p90", latency.p90_ns),
        ("p99", latency.p99_ns),
        ("p99.9", latency.p999_ns),
        ("max", latency.max_ns),
        ("mean", latency.mean_ns),
        ("all", latency.total_ns / latency.samples.max(1)),
    ]
}

fn tell_latencies(all: &[(&Call, Vec<Latency>)]) {
    println!(
        "Round trip seen by a program in one guest. Alone in instructions, else as a ratio to alone. All: the \
         time of all calls, with the program's loop around them, by their number.\n"
    );
    let names = all
        .first()
        .and_then(|(_, latencies)| latencies.first())
        .map(|latency| figures(latency).map(|(name, _)| name))
        .unwrap_or_default();
    println!("| call | working guests | {} |", names.join(" | "));
    println!("|---|--:{}|", "|--:".repeat(names.len()));
    for (call, latencies) in all {
        let Some(alone) = latencies.first() else {
            continue;
        };
        for (guests, latency) in LOADED.iter().zip(latencies) {
            print!("| {} | {guests} |", call.title);
            for ((_, found), (_, base)) in figures(latency).iter().zip(figures(alone)) {
                if *guests == 1 {
                    print!(" {} |", found / INSTRUCTION_NS);
                } else {
                    print!(" × {:.2} |", *found as f64 / base.max(1) as f64);
                }
            }
            println!();
        }
    }
}

fn tell_counts(all: &[(&Call, [Count; 2])]) {
    println!(
        "\nSMCs to OP-TEE / RPCs from it. First: a program that makes one such call, with all that belongs \
         to it, for the first time in its guest; again: the same once more; each more: what a further call \
         of the same program takes, the mean of {MORE}.\n"
    );
    println!("| call | RPC_ARG: first | again | each more | without: first | again | each more |");
    println!("|---|--:|--:|--:|--:|--:|--:|");
    for (call, counts) in all {
        print!("| {} |", call.title);
        for Count { first, again, more } in counts {
            for cost in [first, again] {
                print!(" {} / {} |", cost.smcs, cost.rpcs);
            }
            let each = |total: u64| total as f64 / f64::from(MORE);
            print!(" {:.2} / {:.2} |", each(more.smcs), each(more.rpcs));
        }
        println!();
    }
}

fn write(
    folder: &Path,
    parts: &str,
    latencies: &[(&Call, Vec<Latency>)],
    counts: &[(&Call, [Count; 2])],
) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let times: Vec<Value> = latencies
        .iter()
        .flat_map(|(call, found)| {
            LOADED.iter().zip(found).map(
                |(guests, latency)| json!({ "call": call.name, "guests": guests, "latency": latency }),
            )
        })
        .collect();
    let costs: Vec<Value> = counts
        .iter()
        .flat_map(|(call, both)| {
            [true, false].into_iter().zip(both).map(|(rpc_arg, count)| {
                json!({
                    "call": call.name, "rpc_arg": rpc_arg, "first": count.first.json(),
                    "again": count.again.json(), "more": count.more.json(), "more_calls": MORE,
                })
            })
        })
        .collect();
    let all = json!({
        "parts": parts, "instruction_ns": INSTRUCTION_NS, "round_trips": times, "smcs": costs,
    });
    let rows: Vec<_> = latencies
        .iter()
        .flat_map(|(call, found)| {
            LOADED
                .iter()
                .zip(found)
                .map(|(guests, latency)| (call.name, format!("{guests} at it"), latency))
        })
        .collect();
    let picture = latency_picture(
        "Round trip from Linux to OP-TEE and back: one CPU, one to four working guests",
        parts,
        &rows,
    );
    for (name, text) in [("linux.json", format!("{all:#}\n")), ("linux.svg", picture)] {
        let file = folder.join(name);
        std::fs::write(&file, text).with_context(|| file.display().to_string())?;
        println!("{}", file.display());
    }
    Ok(())
}

fn run() -> Result<()> {
    let lab = Lab::new("bench-linux")?;
    let (mut machine, versions) = lab.parts(&lab.system("linux-bench.toml")?, Flavour::Shared)?;
    machine.extra = CLOCK.map(Into::into).into();
    let parts = format!(
        "OP-TEE {} ({}), TF-A {}, Linux {}",
        versions.optee, versions.suite, versions.tf_a, versions.linux
    );
    let mut session = Session::boot(&machine, &lab.folder)?;
    let mut guests = Vec::new();
    for name in GUESTS {
        let guest = session.vm(name)?;
        session.expect(guest, BOOT).ready()?;
        guests.push(guest);
    }
    for guest in &guests {
        quiet(&mut session, *guest)?;
    }
    let mut counts = Vec::new();
    for call in &CALLS {
        let with = count(&mut session, GUESTS[0], call.name)?;
        counts.push((call, [with, count(&mut session, GUESTS[1], call.name)?]));
    }
    let mut latencies = Vec::new();
    for call in CALLS.iter().filter(|call| call.timed) {
        let mut found = Vec::new();
        for loaded in LOADED {
            found.push(round(&mut session, &guests[..loaded], call.name)?);
        }
        latencies.push((call, found));
    }
    println!("{parts}\n");
    tell_latencies(&latencies);
    tell_counts(&counts);
    println!();
    write(&lab.paths.out().join("bench"), &parts, &latencies, &counts)?;
    power_off(session, &GUESTS)
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
