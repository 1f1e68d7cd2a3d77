// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Draws the figures as self-contained SVG.

use super::place::Found;
use super::rows;
use super::table::Figures;
use postern_qemu::report::picture::scale::LogAxis;
use postern_qemu::report::picture::svg::{Anchor, Svg};
use postern_qemu::report::picture::{FAINT, GRID, INK, thousands};

const WIDTH: f64 = 1000.0;
const MARGIN: f64 = 32.0;
const LEFT: f64 = 350.0;
const RIGHT: f64 = WIDTH - MARGIN - 60.0;
const POSTERN: &str = "#2f6fb2";
const OTHER: &str = "#d9822b";
const FLOOR: &str = "#b9c1ca";

/// The calls of the first picture.
const CALLS: [&str; 14] = [
    "hvc-unknown",
    "psci-version",
    "calls-uid",
    "invoke",
    "invoke-values",
    "invoke-memrefs",
    "invoke-rpc",
    "interrupt-other",
    "interrupt-turn",
    "mmio-gicd-typer",
    "sgi-self",
    "timer-interrupt",
    "sgi-other",
    "vm-switch",
];
/// The sizes of the second picture in pages.
const PAGES: [u64; 7] = [1, 16, 128, 256, 1024, 4096, 16_384];

fn heading(svg: &mut Svg, title: &str, note: &str) {
    svg.text(MARGIN, 44.0, 20.0, INK, Anchor::Start, true, title);
    svg.text(MARGIN, 66.0, 12.5, FAINT, Anchor::Start, false, note);
}

fn legend(svg: &mut Svg, y: f64, entries: &[(&str, &str)]) {
    let mut x = MARGIN;
    for (colour, words) in entries {
        svg.rounded(x, y - 9.0, 11.0, 11.0, 2.0, colour);
        svg.text(x + 16.0, y, 12.0, FAINT, Anchor::Start, false, words);
        x += 40.0 + 7.0 * words.len() as f64;
    }
}

/// Returns the cost of a call above the floor; the whole cost where the floor has no figure.
fn cost(figures: &Figures<'_>, found: &Found, name: &str) -> Option<u64> {
    let whole = found.instructions(name)?;
    // On the bare machine PSCI is answered below the hypervisor, and here by it.
    let floor = match name {
        "psci-version" => None,
        _ => figures.floor.instructions(name),
    };
    Some(whole.saturating_sub(floor.unwrap_or(0)))
}

/// Draws the cost of calls above the floor, one bar each.
#[must_use]
pub fn calls(figures: &Figures<'_>) -> String {
    let mut svg = Svg::new(WIDTH);
    heading(
        &mut svg,
        "What a hypervisor adds to a call",
        "Instructions above the floor: the same program at EL2 on the same OP-TEE. For calls that end in the hypervisor: all instructions.",
    );
    let cost_of = |name: &str| {
        let ours = cost(figures, figures.postern, name);
        let theirs = figures
            .other
            .and_then(|(_, found)| cost(figures, found, name));
        (ours, theirs)
    };
    let most = CALLS
        .iter()
        .flat_map(|name| <[_; 2]>::from(cost_of(name)))
        .flatten()
        .max();
    let most = most.unwrap_or(1).max(1) as f64;
    let mut y = 96.0;
    let (bar, gap) = (13.0, 12.0);
    for name in CALLS {
        let (ours, theirs) = cost_of(name);
        let bars: Vec<(&str, u64)> = [(POSTERN, ours), (OTHER, theirs)]
            .into_iter()
            .filter_map(|(colour, value)| Some((colour, value?)))
            .collect();
        if bars.is_empty() {
            continue;
        }
        let middle = y + bar * bars.len() as f64 / 2.0 + 4.0;
        svg.text(
            LEFT - 12.0,
            middle,
            12.5,
            INK,
            Anchor::End,
            false,
            rows::title(name),
        );
        for (colour, value) in bars {
            let width = ((RIGHT - LEFT) * value as f64 / most).max(1.0);
            svg.rect(LEFT, y, width, bar - 1.5, colour);
            let words = thousands(value);
            svg.text(
                LEFT + width + 6.0,
                y + 10.0,
                11.0,
                FAINT,
                Anchor::Start,
                false,
                &words,
            );
            y += bar;
        }
        y += gap;
    }
    let other = figures.other.map(|(name, _)| (OTHER, name));
    let entries: Vec<(&str, &str)> = [(POSTERN, "Postern")].into_iter().chain(other).collect();
    legend(&mut svg, y + 12.0, &entries);
    svg.finish(y + 36.0)
}

/// Draws the cost of registering and unregistering a buffer, by its pages, on logarithmic axes.
#[must_use]
pub fn pages(figures: &Figures<'_>) -> String {
    let mut svg = Svg::new(WIDTH);
    heading(
        &mut svg,
        "Registering and unregistering a buffer",
        "Instructions by pages: the sum of both calls, and OP-TEE's own part. Both axes are logarithmic.",
    );
    let both = |found: &Found, pages: u64| {
        let there = found.instructions(&format!("register-{pages}"))?;
        Some(there + found.instructions(&format!("unregister-{pages}"))?)
    };
    let mut lines: Vec<(&str, &str, &Found)> = vec![
        (FLOOR, "floor", figures.floor),
        (POSTERN, "Postern", figures.postern),
    ];
    lines.extend(figures.other.map(|(name, found)| (OTHER, name, found)));
    let values = || {
        let all = lines
            .iter()
            .flat_map(|(.., found)| PAGES.map(|pages| both(found, pages)));
        all.flatten()
    };
    let (least, most) = (values().min().unwrap_or(1), values().max().unwrap_or(2));
    let (left, right, top, bottom) = (MARGIN + 80.0, WIDTH - MARGIN - 20.0, 96.0, 456.0);
    let (across, up) = (
        LogAxis::new(PAGES[0], PAGES[PAGES.len() - 1], left + 20.0, right),
        LogAxis::new(least, most, bottom - 10.0, top),
    );
    for tick in up.ticks() {
        svg.line(left, up.x(tick), right, up.x(tick), GRID, 1.0);
        let words = thousands(tick);
        svg.text(
            left - 8.0,
            up.x(tick) + 4.0,
            11.0,
            FAINT,
            Anchor::End,
            false,
            &words,
        );
    }
    for pages in PAGES {
        let x = across.x(pages);
        svg.line(x, top, x, bottom, GRID, 1.0);
        svg.text(
            x,
            bottom + 18.0,
            11.0,
            FAINT,
            Anchor::Middle,
            false,
            &thousands(pages),
        );
    }
    for (colour, _, found) in &lines {
        let points = PAGES.map(|pages| Some((across.x(pages), up.x(both(found, pages)?))));
        let points: Vec<(f64, f64)> = points.into_iter().flatten().collect();
        for pair in points.windows(2) {
            svg.line(pair[0].0, pair[0].1, pair[1].0, pair[1].1, colour, 2.0);
        }
        for (x, y) in points {
            svg.dot(x, y, 3.5, "#ffffff", colour);
        }
    }
    let entries: Vec<(&str, &str)> = lines
        .iter()
        .map(|&(colour, name, _)| (colour, name))
        .collect();
    legend(&mut svg, bottom + 46.0, &entries);
    svg.finish(bottom + 66.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(invoke: u64) -> Found {
        let mut found = Found::default();
        for (name, value) in [("invoke", invoke), ("register-1", 10), ("unregister-1", 20)] {
            found.figures.insert(name.into(), (value, 1));
        }
        found
    }

    #[test]
    fn pictures_omit_bars_without_figures() {
        let (floor, postern, other) = (found(10_000), found(11_511), found(14_882));
        let mut figures = Figures {
            floor: &floor,
            postern: &postern,
            other: Some(("xen", &other)),
        };
        let text = calls(&figures);
        for word in ["1,511", "4,882", "INVOKE of a PTA, no parameters", "xen"] {
            assert!(text.contains(word), "{word}");
        }
        assert!(!text.contains("PSCI_VERSION"));
        assert!(pages(&figures).contains("<circle"));
        figures.other = None;
        assert!(!calls(&figures).contains("4,882"));
    }
}
