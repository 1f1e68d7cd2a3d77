// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Draws a run as a self-contained SVG: which case ran when in which guest, the round-trip times to
//! the TEE, the mediator's counters.

mod latency;
pub mod scale;
pub mod svg;

use super::{CaseReport, GuestReport, Report, clock};
use guest_agent::event::CaseState;
pub use latency::latency_picture;
use scale::time_step;
use svg::{Anchor, Svg};

const WIDTH: f64 = 1000.0;
const MARGIN: f64 = 32.0;
/// The left edge of the plots, right of the guests' names.
const LEFT: f64 = 148.0;
const RIGHT: f64 = WIDTH - MARGIN;
const LANE: f64 = 44.0;

/// The colour of text.
pub const INK: &str = "#1d2733";
/// The colour of minor text.
pub const FAINT: &str = "#6b7785";
/// The colour of grid lines.
pub const GRID: &str = "#e3e7ec";
const BAND: &str = "#eef4fb";
const RED: &str = "#c8322b";
const GREEN: &str = "#2c8a4b";

/// The families of cases: first digit, subject, colour.
const FAMILIES: [(&str, &str, &str); 8] = [
    ("regression_1", "sessions, TAs, memory", "#2f6fb2"),
    ("regression_2", "sockets", "#7a5bb0"),
    ("regression_40", "cryptography", "#d9822b"),
    ("regression_41", "big numbers", "#e3b23c"),
    ("regression_5", "client API", "#3a9fa5"),
    ("regression_6", "secure storage", "#4f9a4a"),
    ("regression_8", "key derivation, TLS", "#8a6d4b"),
    ("pkcs11", "PKCS#11", "#b5527d"),
];

fn family(case: &str) -> usize {
    FAMILIES
        .iter()
        .position(|(prefix, ..)| case.starts_with(prefix))
        .unwrap_or(0)
}

/// Draws the report.
pub fn picture(report: &Report) -> String {
    let mut svg = Svg::new(WIDTH);
    let mut y = header(&mut svg, report);
    y = timeline(&mut svg, report, y);
    y = latency::of_guests(&mut svg, report, y);
    y = counters(&mut svg, report, y);
    svg.finish(y + MARGIN / 2.0)
}

fn header(svg: &mut Svg, report: &Report) -> f64 {
    let with_tee = report.guests.iter().filter(|guest| guest.tee).count();
    let title = match (report.mode.as_str(), with_tee) {
        ("native", _) => "Linux and OP-TEE on the bare machine".to_owned(),
        (_, 1) => "One Linux guest on OP-TEE under Postern".to_owned(),
        (_, guests) => format!(
            "{} Linux guests share one OP-TEE under Postern",
            in_words(guests)
        ),
    };
    svg.text(MARGIN, 46.0, 22.0, INK, Anchor::Start, true, &title);
    let versions = &report.versions;
    let line = format!(
        "OP-TEE {} · Linux {} · xtest {}, selection: {} · QEMU {} ×{} on {} host CPUs",
        versions.optee,
        versions.linux,
        versions.xtest,
        shorten(&report.selection, 24),
        report.machine.cpu,
        report.machine.cpus,
        report.machine.host_cpus
    );
    svg.text(MARGIN, 69.0, 12.5, FAINT, Anchor::Start, false, &line);
    let colour = if report.passed() { GREEN } else { RED };
    svg.rounded(RIGHT - 74.0, 25.0, 74.0, 28.0, 6.0, colour);
    svg.text(
        RIGHT - 37.0,
        44.5,
        14.0,
        "#ffffff",
        Anchor::Middle,
        true,
        &report.verdict,
    );
    100.0
}

fn in_words(number: usize) -> String {
    const WORDS: [&str; 9] = [
        "No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight",
    ];
    WORDS
        .get(number)
        .map_or_else(|| number.to_string(), |&word| word.to_owned())
}

fn shorten(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        text.to_owned()
    } else {
        text.chars().take(longest).chain(['…']).collect()
    }
}

fn heading(svg: &mut Svg, y: f64, title: &str, note: &str) {
    svg.text(MARGIN, y, 15.0, INK, Anchor::Start, true, title);
    svg.text(RIGHT, y, 12.0, FAINT, Anchor::End, false, note);
}

/// Returns a guest's time span on the common clock.
fn span(guest: &GuestReport) -> Option<(u64, u64)> {
    let xtest = guest.xtest.as_ref()?;
    let last = guest
        .cases
        .iter()
        .map(|case| case.end_ms.unwrap_or(case.start_ms))
        .max();
    Some((xtest.start_ms, xtest.end_ms.or(last)?.max(xtest.start_ms)))
}

fn timeline(svg: &mut Svg, report: &Report, top: f64) -> f64 {
    let spans: Vec<(u64, u64)> = report.guests.iter().filter_map(span).collect();
    let Some(last) = spans.iter().map(|&(_, end)| end).max() else {
        return top;
    };
    let note = if spans.len() > 1 {
        format!("at least two at once: {}", clock(report.overlap_ms))
    } else {
        String::new()
    };
    heading(svg, top + 14.0, "xtest, case by case", &note);
    let plot = top + 34.0;
    let bottom = plot + LANE * report.guests.len() as f64;
    let x = |ms: u64| LEFT + (RIGHT - LEFT) * ms as f64 / last.max(1) as f64;
    // The time in which two or more guests run is shaded behind the lanes.
    if let [first, others @ ..] = &spans[..] {
        for other in others {
            let (from, to) = (first.0.max(other.0), first.1.min(other.1));
            if from < to {
                svg.rect(
                    x(from),
                    plot - 6.0,
                    x(to) - x(from),
                    bottom - plot + 10.0,
                    BAND,
                );
            }
        }
    }
    let step = time_step(last);
    for at in (0..=last).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
        svg.line(x(at), plot - 6.0, x(at), bottom + 4.0, GRID, 1.0);
        svg.text(
            x(at),
            bottom + 19.0,
            11.0,
            FAINT,
            Anchor::Middle,
            false,
            &clock(at),
        );
    }
    for (lane, guest) in report.guests.iter().enumerate() {
        let y = plot + LANE * lane as f64;
        svg.text(
            MARGIN,
            y + 15.0,
            14.0,
            INK,
            Anchor::Start,
            true,
            &guest.name,
        );
        let counts = guest.xtest.as_ref().map_or_else(
            || "no xtest".to_owned(),
            |xtest| format!("{} cases, {} failed", xtest.cases, xtest.failed),
        );
        svg.text(MARGIN, y + 30.0, 11.0, FAINT, Anchor::Start, false, &counts);
        for case in &guest.cases {
            bar(svg, case, y, &x, span(guest).map_or(last, |(_, end)| end));
        }
    }
    legend(svg, report, bottom + 42.0)
}

fn bar(svg: &mut Svg, case: &CaseReport, y: f64, x: &dyn Fn(u64) -> f64, last: u64) {
    let (from, to) = (x(case.start_ms), x(case.end_ms.unwrap_or(last)));
    let width = (to - from).max(0.6);
    let failed = matches!(case.state, CaseState::Failed | CaseState::Start);
    let colour = match case.state {
        _ if failed => RED,
        CaseState::Skipped => "#b9c1ca",
        _ => FAMILIES[family(&case.name)].2,
    };
    // A thin gap separates neighbours where there is room for it.
    let gap = if width > 2.0 { 0.6 } else { 0.0 };
    let (top, height) = if failed { (y - 3.0, 36.0) } else { (y, 30.0) };
    svg.titled_rect(
        from,
        top,
        width - gap,
        height,
        colour,
        &format!(
            "{}: {:?}, {:.1} s",
            case.name,
            case.state,
            case.end_ms.unwrap_or(last).saturating_sub(case.start_ms) as f64 / 1000.0
        ),
    );
    let label = case
        .name
        .split_once('_')
        .map_or(case.name.as_str(), |(_, number)| number);
    if width > 7.0 * label.len() as f64 {
        svg.text(
            (from + to) / 2.0,
            y + 19.0,
            11.0,
            "#ffffff",
            Anchor::Middle,
            false,
            label,
        );
    }
}

fn legend(svg: &mut Svg, report: &Report, y: f64) -> f64 {
    let mut x = MARGIN;
    let mut entry = |colour: &str, words: &str| {
        svg.rounded(x, y - 9.0, 11.0, 11.0, 2.0, colour);
        svg.text(x + 16.0, y, 11.5, FAINT, Anchor::Start, false, words);
        x += 16.0 + 6.0 * words.len() as f64 + 18.0;
    };
    for (index, (_, words, colour)) in FAMILIES.iter().enumerate() {
        let used = |case: &CaseReport| family(&case.name) == index;
        if report
            .guests
            .iter()
            .flat_map(|guest| &guest.cases)
            .any(used)
        {
            entry(colour, words);
        }
    }
    if report
        .guests
        .iter()
        .flat_map(|guest| &guest.cases)
        .any(|case| case.state == CaseState::Failed)
    {
        entry(RED, "failed");
    }
    y + 34.0
}

fn counters(svg: &mut Svg, report: &Report, top: f64) -> f64 {
    let guests: Vec<_> = report
        .guests
        .iter()
        .filter_map(|guest| Some((guest, guest.stats.as_ref()?)))
        .collect();
    if guests.is_empty() {
        return top;
    }
    heading(
        svg,
        top + 14.0,
        "Counters of the mediator",
        "since the machine started",
    );
    let columns = [
        "calls fast",
        "yielding",
        "RPCs",
        "suspended",
        "pages, most",
        "buffers, most",
        "denied",
    ];
    let x = |column: usize| LEFT + 96.0 + 120.0 * column as f64;
    let mut y = top + 40.0;
    for (column, words) in columns.iter().enumerate() {
        svg.text(x(column), y, 11.0, FAINT, Anchor::End, false, words);
    }
    svg.line(MARGIN, y + 7.0, RIGHT, y + 7.0, GRID, 1.0);
    for (guest, stats) in guests {
        y += 25.0;
        svg.text(MARGIN, y, 14.0, INK, Anchor::Start, true, &guest.name);
        let values = [
            stats.smc_fast,
            stats.smc_yielding,
            stats.rpc.values().sum(),
            stats.foreign_intr,
            stats.pages_pinned_max,
            stats.buffers_max,
            stats.denied,
        ];
        for (column, value) in values.into_iter().enumerate() {
            svg.text(
                x(column),
                y,
                13.0,
                INK,
                Anchor::End,
                false,
                &thousands(value),
            );
        }
    }
    y + 24.0
}

/// Formats `12345` as `12,345`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests;
