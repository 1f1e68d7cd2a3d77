// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `make mutants`: changes the product line by line and checks whether its host tests fail.
//!
//! Arguments: names of areas (all by default), `sample` for the fixed part that `make test` tries,
//! `jobs=N`.

use anyhow::{Context, Result, bail, ensure};
use postern_qemu::paths::Paths;
use postern_tests::mutants::{AREAS, Area, Known, NOT_TRIED, Outcome};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::panic::resume_unwind;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// The version of the tool that makes the mutants and reports.
const VERSION: &str = "27.1.0";
/// The sample is every n-th mutant.
const SAMPLE: u32 = 120;
/// Runs a test binary with limits: a test hangs when it uses this much CPU time (seconds) or memory
/// (bytes). Tests of the largest area take 8 seconds, on a slow machine more than twice that; elapsed time says
/// little on a busy machine.
const RUNNER: &str = "prlimit --cpu=90 --as=8589934592";
/// Folders that are not source, at any depth.
const NO_SOURCE: [&str; 4] = [".cache", ".git", "out", "target"];
/// The list of known survivors, each with its reason.
const KNOWN: &str = "tests/mutants-known.txt";

fn main() -> Result<()> {
    let paths = Paths::discover()?;
    let root = paths.root();
    let (mut areas, mut sample, mut jobs) = (Vec::new(), false, None);
    for word in std::env::args().skip(1) {
        if word == "sample" {
            sample = true;
        } else if let Some(number) = word.strip_prefix("jobs=") {
            let number: u32 = number.parse().with_context(|| word.clone())?;
            ensure!(number > 0, "{word}: at least one");
            jobs = Some(number);
        } else if let Some(area) = AREAS.iter().find(|area| area.name == word) {
            areas.push(area);
        } else {
            let names: Vec<&str> = AREAS.iter().map(|area| area.name).collect();
            bail!("{word}: unknown area; there are {}", names.join(", "));
        }
    }
    if areas.is_empty() {
        areas = AREAS.iter().collect();
    }
    // Each job compiles everything that does not change once more, which takes longer than a sample
    // of an area.
    let jobs = jobs.unwrap_or(if sample { 1 } else { 2 });
    install()?;
    let known = std::fs::read_to_string(root.join(KNOWN)).context(KNOWN)?;
    let known = Known::parse(&known).context(KNOWN)?;
    let mut bad = Vec::new();
    println!("area       tried  caught  hung  survived  score  target  unknown survivors");
    for area in areas {
        let begin = Instant::now();
        let outcome = run(root, area, sample, jobs)?;
        let unknown_survivors = known.unknown_survivors(&outcome);
        let (score, target) = (outcome.per_mille(), area.target as usize);
        println!(
            "{:9} {:6} {:7} {:5} {:9} {:3}.{} % {:5} % {:6}   ({} s)",
            area.name,
            outcome.tried(),
            outcome.caught,
            outcome.timeout,
            outcome.survivors.len(),
            score / 10,
            score % 10,
            target,
            unknown_survivors.len(),
            begin.elapsed().as_secs(),
        );
        for name in &unknown_survivors {
            println!("  survived: {name}");
        }
        // A sample is too small for a percentage.
        if !unknown_survivors.is_empty() || (!sample && score < target * 10) {
            bad.push(area.name);
        }
    }
    ensure!(
        bad.is_empty(),
        "FAIL: {}: tests do not notice enough, or a survivor has no reason in {KNOWN}",
        bad.join(", ")
    );
    println!("PASS");
    Ok(())
}

/// Installs cargo-mutants if it is missing, and says so first.
fn install() -> Result<()> {
    let there = Command::new("cargo")
        .args(["mutants", "--version"])
        .output();
    if there.is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    eprintln!(
        "cargo-mutants is not installed. Running: cargo install cargo-mutants --version {VERSION} --locked"
    );
    let status = Command::new("cargo")
        .args(["install", "--quiet", "cargo-mutants", "--version", VERSION])
        .arg("--locked")
        .status()
        .context("cargo")?;
    ensure!(status.success(), "cargo could not install cargo-mutants");
    Ok(())
}

/// Tries the mutants of an area in `jobs` copies of the source at the same time. Their reports stay
/// in `out/mutants`.
fn run(root: &Path, area: &Area, sample: bool, jobs: u32) -> Result<Outcome> {
    let all = root.join("out").join("mutants");
    let parts: Vec<Result<Outcome>> = std::thread::scope(|scope| {
        let run_part = |job| {
            let all = &all;
            move || run_part(root, all, area, sample, (job, jobs))
        };
        let threads: Vec<_> = (0..jobs).map(|job| scope.spawn(run_part(job))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        };
        threads.into_iter().map(join).collect()
    });
    let parts: Vec<Outcome> = parts.into_iter().collect::<Result<_>>()?;
    Outcome::whole(parts).with_context(|| area.name)
}

/// Tries the mutants of job number `part.0` of `part.1`.
fn run_part(
    root: &Path,
    all: &Path,
    area: &Area,
    sample: bool,
    part: (u32, u32),
) -> Result<Outcome> {
    let (job, jobs) = part;
    // The copy stays, with a target folder of its own: only changes are compiled, not 60 crates.
    let copy = all.join(format!("tree-{job}"));
    copy_tree(root, &copy).with_context(|| copy.display().to_string())?;
    let folder = all.join(format!("{}-{job}", area.name));
    std::fs::create_dir_all(&folder)?;
    let every = if sample { SAMPLE } else { 1 };
    let mut command = Command::new("cargo");
    command
        .current_dir(&copy)
        .args(["mutants", "--in-place", "--colors=never", "--no-times"])
        .args(["--cap-lints=true", "--profile=mutants"])
        // The limit of CPU time counts; this one is for tests that sleep.
        .args(["--minimum-test-timeout=60", "--build-timeout=300"])
        .args(["--package", area.package, "--test-package", area.package])
        .args(["--shard", &format!("{}/{}", job * every, jobs * every)])
        .arg("--sharding=round-robin")
        .arg("--output")
        .arg(&folder)
        .env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", RUNNER)
        .env("CARGO_INCREMENTAL", "1")
        .env_remove("CARGO_TARGET_DIR")
        // The tests are many, so fewer cases of each property suffice.
        .env("PROPTEST_CASES", "64")
        // A failing case is enough; its smallest form does not matter.
        .env("PROPTEST_MAX_SHRINK_ITERS", "0");
    for file in area.files {
        command.args(["--file", file]);
    }
    for file in area.without {
        command.args(["--exclude", file]);
    }
    for name in NOT_TRIED {
        command.args(["--exclude-re", name]);
    }
    // Not under nextest: starting one process per test takes longer than the tests.
    command.arg("--cargo-arg=--lib");
    let status = command.status().context("cargo mutants")?;
    // 2: some survived; 3: some hung. The report has both.
    ensure!(
        matches!(status.code(), Some(0 | 2 | 3)),
        "cargo mutants failed for {}: {status}",
        area.name
    );
    let report = folder.join("mutants.out").join("outcomes.json");
    let json = std::fs::read_to_string(&report).with_context(|| report.display().to_string())?;
    Outcome::parse(&json).with_context(|| report.display().to_string())
}

/// Makes `copy` identical to the source tree. Unchanged files keep their times.
fn copy_tree(from: &Path, copy: &Path) -> Result<()> {
    std::fs::create_dir_all(copy)?;
    let names = |folder: &Path| -> Result<BTreeSet<OsString>> {
        let entries = std::fs::read_dir(folder)?;
        let names = entries.map(|entry| Ok(entry?.file_name()));
        let names: Result<BTreeSet<OsString>> = names.collect();
        let is_source = |name: &OsString| !NO_SOURCE.iter().any(|other| name == other);
        Ok(names?.into_iter().filter(is_source).collect())
    };
    let source = names(from)?;
    for name in names(copy)?.difference(&source) {
        let gone = copy.join(name);
        if gone.is_dir() {
            std::fs::remove_dir_all(gone)?;
        } else {
            std::fs::remove_file(gone)?;
        }
    }
    for name in source {
        let (from, to) = (from.join(&name), copy.join(&name));
        if from.is_dir() {
            copy_tree(&from, &to)?;
            continue;
        }
        let bytes = std::fs::read(&from)?;
        if std::fs::read(&to).ok().as_ref() != Some(&bytes) {
            std::fs::write(&to, bytes)?;
        }
    }
    Ok(())
}
