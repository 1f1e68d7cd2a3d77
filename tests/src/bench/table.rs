// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Formats the figures as a table.

use super::place::Found;
use super::rows::{Of, ROWS, Row};
use std::fmt::Write as _;

/// The figures of the three places.
#[derive(Clone, Copy, Debug)]
pub struct Figures<'a> {
    /// At EL2 on the bare machine.
    pub floor: &'a Found,
    /// Under Postern.
    pub postern: &'a Found,
    /// Under another hypervisor, with its name.
    pub other: Option<(&'a str, &'a Found)>,
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

/// Returns the instructions in addition to the floor. They may be negative: OP-TEE's work depends
/// on the caller.
#[must_use]
pub fn difference(floor: Option<u64>, place: Option<u64>) -> Option<i64> {
    place?.checked_signed_diff(floor?)
}

fn signed(value: Option<i64>) -> String {
    value.map_or_else(|| "–".into(), |value| value.to_string())
}

fn target(row: &Row, postern: Option<(u64, u64)>, added: Option<i64>) -> String {
    let Some((of, most)) = row.target else {
        return String::new();
    };
    let signed = |value: u64| value.try_into().ok();
    let (what, value) = match of {
        Of::Whole => ("whole call", postern.and_then(|(value, _)| signed(value))),
        Of::Added => ("added", added),
        Of::Calls => ("SMCs", postern.and_then(|(_, calls)| signed(calls))),
    };
    let verdict = match value {
        Some(value) if i64::try_from(most).is_ok_and(|most| value <= most) => "reached",
        Some(_) => "missed",
        None => "not measured",
    };
    format!("{what} ≤ {most}: {verdict}")
}

/// Formats the table in Markdown.
#[must_use]
pub fn table(figures: &Figures<'_>) -> String {
    let mut text = lines(figures, &ROWS);
    for (few, many) in SHARES {
        text.push_str(&share(figures, few, many));
    }
    text
}

/// Formats the table of these rows.
#[must_use]
pub fn lines(figures: &Figures<'_>, rows: &[Row]) -> String {
    let Figures {
        floor,
        postern,
        other,
    } = *figures;
    let mut text = String::from("| call | counted | floor | Postern | added |");
    if let Some((name, _)) = other {
        // Writing to a string cannot fail.
        let _ = write!(text, " {name} | counted | added |");
    }
    text.push_str(" to reach |\n|---|--:|--:|--:|--:|");
    text.push_str(if other.is_some() { "--:|--:|--:|" } else { "" });
    text.push_str("---|\n");
    for row in rows {
        let (below, above) = (floor.instructions(row.name), postern.instructions(row.name));
        let added = difference(below, above);
        let figures = postern.figures.get(row.name).copied();
        let _ = write!(
            text,
            "| {} | {} | {} | {} | {} |",
            row.title,
            number(figures.map(|(_, calls)| calls)),
            number(below),
            number(above),
            signed(added),
        );
        if let Some((_, found)) = other {
            let there = found.instructions(row.name);
            let calls = found.figures.get(row.name).map(|&(_, calls)| calls);
            let added = signed(difference(below, there));
            let _ = write!(text, " {} | {} | {added} |", number(there), number(calls));
        }
        let _ = writeln!(text, " {} |", target(row, figures, added));
    }
    text
}

/// The sizes of buffers between which the cost per page is computed. Xen refuses buffers of 256
/// pages.
const SHARES: [(u64, u64); 2] = [(16, 128), (128, 1024)];

/// Formats the cost per page as a row.
fn share(figures: &Figures<'_>, few: u64, many: u64) -> String {
    let floor = figures.floor.page(few, many);
    let of = |found: &Found| {
        let whole = found.page(few, many);
        let both = whole.zip(floor);
        (
            whole,
            both.and_then(|(whole, floor)| whole.checked_sub(floor)),
        )
    };
    let (whole, added) = of(figures.postern);
    let mut text = format!(
        "| REGISTER and UNREGISTER, a page more ({few} to {many}) | | {} | {} | {} |",
        hundredths(floor),
        hundredths(whole),
        hundredths(added)
    );
    let mut reach = "";
    if let Some((_, found)) = figures.other {
        let (there, there_added) = of(found);
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            " {} | | {} |",
            hundredths(there),
            hundredths(there_added)
        );
        reach = match added.zip(there_added) {
            Some((ours, theirs)) if ours * 4 <= theirs => "added ≤ a quarter of it: reached",
            Some(_) => "added ≤ a quarter of it: missed",
            None => "",
        };
    }
    let _ = writeln!(text, " {reach} |");
    text
}
