//! The figures as a table.

use super::place::{FEW, Found};
use super::rows::{Of, ROWS, Row};

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
#[must_use]
pub fn difference(floor: Option<u64>, place: Option<u64>) -> Option<i64> {
    place?.checked_signed_diff(floor?)
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

/// Prints it.
pub fn print(floor: &Found, postern: &Found) {
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
