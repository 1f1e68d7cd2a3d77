// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The bench: the cost of calls in instructions, on the bare machine (the baseline, which no
//! mediator can beat), under Postern, and under another hypervisor. QEMU counts instructions on one
//! CPU, so the figures are reproducible.
//!
//! * [`rows`]: the measurements and their targets.
//! * [`place`]: boots the program in one place and collects its figures; [`other`]: another
//!   hypervisor in Postern's place.
//! * `ffa`: the measurements over FF-A.
//! * [`table`]: the figures as a table.
//! * [`baseline`]: the committed figures, and the comparison with new ones.
//! * [`sizes`]: image, memory, boot, lines of code.
//! * [`picture`]: the figures as pictures.
//! * [`document`]: the figures in `docs/performance.md`.
//! * [`profile`]: the instructions of a call by function.

pub mod baseline;
pub mod document;
mod ffa;
pub mod other;
pub mod picture;
pub mod place;
pub mod profile;
pub mod rows;
pub mod sizes;
pub mod table;

use crate::Lab;
use anyhow::{Context, Result, ensure};
use baseline::Baseline;
use place::{Found, Place, Ready, measure};
use postern_qemu::board::{BaseTree, BoardName};
use postern_qemu::config::TeeAbi;
use postern_qemu::elf;
use rows::ROWS;
use serde_json::json;
use sizes::Sizes;
use std::fmt::Write as _;
use std::path::Path;
use table::Figures;

/// Returns the constant bytes of the hypervisor's image, which are neither written nor only zeroes:
/// code and constants.
fn image_bytes(ready: &Ready) -> Result<u64> {
    let file = ready.artifacts.hypervisor_elf.as_ref();
    let file = file.context("there is no hypervisor")?;
    let file = std::fs::read(file).with_context(|| file.display().to_string())?;
    Ok(sizes::constant(&elf::sections(&file)?))
}

/// Runs `make bench`: measures in all places and prints the table. With `update` the figures become
/// the new baseline.
///
/// # Errors
/// Fails when a place gives no figures.
pub fn run(lab: &Lab, hypervisor: Option<&Path>, update: bool) -> Result<bool> {
    let machine = lab.system("bench.toml")?.machine;
    if machine.tee_abi == TeeAbi::Ffa {
        ensure!(
            hypervisor.is_none() && !update,
            "ABI=ffa: HYPERVISOR and BASELINE are for the SMC ABI, whose figures are stored; leave them out"
        );
        return ffa::run(lab);
    }
    let board = machine.board;
    if board != BoardName::Virt {
        return on_board(lab, board, hypervisor.is_some() || update);
    }
    let (floor, _) = measure(lab, Place::Floor).context("the floor")?;
    let (postern, ready) = measure(lab, Place::Postern).context("under Postern")?;
    let other = hypervisor
        .map(|image| {
            let (found, _) =
                measure(lab, Place::Other(image)).context("under the other hypervisor")?;
            let log = lab.folder.join("other/vm-bench.log");
            anyhow::Ok((other::name(image, &log), found))
        })
        .transpose()?;
    let parts = ready.parts();
    let figures = Figures {
        floor: &floor,
        postern: &postern,
        other: other.as_ref().map(|(name, found)| (name.as_str(), found)),
    };
    let calls = format!("{}\n{}", about(&parts), table::table(&figures));
    println!("{calls}");
    let sizes = sizes::measure(lab).context("sizes")?;
    println!("{}", sizes.tables());
    write(lab, &parts, &figures, &sizes)?;
    let places = [("floor", &floor), ("Postern", &postern)];
    let others = other.iter().map(|(name, found)| (name.as_str(), found));
    let mut missing = String::new();
    for (place, found) in places.into_iter().chain(others) {
        for (name, text) in &found.failed {
            // Writing to a string cannot fail.
            let _ = writeln!(missing, "- {place}: no figure for {name}: `{text}`");
        }
    }
    println!("{missing}");
    let known = |name: &String| ROWS.iter().any(|row| row.name == name);
    let names = floor.figures.keys().chain(postern.figures.keys());
    let strange: Vec<_> = names.filter(|name| !known(name)).collect();
    ensure!(strange.is_empty(), "not in the table: {strange:?}");
    if update {
        let file = baseline::file(lab);
        Baseline::new(parts, &floor, &postern, image_bytes(&ready)?).write(&file)?;
        document::write(lab, "calls", &format!("{calls}\n{missing}"))?;
        document::write(lab, "sizes", &sizes.tables())?;
        document::keep(lab, &pictures(&figures))?;
        println!(
            "The new baseline: {}; docs/performance.md has the figures, too",
            file.display()
        );
    }
    // A call that OP-TEE refuses on the bare machine may also fail under Postern.
    let also = |name: &String| floor.failed.contains_key(name);
    Ok(postern.failed.keys().all(also))
}

/// Measures the calls on another board than virt, and prints their table.
fn on_board(lab: &Lab, board: BoardName, more: bool) -> Result<bool> {
    ensure!(
        !more,
        "BOARD={board}: HYPERVISOR and BASELINE are for virt, whose figures are stored; leave them out"
    );
    let floor = match board.board().tree {
        BaseTree::Qemu(_) => measure(lab, Place::Floor).context("the floor")?.0,
        BaseTree::Linux(_) => {
            println!("BOARD={board}: the program does not drive its UART: there is no floor");
            Found::default()
        }
    };
    let (postern, ready) = measure(lab, Place::Postern).context("under Postern")?;
    let figures = Figures {
        floor: &floor,
        postern: &postern,
        other: None,
    };
    let parts = ready.parts();
    println!("{}\n{}", about(&parts), table::table(&figures));
    for (name, text) in &postern.failed {
        println!("- no figure for {name}: `{text}`");
    }
    // Without a floor nothing says which calls OP-TEE refuses on the bare machine, too.
    let also = |name: &String| floor.figures.is_empty() || floor.failed.contains_key(name);
    Ok(postern.failed.keys().all(also))
}

/// Returns the introduction of the figures.
fn about(parts: &str) -> String {
    format!(
        "> {parts}  \n\
         > Instructions, on one CPU, from the call's to the one after it.  \n\
         > counted: the number of calls (SMCs, HVCs) or accesses in one sample, whose sum the figures are.  \n\
         > floor: the same program at EL2 in the hypervisor's place.\n"
    )
}

fn pictures(figures: &Figures<'_>) -> [(&'static str, String); 2] {
    [
        ("calls.svg", picture::calls(figures)),
        ("pages.svg", picture::pages(figures)),
    ]
}

/// Writes all figures to `bench/bench.json` in the output folder, and the pictures beside it.
fn write(lab: &Lab, parts: &str, figures: &Figures<'_>, sizes: &Sizes) -> Result<()> {
    let folder = lab.paths.out().join("bench");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let file = folder.join("bench.json");
    let mut all = json!({
        "parts": parts,
        "floor": figures.floor.json(),
        "postern": figures.postern.json(),
        "sizes": sizes.json(),
    });
    if let Some((name, found)) = figures.other {
        all[name] = found.json();
    }
    std::fs::write(&file, format!("{all:#}\n")).with_context(|| file.display().to_string())?;
    for (name, text) in pictures(figures) {
        let file = folder.join(name);
        std::fs::write(&file, text).with_context(|| file.display().to_string())?;
    }
    println!(
        "The figures as JSON, and pictures of them: {}",
        folder.display()
    );
    Ok(())
}

/// Runs `make bench-check`: measures under Postern and compares with the committed baseline;
/// returns whether no figure is worse.
///
/// # Errors
/// Fails when there are no figures or no baseline.
pub fn check(lab: &Lab) -> Result<bool> {
    let baseline = Baseline::read(&baseline::file(lab))?;
    let (postern, ready) = measure(lab, Place::Postern).context("under Postern")?;
    let parts = ready.parts();
    // With other parts the floor differs, too.
    let floor = if parts == baseline.parts {
        None
    } else {
        println!(
            "The baseline was measured with other parts: {}",
            baseline.parts
        );
        println!("Parts here: {parts}");
        println!("The difference on the bare machine is subtracted.");
        Some(measure(lab, Place::Floor).context("the floor")?.0)
    };
    let now = Baseline::new(parts, &Found::default(), &postern, image_bytes(&ready)?);
    let lines = baseline::compare(&baseline, floor.as_ref(), &now.postern);
    let well = baseline::judge(&lines);
    if well {
        println!("PASS: no call takes more instructions than before");
    } else {
        println!("FAIL: if the increase is intended, accept it with `make bench BASELINE=update`");
    }
    Ok(well)
}
