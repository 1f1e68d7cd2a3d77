// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The hostile guest's scenario: every attack of the plan, beside a neighbour at work.
//!
//! After each attack four things are checked: the guest got exactly the expected answer, the
//! neighbour goes on unharmed, the hypervisor's counters of the hostile VM are as at the beginning,
//! and OP-TEE still serves the hostile VM.

mod ends;
mod plan;
mod plan_ffa;

pub use plan::{AttackRow, PLAN, Player};
pub use plan_ffa::FFA_PLAN;

use crate::masked::{self, Masked};
use crate::neighbour::Neighbour;
use crate::watch::Watch;
use crate::{BOOT, Lab, SOON};
use anyhow::{Context, Result, ensure};
use postern_ctl::messages::Stats;
use postern_qemu::config::{System, TeeAbi};
use postern_qemu::console::Channel;
use postern_qemu::launch::Machine;
use postern_qemu::prepare::Flavour;
use postern_qemu::session::{Session, What};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The most time for an attack.
const ATTACK: Duration = Duration::from_secs(400);
/// The most time for a call or a case of the neighbour, on a busy host.
const CASE: Duration = Duration::from_secs(120);
/// The neighbour's cases: sessions, loading, shared memory, cryptography, storage. None of them
/// takes long, and in none an application panics on purpose, which OP-TEE would log.
const CASES: [&str; 6] = ["1001", "1002", "1004", "1005", "4001", "6001"];
/// The counters of what the VM holds now. They have to return to their initial values.
const HELD: [&str; 6] = [
    "pages_pinned",
    "pages_held",
    "buffers",
    "rpc_buffers",
    "sessions",
    "calls",
];
/// The hostile VM's name.
const HOSTILE: &str = "hostile";
/// The neighbour's name; it is the last VM in the description.
const NEIGHBOUR: &str = "b";

/// Returns the attacks on a system whose guests reach OP-TEE by this ABI.
#[must_use]
pub const fn plan(abi: TeeAbi) -> &'static [AttackRow] {
    match abi {
        TeeAbi::Smc => PLAN,
        TeeAbi::Ffa => FFA_PLAN,
    }
}

/// The result of an attack: for each of the four checks nothing, or the fault.
struct AttackOutcome {
    text: String,
    answer: Result<()>,
    neighbour: Result<()>,
    counters: Result<()>,
    tee: Result<()>,
}

impl AttackOutcome {
    fn is_good(&self) -> bool {
        [&self.answer, &self.neighbour, &self.counters, &self.tee]
            .into_iter()
            .all(Result::is_ok)
    }

    fn print(&self, number: u8, title: &str, expected: &str, took: Duration) {
        let word = |result: &Result<()>, good, bad| if result.is_ok() { good } else { bad };
        println!(
            "{number:2}  {:10}  {:8}  {:8}  {:5}  {:6.1} s  {title}",
            word(&self.answer, "expected", "UNEXPECTED"),
            word(&self.neighbour, "unharmed", "HARMED"),
            word(&self.counters, "baseline", "OFF"),
            word(&self.tee, "alive", "DEAD"),
            took.as_secs_f32()
        );
        println!("      expected: {expected}; seen: {}", self.text);
        for result in [&self.answer, &self.neighbour, &self.counters, &self.tee] {
            if let Err(error) = result {
                println!("      WRONG: {error:#}");
            }
        }
    }
}

/// What the guest says of an attack.
enum Told {
    /// Its result, and what was seen.
    Result(Result<()>, String),
    /// That it does not apply to the machine, and why.
    NotApplicable(String),
}

/// The guest's description of an attack.
#[derive(Default)]
struct Described {
    title: String,
    expected: String,
}

/// What became of an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Played {
    /// The guest has played it.
    ByGuest,
    /// Other tests play it.
    Elsewhere,
    /// The machine has nothing for it.
    NotApplicable,
}

/// The machine with the hostile guest and its neighbour.
struct Arena {
    watch: Watch,
    hostile: Channel,
    baseline: BTreeMap<&'static str, u64>,
    /// The longest masked time so far in nanoseconds.
    masked: u64,
    described: BTreeMap<u64, Described>,
    /// How many times the neighbour had entered the secure world before the attack.
    entries: u64,
    machine: Machine,
    /// The folder of the first machine's logs; the next one's are in folders below it.
    folder: PathBuf,
    /// The number of times that the machine was booted.
    boots: u32,
}

/// Plays the rows of the plan that `wanted` selects and prints one line for each. Returns whether
/// all went as expected. With `counted` the machine has one CPU, QEMU counts instructions, and EL2
/// must not keep interrupts waiting for too long. `system` is `guests/hostile.toml`, on some board.
///
/// # Errors
///
/// Fails when the machine cannot be prepared, or ends early.
pub fn play(
    lab: &Lab,
    mut system: System,
    counted: bool,
    wanted: impl Fn(&AttackRow) -> bool,
) -> Result<bool> {
    let plan = plan(system.machine.tee_abi);
    for row in plan {
        row.check(lab.paths.root())?;
    }
    if counted {
        masked::one_cpu(&mut system);
    }
    let mut machine = lab.machine(&system, Flavour::Shared)?;
    if counted {
        masked::count(&mut machine);
    }
    let mut arena = Arena::open(machine, &lab.folder, 1)?;
    println!("no  answer      neighbour  counters  TEE      time  attack");
    let mut bad = Vec::new();
    let mut counts = BTreeMap::from([
        (Played::ByGuest, 0),
        (Played::Elsewhere, 0),
        (Played::NotApplicable, 0),
    ]);
    for row in plan.iter().filter(|row| wanted(row)) {
        let (played, is_good) = arena.turn(row)?;
        if !is_good {
            bad.push(row.number);
        }
        arena.report_masked(row.number)?;
        *counts.entry(played).or_default() += 1;
    }
    let masked = Masked::ask(&mut arena.watch)?;
    arena.stop_neighbour()?;
    crate::power_off(arena.watch.session, &[HOSTILE, NEIGHBOUR])?;
    println!(
        "{} of {} attacks: {} played here, {} by other tests, {} not applicable on this machine; not as expected: {bad:?}",
        counts.values().sum::<usize>(),
        plan.len(),
        counts[&Played::ByGuest],
        counts[&Played::Elsewhere],
        counts[&Played::NotApplicable],
    );
    masked.judge(counted)?;
    Ok(bad.is_empty())
}

impl Arena {
    /// Boots the machine for the time number `boots`.
    fn open(machine: Machine, folder: &Path, boots: u32) -> Result<Self> {
        let mut session = match boots {
            1 => Session::boot(&machine, folder)?,
            _ => Session::boot(&machine, &folder.join(format!("boot-{boots}")))?,
        };
        let hostile = session.vm(HOSTILE)?;
        let b = session.vm(NEIGHBOUR)?;
        for channel in [hostile, b] {
            session.expect(channel, BOOT).ready()?;
        }
        let mut neighbour = Neighbour::new(&session, b);
        neighbour.work(&mut session, CASES, CASES.len())?;
        let mut arena = Self {
            watch: Watch::new(session, vec![neighbour]),
            hostile,
            baseline: BTreeMap::new(),
            masked: 0,
            described: BTreeMap::new(),
            entries: 0,
            machine,
            folder: folder.into(),
            boots,
        };
        arena.list()?;
        // The first call of a VM makes OP-TEE allocate things, which then stay.
        arena.alive()?;
        let stats = arena.stats()?;
        arena.baseline = HELD
            .iter()
            .map(|&name| Ok((name, counter(&stats, name)?)))
            .collect::<Result<_>>()?;
        println!("baseline: {:?}", arena.baseline);
        arena.watch.log.complaints(&[]);
        Ok(arena)
    }

    /// Returns the guest that must not notice.
    fn neighbour(&mut self) -> &mut Neighbour {
        &mut self.watch.neighbours[0]
    }

    /// Sends the hostile guest a command and waits for the event that answers it.
    fn ask(&mut self, command: &str, answer: &str, within: Duration) -> Result<serde_json::Value> {
        self.watch.session.send(self.hostile, command)?;
        self.answer(answer, within)
    }

    fn answer(&mut self, name: &str, within: Duration) -> Result<serde_json::Value> {
        let hostile = self.hostile;
        self.watch.wait(name, within, |item| match &item.what {
            What::Program(event) if item.channel == hostile && event["event"] == name => {
                Some(event.clone())
            }
            _ => None,
        })
    }

    fn list(&mut self) -> Result<()> {
        self.watch.session.send(self.hostile, "list")?;
        let mut found = BTreeMap::new();
        self.watch
            .wait("the list of attacks", SOON, |item| match &item.what {
                What::Program(event) if event["event"] == "item" => {
                    let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
                    if event["title"].is_string() {
                        let item = Described {
                            title: text("title"),
                            expected: text("expected"),
                        };
                        found.insert(event["number"].as_u64().unwrap_or_default(), item);
                    }
                    None
                }
                What::Program(event) if event["event"] == "list-end" => Some(()),
                _ => None,
            })?;
        self.described = found;
        Ok(())
    }

    fn alive(&mut self) -> Result<()> {
        let event = self.ask("alive", "alive", ATTACK)?;
        ensure!(event["ok"] == true, "{}", event["text"]);
        Ok(())
    }

    /// Returns the counters of the hostile VM.
    fn stats(&mut self) -> Result<Stats> {
        self.stats_of(HOSTILE)
    }

    fn stats_of(&mut self, vm: &str) -> Result<Stats> {
        self.watch.session.send(Channel::Hypervisor, "stats")?;
        let mut found = None;
        // There is one event per VM; the last VM's ends the answer.
        self.watch
            .wait("the counters", SOON, |item| match &item.what {
                What::Stats(stats) => {
                    if stats.vm == vm {
                        found = Some((**stats).clone());
                    }
                    (stats.vm == NEIGHBOUR).then_some(())
                }
                _ => None,
            })?;
        found.with_context(|| format!("there are no counters of {vm}"))
    }

    /// Plays an attack; returns what became of it, and whether everything was as expected.
    fn turn(&mut self, row: &AttackRow) -> Result<(Played, bool)> {
        let start = Instant::now();
        self.entries = self.neighbour_entries()?;
        let described = self.described.get(&row.number.into());
        let (mut title, mut expected) = described.map_or_else(
            || ("?".into(), "?".into()),
            |item| (item.title.clone(), item.expected.clone()),
        );
        let (answer, text) = match row.player {
            Player::Elsewhere {
                title: what,
                why,
                tests,
            } => {
                let names: Vec<_> = tests
                    .iter()
                    .map(|(file, test)| format!("{file}: {test}"))
                    .collect();
                println!("{:2}  not played by the guest: {what}", row.number);
                println!("      {why}; played by {}", names.join(", "));
                return Ok((Played::Elsewhere, true));
            }
            Player::Guest => match self.guest_plays(row.number)? {
                Told::Result(answer, text) => (answer, text),
                Told::NotApplicable(why) => {
                    let is_good = row.gicv2 && self.machine.board.gic_version != 2;
                    println!("{:2}  not applicable: {title}", row.number);
                    println!(
                        "      {why}{}",
                        if is_good {
                            ""
                        } else {
                            ", says the guest; WRONG: it applies"
                        }
                    );
                    return Ok((Played::NotApplicable, is_good));
                }
            },
            Player::Ends => {
                if described.is_none() {
                    title = "the VM ends at critical moments".into();
                    expected = "it restarts with a working TEE, and nothing is left behind".into();
                }
                (Ok(()), String::new())
            }
        };
        let (answer, text) = match answer {
            Ok(()) => {
                let (ended, ends) = self.endings(row)?;
                let both = [text, ends].into_iter().filter(|part| !part.is_empty());
                (ended, both.collect::<Vec<_>>().join("; the VM ended "))
            }
            Err(error) => (Err(error), text),
        };
        let tee = self.tee(row);
        let counters = self.counters()?;
        let neighbour = self.neighbour_makes_progress();
        let outcome = AttackOutcome {
            text,
            answer,
            neighbour,
            counters,
            tee,
        };
        outcome.print(row.number, &title, &expected, start.elapsed());
        Ok((Played::ByGuest, outcome.is_good()))
    }

    /// Checks that the TEE serves the hostile VM, and has logged no error.
    fn tee(&mut self, row: &AttackRow) -> Result<()> {
        self.alive()?;
        let complaints = self.watch.log.complaints(row.log);
        ensure!(
            complaints.is_empty(),
            "OP-TEE's log: {}",
            complaints.join(" | ")
        );
        Ok(())
    }

    /// Makes the guest play an attack; returns its verdict, with its claims about the hypervisor's
    /// counters.
    fn guest_plays(&mut self, number: u8) -> Result<Told> {
        let before = self.stats()?;
        let event = self.ask(&format!("run {number}"), "attack", ATTACK)?;
        let after = self.stats()?;
        let text = event["text"].as_str().unwrap_or_default().to_owned();
        ensure!(
            event["number"] == number,
            "another attack's outcome: {event}"
        );
        if event["outcome"] == "not-applicable" {
            return Ok(Told::NotApplicable(text));
        }
        if event["outcome"] != "expected" {
            return Ok(Told::Result(Err(anyhow::anyhow!("{text}")), text));
        }
        for name in ["denied", "smcs"] {
            if let Some(wanted) = event[name].as_u64() {
                let grown = counter(&after, name)? - counter(&before, name)?;
                if grown != wanted {
                    let wrong = anyhow::anyhow!("{name} grew by {grown}, not {wanted}");
                    return Ok(Told::Result(Err(wrong), text));
                }
            }
        }
        Ok(Told::Result(Ok(()), text))
    }

    /// Checks that the VM holds what it held at the beginning.
    fn counters(&mut self) -> Result<Result<()>> {
        let stats = self.stats()?;
        let mut off = Vec::new();
        for (name, &wanted) in &self.baseline {
            let got = counter(&stats, name)?;
            if got != wanted {
                off.push(format!("{name} {got}, not {wanted}"));
            }
        }
        Ok(if off.is_empty() {
            Ok(())
        } else {
            Err(anyhow::anyhow!(off.join(", ")))
        })
    }

    /// Returns how many times the neighbour has entered the secure world.
    fn neighbour_entries(&mut self) -> Result<u64> {
        counter(&self.stats_of(NEIGHBOUR)?, "smcs")
    }

    /// Waits until the neighbour has entered the secure world again, as all of its cases often do,
    /// and fails when one of them has failed.
    fn neighbour_makes_progress(&mut self) -> Result<()> {
        let deadline = Instant::now() + CASE;
        while self.neighbour_entries()? == self.entries {
            ensure!(
                Instant::now() < deadline,
                "no call to the TEE in {} s",
                CASE.as_secs()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        self.neighbour().unharmed()
    }

    /// Reports when the longest masked time has grown with an attack.
    fn report_masked(&mut self, number: u8) -> Result<()> {
        let Masked { ns, by, .. } = Masked::ask(&mut self.watch)?;
        if ns > self.masked {
            println!(
                "      longest masked time so far: {} us ({by}), in attack {number}",
                ns / 1000
            );
            self.masked = ns;
        }
        Ok(())
    }

    /// Lets the neighbour end its cases, none of which may have failed.
    fn stop_neighbour(&mut self) -> Result<()> {
        self.neighbour().stop();
        let deadline = Instant::now() + CASE * 4;
        while !self.neighbour().is_idle() {
            let left = deadline.saturating_duration_since(Instant::now());
            self.watch
                .wait("the end of the neighbour's xtest", left, |_| Some(()))?;
        }
        self.neighbour().unharmed()?;
        let Neighbour { cases, rounds, .. } = self.neighbour();
        println!("the neighbour passed {cases} cases in {rounds} whole runs");
        Ok(())
    }
}

/// Returns a counter by its name.
fn counter(stats: &Stats, name: &str) -> Result<u64> {
    serde_json::to_value(stats)?
        .get(name)
        .and_then(serde_json::Value::as_u64)
        .with_context(|| format!("the answer of the monitor has no {name}"))
}
