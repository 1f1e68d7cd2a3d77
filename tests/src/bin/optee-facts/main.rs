// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `make optee-facts`: makes `guests/probe` ask the real OP-TEE what its sources only suggest, one
//! boot per experiment, and prints its behaviour beside the expectation here (and in
//! `docs/optee-facts.md`). It fails when they differ. Arguments select experiments by name. With
//! `POSTERN_TEST_ABI=ffa` they are those of OP-TEE as SPMC.

use anyhow::{Context, Result, ensure};
use postern_qemu::config::TeeAbi;
use postern_qemu::console::Channel;
use postern_qemu::launch::Machine;
use postern_qemu::prepare::Flavour;
use postern_qemu::session::Session;
use postern_tests::{Lab, abi};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Enough for TF-A, OP-TEE and a program of a few hundred KiB.
const BOOT: Duration = Duration::from_secs(120);
/// Enough for the longest experiment.
const EXPERIMENT: Duration = Duration::from_secs(900);
/// The time between two checks of OP-TEE's log.
const GLANCE: Duration = Duration::from_secs(2);

/// OP-TEE's behaviour.
enum Did {
    /// The behaviour in the probe's words.
    Saw(&'static str),
    /// OP-TEE stops for good; its log has a line that contains this.
    Stops(&'static str),
}

/// An experiment and its expected result.
struct Fact {
    name: &'static str,
    question: &'static str,
    did: Did,
}

include!("facts.rs");
include!("facts_ffa.rs");

impl Did {
    fn text(&self) -> String {
        match self {
            Self::Saw(text) => (*text).to_owned(),
            Self::Stops(text) => format!("**stops**: {text}"),
        }
    }
}

/// The result of one boot.
struct BootResult {
    saw: Option<String>,
    log: Option<String>,
    took: Duration,
}

impl BootResult {
    fn is(&self, did: &Did) -> bool {
        match did {
            Did::Saw(text) => self.saw.as_deref() == Some(text) && self.log.is_none(),
            Did::Stops(text) => {
                self.saw.is_none() && self.log.as_ref().is_some_and(|line| line.contains(text))
            }
        }
    }

    fn text(&self) -> String {
        match (&self.saw, &self.log) {
            (Some(saw), None) => saw.clone(),
            (Some(saw), Some(log)) => format!("{saw} (and its log says: {log})"),
            (None, Some(log)) => format!("**stops**: {log}"),
            (None, None) => "**does not answer**, and its log does not say why".into(),
        }
    }
}

/// Returns the line of OP-TEE's log that says why it stopped.
fn last_words(folder: &Path) -> Result<Option<String>> {
    let log = std::fs::read(folder.join("optee.log")).context("OP-TEE's log")?;
    let log = String::from_utf8_lossy(&log);
    let words = [
        "Panic",
        "assertion",
        "Core data-abort",
        "Core prefetch-abort",
    ];
    let line = log
        .lines()
        .find(|line| words.iter().any(|word| line.contains(word)));
    Ok(line.map(|line| line.trim().to_owned()))
}

fn experiment(machine: &Machine, folder: &Path, fact: &Fact) -> Result<BootResult> {
    let folder = folder.join(fact.name);
    let probe = Channel::Vm(1);
    let started = Instant::now();
    let mut session = Session::boot(machine, &folder)?;
    session.expect(probe, BOOT).ready()?;
    session.send(probe, fact.name)?;
    let deadline = Instant::now() + EXPERIMENT;
    let (saw, log) = loop {
        let fact = session.expect(probe, GLANCE).program("the fact", |event| {
            (event["event"] == "fact").then(|| event["saw"].as_str().unwrap_or_default().to_owned())
        });
        let log = last_words(&folder)?;
        if fact.is_ok() || log.is_some() || Instant::now() > deadline {
            break (fact.ok(), log);
        }
    };
    Ok(BootResult {
        saw,
        log,
        took: started.elapsed(),
    })
}

fn run() -> Result<bool> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let all = match abi()? {
        Some(TeeAbi::Ffa) => FFA_FACTS,
        Some(TeeAbi::Smc) | None => FACTS,
    };
    let facts: Vec<&Fact> = (all.iter())
        .filter(|fact| wanted.is_empty() || wanted.iter().any(|name| name == fact.name))
        .collect();
    ensure!(
        !facts.is_empty(),
        "there is no experiment of that name; docs/optee-facts.md lists them"
    );
    let lab = Lab::new("optee-facts")?;
    let system = lab.system("probe.toml")?;
    let (machine, versions) = lab.parts(&system, Flavour::Bare)?;
    println!(
        "OP-TEE {} ({}), TF-A {}\n",
        versions.optee, versions.suite, versions.tf_a
    );
    println!("| experiment | question | what OP-TEE did |");
    println!("|---|---|---|");
    let mut wrong = Vec::new();
    for fact in facts {
        let found = experiment(&machine, &lab.folder, fact)?;
        println!("| {} | {} | {} |", fact.name, fact.question, found.text());
        eprintln!("{}: {:.1} s", fact.name, found.took.as_secs_f64());
        if !found.is(&fact.did) {
            println!("expected: {}", fact.did.text());
            wrong.push(fact.name);
        }
    }
    println!();
    if wrong.is_empty() {
        println!("PASS: OP-TEE behaves as expected");
    } else {
        println!("FAIL: unexpected behaviour: {}", wrong.join(", "));
    }
    Ok(wrong.is_empty())
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
