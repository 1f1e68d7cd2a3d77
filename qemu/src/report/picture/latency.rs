// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Draws round-trip times to the TEE as bars on a logarithmic axis.

use super::scale::LogAxis;
use super::svg::{Anchor, Svg};
use super::{FAINT, GRID, INK, LEFT, MARGIN, RIGHT, WIDTH, heading};
use crate::report::table::us;
use crate::report::{BUSY, IDLE, Report};
use guest_agent::event::Latency;

const IDLE_COLOUR: &str = "#2f6fb2";
const BUSY_COLOUR: &str = "#d9822b";

/// A row: its group, which is printed once for consecutive rows; its name; its colour; its figures.
type Row<'a> = (&'a str, &'a str, &'a str, &'a Latency);

/// Draws measurements alone: the group of each, its name within the group, and its figures.
pub fn latency_picture(title: &str, note: &str, rows: &[(&str, String, &Latency)]) -> String {
    let mut last = None;
    let rows: Vec<Row<'_>> = rows
        .iter()
        .map(|(name, words, latency)| {
            let first = last.replace(*name) != Some(*name);
            let colour = if first { IDLE_COLOUR } else { BUSY_COLOUR };
            (*name, words.as_str(), colour, *latency)
        })
        .collect();
    let mut svg = Svg::new(WIDTH);
    svg.text(MARGIN, 30.0, 12.5, FAINT, Anchor::Start, false, note);
    let end = bars(&mut svg, title, &rows, 44.0);
    svg.finish(end)
}

/// Draws the measurements of a run's guests.
pub(super) fn of_guests(svg: &mut Svg, report: &Report, top: f64) -> f64 {
    let rows: Vec<Row<'_>> = report
        .guests
        .iter()
        .flat_map(|guest| {
            [
                (IDLE, "idle", IDLE_COLOUR),
                (BUSY, "other in xtest", BUSY_COLOUR),
            ]
            .into_iter()
            .filter_map(|(label, words, colour)| {
                Some((guest.name.as_str(), words, colour, guest.latency(label)?))
            })
        })
        .collect();
    let title = "Round trip into the TEE, seen from inside a guest";
    bars(svg, title, &rows, top)
}

fn bars(svg: &mut Svg, title: &str, rows: &[Row<'_>], top: f64) -> f64 {
    let (Some(least), Some(most)) = (
        rows.iter().map(|row| row.3.min_ns).min(),
        rows.iter().map(|row| row.3.max_ns).max(),
    ) else {
        return top;
    };
    heading(svg, top + 14.0, title, "µs, logarithmic");
    let plot = top + 34.0;
    let height = 34.0;
    let bottom = plot + height * rows.len() as f64;
    let scale = LogAxis::new(least, most, LEFT + 24.0, RIGHT - 8.0);
    for tick in scale.ticks() {
        svg.line(scale.x(tick), plot - 8.0, scale.x(tick), bottom, GRID, 1.0);
        let words = if tick >= 1000 {
            (tick / 1000).to_string()
        } else {
            format!("0.{:03}", tick)
        };
        svg.text(
            scale.x(tick),
            bottom + 15.0,
            11.0,
            FAINT,
            Anchor::Middle,
            false,
            &words,
        );
    }
    for (index, (name, words, colour, latency)) in rows.iter().enumerate() {
        let y = plot + height * index as f64 + 8.0;
        if index == 0 || rows[index - 1].0 != *name {
            svg.text(MARGIN, y + 4.5, 14.0, INK, Anchor::Start, true, name);
        }
        svg.text(LEFT + 8.0, y + 4.0, 11.0, FAINT, Anchor::End, false, words);
        let x = |ns| scale.x(ns);
        svg.line(x(latency.min_ns), y, x(latency.max_ns), y, colour, 1.2);
        svg.rounded(
            x(latency.min_ns),
            y - 4.0,
            x(latency.p99_ns) - x(latency.min_ns),
            8.0,
            2.0,
            colour,
        );
        svg.line(
            x(latency.max_ns),
            y - 4.0,
            x(latency.max_ns),
            y + 4.0,
            colour,
            1.2,
        );
        svg.dot(x(latency.median_ns), y, 5.0, "#ffffff", colour);
        let numbers = format!(
            "min {}   median {}   p99 {}   max {}",
            us(latency.min_ns),
            us(latency.median_ns),
            us(latency.p99_ns),
            us(latency.max_ns)
        );
        svg.text(
            x(latency.min_ns),
            y + 17.0,
            10.0,
            FAINT,
            Anchor::Start,
            false,
            &numbers,
        );
    }
    svg.text(
        LEFT + 24.0,
        bottom + 34.0,
        11.0,
        FAINT,
        Anchor::Start,
        false,
        "bar: minimum to 99th percentile · ring: median · tick: maximum. Emulated CPUs: compare, do not quote.",
    );
    bottom + 62.0
}
