// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The bench over FF-A: the same program, whose rows are other ones.

use super::place::{Found, Place, measure};
use super::rows::{Of, Row, aim, row};
use super::table::{Figures, lines};
use crate::Lab;
use anyhow::{Context, Result};
use std::fmt::Write as _;

/// The rows of the table.
pub(super) const ROWS: [Row; 22] = [
    row("ffa-version", "FFA_VERSION"),
    row("ffa-id-get", "FFA_ID_GET"),
    row("ffa-features", "FFA_FEATURES of a function"),
    aim(
        "ffa-direct",
        "direct request (GET_API_VERSION)",
        Of::Added,
        250,
    ),
    row("ffa-invoke-no-session", "INVOKE, unknown session"),
    aim(
        "ffa-invoke",
        "INVOKE of a PTA, no parameters",
        Of::Added,
        800,
    ),
    row("ffa-invoke-values", "INVOKE, 4 values"),
    row("ffa-invoke-memrefs", "INVOKE, 4 memory references"),
    row("ffa-invoke-rpc", "INVOKE with one RPC"),
    row("ffa-share-1", "MEM_SHARE, 1 page"),
    row("ffa-reclaim-1", "MEM_RECLAIM, 1 page"),
    aim("ffa-both-1", "both, 1 page", Of::Added, 3000),
    row("ffa-share-16", "MEM_SHARE, 16 pages"),
    row("ffa-reclaim-16", "MEM_RECLAIM, 16 pages"),
    row("ffa-share-65", "MEM_SHARE, 65 pages"),
    row("ffa-reclaim-65", "MEM_RECLAIM, 65 pages"),
    row("ffa-share-250", "MEM_SHARE, 250 pages"),
    row("ffa-reclaim-250", "MEM_RECLAIM, 250 pages"),
    row("ffa-share-65-ranges", "MEM_SHARE, 65 ranges of a page"),
    row("ffa-reclaim-65-ranges", "MEM_RECLAIM, 65 ranges of a page"),
    aim("ffa-page", "both, a page more (1 to 65)", Of::Added, 150),
    aim(
        "ffa-page-range",
        "both, a page more in a range of its own (1 to 65)",
        Of::Added,
        150,
    ),
];

/// Adds the figures that come from several others.
fn add_sums(found: &mut Found) {
    let both = |found: &Found, size: &str| {
        let there = found.instructions(&format!("ffa-share-{size}"))?;
        Some(there + found.instructions(&format!("ffa-reclaim-{size}"))?)
    };
    let Some(one) = both(found, "1") else {
        return;
    };
    found.figures.insert("ffa-both-1".into(), (one, 2));
    for (name, size) in [("ffa-page", "65"), ("ffa-page-range", "65-ranges")] {
        if let Some(many) = both(found, size) {
            let page = many.saturating_sub(one).div_ceil(64);
            found.figures.insert(name.into(), (page, 2));
        }
    }
}

/// Runs `make bench ABI=ffa`: measures on the bare machine and under Postern, and prints the table.
///
/// # Errors
/// Fails when the bare machine gives no figures.
pub(super) fn run(lab: &Lab) -> Result<bool> {
    let (mut floor, ready) = measure(lab, Place::Floor).context("the floor")?;
    let mut postern = match measure(lab, Place::Postern) {
        Ok((postern, _)) => postern,
        Err(error) => {
            println!("no figures under Postern: {error:#}");
            Found::default()
        }
    };
    add_sums(&mut floor);
    add_sums(&mut postern);
    let figures = Figures {
        floor: &floor,
        postern: &postern,
        other: None,
    };
    println!(
        "{}\n{}",
        super::about(&ready.parts()),
        lines(&figures, &ROWS)
    );
    let mut missing = String::new();
    for (place, found) in [("floor", &floor), ("Postern", &postern)] {
        for (name, text) in &found.failed {
            // Writing to a string cannot fail.
            let _ = writeln!(missing, "- {place}: no figure for {name}: `{text}`");
        }
    }
    print!("{missing}");
    Ok(ROWS
        .iter()
        .all(|row| postern.figures.contains_key(row.name)))
}
