//! `make bench`, `make bench-profile`: see [`postern_tests::bench`].

use anyhow::{Context, Result, bail, ensure};
use postern_qemu::prepare::Flavour;
use postern_tests::Lab;
use postern_tests::bench::place::{Found, measure};
use postern_tests::bench::rows::ROWS;
use postern_tests::bench::{profile, table};
use serde_json::json;
use std::process::ExitCode;

/// Writes what both places gave to `bench/bench.json` in the output folder, for programs to read.
fn write(lab: &Lab, parts: &str, floor: &Found, postern: &Found) -> Result<()> {
    let folder = lab.paths.out().join("bench");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let file = folder.join("bench.json");
    let all = json!({ "parts": parts, "floor": floor.json(), "postern": postern.json() });
    std::fs::write(&file, format!("{all:#}\n")).with_context(|| file.display().to_string())?;
    println!("\nThe figures as JSON: {}", file.display());
    Ok(())
}

fn bench() -> Result<bool> {
    let lab = Lab::new("bench")?;
    let (floor, _) = measure(&lab, Flavour::Bare, "floor").context("the floor")?;
    let (postern, parts) = measure(&lab, Flavour::Shared, "postern").context("under Postern")?;
    println!("{parts}");
    println!("Instructions, on one CPU, from the call's to the one after it.");
    println!(
        "counted: so many calls (SMCs, HVCs) or accesses are one sample, whose sum the figures are."
    );
    println!("floor: the same program at EL2 in the hypervisor's place.\n");
    table::print(&floor, &postern);
    write(&lab, &parts, &floor, &postern)?;
    for (place, found) in [("floor", &floor), ("Postern", &postern)] {
        for (name, text) in &found.failed {
            println!("\n{place}: no figure for {name}: {text}");
        }
    }
    let known = |name: &String| ROWS.iter().any(|row| row.name == name);
    let names = floor.figures.keys().chain(postern.figures.keys());
    let strange: Vec<_> = names.filter(|name| !known(name)).collect();
    ensure!(strange.is_empty(), "not in the table: {strange:?}");
    // What OP-TEE does not take on the bare machine, it need not take under Postern.
    let also = |name: &String| floor.failed.contains_key(name);
    Ok(postern.failed.keys().all(also))
}

fn run() -> Result<bool> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        None => bench(),
        Some("profile") => {
            profile::run(&Lab::new("bench-profile")?, &words[1..])?;
            Ok(true)
        }
        Some(word) => bail!("there is no bench {word:?}: it is none or profile"),
    }
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
