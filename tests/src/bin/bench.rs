//! `make bench`: what calls cost in instructions, on the bare machine (the floor, which no mediator can
//! beat) and under Postern. QEMU counts instructions on one CPU, so the figures repeat.

use anyhow::{Context, Result, anyhow, ensure};
use dtoolkit::Node;
use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeProperty};
use postern_qemu::console::Channel;
use postern_qemu::prepare::Flavour;
use postern_qemu::session::Session;
use postern_tests::Lab;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// A nanosecond for each instruction; and who waits for a timer does not really wait.
const CLOCK: [&str; 2] = ["-icount", "shift=0,sleep=off"];
/// Enough for the firmware to start where instructions are counted.
const BOOT: Duration = Duration::from_secs(240);
/// Enough for all measurements.
const MEASURE: Duration = Duration::from_secs(900);
/// Pages between which a page's share is taken: what comes with any buffer is in both.
const FEW: u64 = 128;
const MANY: u64 = 1024;

/// What random numbers are made of here.
const SEED: u8 = 0x5a;

/// What a target is for.
#[derive(Clone, Copy)]
enum Of {
    /// The whole call.
    Whole,
    /// What is added to the floor.
    Added,
}

/// A line of the table.
struct Row {
    name: &'static str,
    title: &'static str,
    target: Option<(Of, u64)>,
}

const fn row(name: &'static str, title: &'static str) -> Row {
    Row {
        name,
        title,
        target: None,
    }
}

const fn aim(name: &'static str, title: &'static str, of: Of, most: u64) -> Row {
    Row {
        name,
        title,
        target: Some((of, most)),
    }
}

const ROWS: [Row; 27] = [
    row("hvc-unknown", "HVC, unknown id"),
    aim("psci-version", "PSCI_VERSION", Of::Whole, 160),
    row("smccc-version", "SMCCC_VERSION"),
    row("mmio-gicd-typer", "MMIO read of the GIC (GICD_TYPER)"),
    row("mmio-uartfr", "MMIO read of the PL011 (UARTFR)"),
    row("sgi-self", "SGI to the vCPU itself"),
    row("interrupt-end", "end of that SGI (ICC_EOIR1_EL1)"),
    row("timer-interrupt", "timer: CNTV_CVAL to the handler"),
    aim("calls-uid", "fast SMC (CALLS_UID)", Of::Added, 150),
    aim("invoke", "INVOKE of a PTA, no parameters", Of::Added, 800),
    row("invoke-no-session", "INVOKE, unknown session"),
    row("invoke-values", "INVOKE, 4 values"),
    row("invoke-memrefs", "INVOKE, 4 registered memrefs"),
    row("invoke-rpc", "INVOKE with one RPC (RPC_ARG)"),
    row("invoke-rpc-alloc", "the same without RPC_ARG: 3 RPCs"),
    row("register-1", "REGISTER_SHM, 1 page"),
    row("unregister-1", "UNREGISTER_SHM, 1 page"),
    row("register-16", "REGISTER_SHM, 16 pages"),
    row("unregister-16", "UNREGISTER_SHM, 16 pages"),
    row("register-128", "REGISTER_SHM, 128 pages"),
    row("unregister-128", "UNREGISTER_SHM, 128 pages"),
    row("register-1024", "REGISTER_SHM, 1024 pages"),
    row("unregister-1024", "UNREGISTER_SHM, 1024 pages"),
    row("register-4096", "REGISTER_SHM, 4096 pages"),
    row("unregister-4096", "UNREGISTER_SHM, 4096 pages"),
    row("register-16384", "REGISTER_SHM, 16384 pages"),
    row("unregister-16384", "UNREGISTER_SHM, 16384 pages"),
];

/// What one place gave.
#[derive(Default)]
struct Found {
    /// Instructions, and calls or accesses, a sample, by name.
    figures: BTreeMap<String, (u64, u64)>,
    /// What has no figure, and why.
    failed: BTreeMap<String, String>,
}

impl Found {
    fn json(&self) -> Value {
        let figures: BTreeMap<_, _> = (self.figures.iter())
            .map(|(name, (instructions, calls))| {
                (
                    name,
                    json!({ "instructions": instructions, "calls": calls }),
                )
            })
            .collect();
        json!({ "figures": figures, "failed": self.failed })
    }

    fn instructions(&self, name: &str) -> Option<u64> {
        self.figures
            .get(name)
            .map(|&(instructions, _)| instructions)
    }

    /// Adds what an event says; something when it was the last.
    fn add(&mut self, event: &Value) -> Option<()> {
        let name = event["name"].as_str().unwrap_or_default();
        match event["event"].as_str()? {
            "bench" => {
                let figures = (event["instructions"].as_u64()?, event["calls"].as_u64()?);
                self.figures.insert(name.to_owned(), figures);
                None
            }
            "bench-failed" => {
                let text = event["text"].as_str().unwrap_or_default();
                self.failed.insert(name.to_owned(), text.to_owned());
                None
            }
            "bench-end" => Some(()),
            _ => None,
        }
    }

    /// Instructions to register and unregister a page more, in hundredths.
    fn page(&self) -> Option<u64> {
        let both = |pages| {
            let there = self.instructions(&format!("register-{pages}"))?;
            Some(there + self.instructions(&format!("unregister-{pages}"))?)
        };
        both(MANY)?
            .checked_sub(both(FEW)?)
            .map(|more| more * 100 / (MANY - FEW))
    }
}

/// Gives firmware and OP-TEE the same random numbers in each boot. OP-TEE places itself by them, and looks
/// things up in an order that follows: up to 2 % of a call.
fn fix_seeds(file: &Path) -> Result<()> {
    let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
    let fdt = Fdt::new(&bytes).map_err(|error| anyhow!("{}: {error}", file.display()))?;
    let mut tree = DeviceTree::from_fdt(&fdt);
    let mut fixed = 0;
    for name in ["chosen", "secure-chosen"] {
        let Some(node) = tree.root.child_mut(name) else {
            continue;
        };
        for (seed, bytes) in [("kaslr-seed", 8), ("rng-seed", 32)] {
            if node.property(seed).is_some() {
                let value = vec![SEED; bytes];
                node.add_property(DeviceTreeProperty::new_unchecked(seed, &value[..]));
                fixed += 1;
            }
        }
    }
    ensure!(fixed > 0, "{}: there is no seed", file.display());
    std::fs::write(file, tree.to_dtb()).with_context(|| file.display().to_string())
}

/// Boots the program in one place and takes down what it says.
fn measure(lab: &Lab, flavour: Flavour, place: &str) -> Result<(Found, String)> {
    let system = lab.system("bench.toml")?;
    let (mut machine, versions) = lab.parts(&system, flavour)?;
    fix_seeds(machine.tree.as_deref().context("the boot has no tree")?)?;
    machine.extra = CLOCK.map(Into::into).into();
    let program = Channel::Vm(1);
    let mut session = Session::boot(&machine, &lab.folder.join(place))?;
    session.expect(program, BOOT).ready()?;
    let mut found = Found::default();
    session
        .expect(program, MEASURE)
        .program("the end of the measurements", |event| found.add(event))?;
    ensure!(!found.figures.is_empty(), "{place}: no figures");
    let parts = format!(
        "OP-TEE {} ({}), TF-A {}",
        versions.optee, versions.suite, versions.tf_a
    );
    Ok((found, parts))
}

fn number(value: Option<u64>) -> String {
    value.map_or_else(|| "–".into(), |value| value.to_string())
}

fn hundredths(value: Option<u64>) -> String {
    value.map_or_else(
        || "–".into(),
        |value| format!("{}.{:02}", value / 100, value % 100),
    )
}

/// What is added to the floor. It may be less than nothing: what OP-TEE does depends on who asks.
fn difference(floor: Option<u64>, postern: Option<u64>) -> Option<i64> {
    postern?.checked_signed_diff(floor?)
}

fn target(row: &Row, postern: Option<u64>, added: Option<i64>) -> String {
    let Some((of, most)) = row.target else {
        return String::new();
    };
    let (what, value) = match of {
        Of::Whole => (
            "whole call",
            postern.and_then(|value| value.try_into().ok()),
        ),
        Of::Added => ("added", added),
    };
    let verdict = match value {
        Some(value) if i64::try_from(most).is_ok_and(|most| value <= most) => "reached",
        Some(_) => "missed",
        None => "not measured",
    };
    format!("{what} ≤ {most}: {verdict}")
}

fn table(floor: &Found, postern: &Found) {
    println!("| call | counted | floor | Postern | added | to reach |");
    println!("|---|--:|--:|--:|--:|---|");
    for row in &ROWS {
        let (below, above) = (floor.instructions(row.name), postern.instructions(row.name));
        let added = difference(below, above);
        let calls = postern.figures.get(row.name).map(|&(_, calls)| calls);
        println!(
            "| {} | {} | {} | {} | {} | {} |",
            row.title,
            number(calls),
            number(below),
            number(above),
            added.map_or_else(|| "–".into(), |added| added.to_string()),
            target(row, above, added)
        );
    }
    let (below, above) = (floor.page(), postern.page());
    let added = above
        .zip(below)
        .and_then(|(above, below)| above.checked_sub(below));
    println!(
        "| REGISTER and UNREGISTER, a page beyond {FEW} | | {} | {} | {} | |",
        hundredths(below),
        hundredths(above),
        hundredths(added)
    );
}

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

fn run() -> Result<bool> {
    let lab = Lab::new("bench")?;
    let (floor, _) = measure(&lab, Flavour::Bare, "floor").context("the floor")?;
    let (postern, parts) = measure(&lab, Flavour::Shared, "postern").context("under Postern")?;
    println!("{parts}");
    println!("Instructions, on one CPU, from the call's to the one after it.");
    println!(
        "counted: so many calls (SMCs, HVCs) or accesses are one sample, whose sum the figures are."
    );
    println!("floor: the same program at EL2 in the hypervisor's place.");
    println!("OP-TEE is Debian's: where it prints to its log (level 3), both places count that.");
    println!("A build of OP-TEE that does not print is not measured yet.\n");
    table(&floor, &postern);
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
