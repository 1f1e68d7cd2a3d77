//! `make mutants`: changes the product line by line and sees whether its host tests notice.
//!
//! Words: names of areas (all by default), `sample` for the fixed part that `make test` tries, `jobs=N`.

use anyhow::{Context, Result, bail, ensure};
use postern_qemu::paths::Paths;
use postern_tests::mutants::{AREAS, Area, Known, NOT_TRIED, Outcome};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// The version of the tool whose mutants and reports these are.
const VERSION: &str = "27.1.0";
/// The sample is every so manieth mutant.
const SAMPLE: usize = 60;
/// Survivors that are known, each with its reason.
const KNOWN: &str = "tests/mutants-known.txt";

fn main() -> Result<()> {
    let paths = Paths::discover()?;
    let root = paths.root();
    let (mut areas, mut sample, mut jobs) = (Vec::new(), false, 2_u32);
    for word in std::env::args().skip(1) {
        if word == "sample" {
            sample = true;
        } else if let Some(number) = word.strip_prefix("jobs=") {
            jobs = number.parse().with_context(|| word.clone())?;
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
    install()?;
    let known = std::fs::read_to_string(root.join(KNOWN)).context(KNOWN)?;
    let known = Known::parse(&known).context(KNOWN)?;
    let mut bad = Vec::new();
    println!("area       tried  caught  hung  survived  score  target  unknown survivors");
    for area in areas {
        let begin = Instant::now();
        let outcome = run(root, area, sample, jobs)?;
        let news = known.news(&outcome);
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
            news.len(),
            begin.elapsed().as_secs(),
        );
        for name in &news {
            println!("  survived: {name}");
        }
        // A sample is too small for a share.
        if !news.is_empty() || (!sample && score < target * 10) {
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

/// Installs cargo-mutants where it lacks, and says so first.
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

/// Tries the mutants of an area; its reports stay in `out/mutants/AREA`.
fn run(root: &Path, area: &Area, sample: bool, jobs: u32) -> Result<Outcome> {
    let folder = root.join("out").join("mutants").join(area.name);
    std::fs::create_dir_all(&folder)?;
    let mut command = Command::new("cargo");
    command
        .current_dir(root)
        .args([
            "mutants",
            "--colors=never",
            "--no-times",
            "--cap-lints=true",
        ])
        .args(["--profile=mutants", "--minimum-test-timeout=12"])
        .args(["--package", area.package, "--test-package", area.package])
        .args(["--jobs", &jobs.to_string()])
        .arg("--output")
        .arg(&folder)
        // Fewer cases of each property: the rest of the tests is many.
        .env("PROPTEST_CASES", "64");
    for file in area.files {
        command.args(["--file", file]);
    }
    for file in area.without {
        command.args(["--exclude", file]);
    }
    for name in NOT_TRIED {
        command.args(["--exclude-re", name]);
    }
    if sample {
        command.args(["--shard", &format!("0/{SAMPLE}"), "--sharding=round-robin"]);
    }
    let nextest = Command::new("cargo")
        .args(["nextest", "--version"])
        .output();
    if nextest.is_ok_and(|output| output.status.success()) {
        command
            .args(["--test-tool=nextest", "--", "--lib"])
            .env("NEXTEST_PROFILE", "mutants");
        if !area.tests.is_empty() {
            command.args(["-E", &format!("test(/^{}/)", area.tests)]);
        }
    } else {
        command.args(["--", "--lib", area.tests]);
    }
    let status = command.status().context("cargo mutants")?;
    // 2: some survived; 3: some hung. Both are in the report.
    ensure!(
        matches!(status.code(), Some(0 | 2 | 3)),
        "cargo mutants failed for {}: {status}",
        area.name
    );
    let report = folder.join("mutants.out").join("outcomes.json");
    let json = std::fs::read_to_string(&report).with_context(|| report.display().to_string())?;
    Outcome::parse(&json).with_context(|| report.display().to_string())
}
