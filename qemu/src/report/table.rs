// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Formats the table at the end of a run.

use super::{BUSY, DevicesReport, GuestReport, IDLE, Report, clock};
use guest_agent::event::Latency;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Formats the report for a terminal, with the verdict at the end.
pub fn table(report: &Report) -> String {
    let mut out = String::new();
    let mut row = |title: &str, cell: &dyn Fn(&GuestReport) -> String| {
        let mut line = format!("  {title:<28}");
        for guest in &report.guests {
            let _ = write!(line, "{:>16}", cell(guest));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    };
    row("", &|guest| guest.name.clone());
    row("vCPUs, memory", &|guest| {
        format!("{}, {} MiB", guest.vcpus, guest.memory_kib / 1024)
    });
    xtest_rows(&mut row);
    latency_rows(report, &mut row);
    device_rows(report, &mut row);
    stats_rows(report, &mut row);
    // Where nothing ran, as after a failed boot, there is nothing to compare.
    let ran = report.guests.iter().any(|guest| guest.xtest.is_some());
    if ran && report.guests.len() > 1 {
        let _ = writeln!(
            out,
            "\n  At least two guests ran xtest at once for {}.",
            clock(report.overlap_ms)
        );
    }
    if let Some(expected) = report.expected_cases.filter(|_| ran) {
        let _ = writeln!(
            out,
            "  The bare machine runs {expected} cases of this selection."
        );
    }
    for note in &report.notes {
        let _ = writeln!(out, "  Note: {note}");
    }
    out.push('\n');
    let _ = match &report.why[..] {
        [] => writeln!(out, "PASS"),
        [only] => writeln!(out, "FAIL: {only}"),
        [first, more @ ..] => {
            let more: String = more
                .iter()
                .map(|reason| format!("\n      {reason}"))
                .collect();
            writeln!(out, "FAIL: {first}{more}")
        }
    };
    out
}

type Row<'a> = &'a mut dyn FnMut(&str, &dyn Fn(&GuestReport) -> String);

fn xtest_rows(row: Row<'_>) {
    let xtest = |pick: fn(&super::XtestReport) -> String| {
        move |guest: &GuestReport| guest.xtest.as_ref().map_or_else(|| "-".into(), pick)
    };
    row("xtest: cases", &xtest(|x| x.cases.to_string()));
    row("  failed", &xtest(|x| x.failed.to_string()));
    row(
        "  skipped (nothing to test)",
        &xtest(|x| x.skipped.to_string()),
    );
    row("  subtests", &xtest(|x| x.subtests.to_string()));
    row(
        "  failed subtests",
        &xtest(|x| x.failed_subtests.to_string()),
    );
    row(
        "  start - end",
        &xtest(|x| {
            format!(
                "{} - {}",
                clock(x.start_ms),
                x.end_ms.map_or_else(|| "?".into(), clock)
            )
        }),
    );
}

fn latency_rows(report: &Report, row: Row<'_>) {
    for (label, title) in [(IDLE, "idle"), (BUSY, "other guest in xtest")] {
        if report
            .guests
            .iter()
            .all(|guest| guest.latency(label).is_none())
        {
            continue;
        }
        let of = |pick: fn(&Latency) -> String| {
            move |guest: &GuestReport| guest.latency(label).map_or_else(|| "-".into(), pick)
        };
        row(&format!("round trip, us: {title}"), &|_| String::new());
        row("  min", &of(|l| us(l.min_ns)));
        row("  median", &of(|l| us(l.median_ns)));
        row("  p99", &of(|l| us(l.p99_ns)));
        row("  max", &of(|l| us(l.max_ns)));
    }
}

fn device_rows(report: &Report, row: Row<'_>) {
    let devices = report
        .guests
        .iter()
        .filter_map(|guest| guest.devices.as_ref());
    if devices.clone().next().is_none() {
        return;
    }
    let of = |pick: fn(&DevicesReport) -> Option<String>| {
        move |guest: &GuestReport| {
            let found = guest.devices.as_ref().and_then(pick);
            found.unwrap_or_else(|| "-".into())
        }
    };
    if devices.clone().any(|devices| devices.disk.is_some()) {
        row(
            "disk, MB/s: write",
            &of(|d| d.disk.map(|t| rate(t.bytes, t.out_ns))),
        );
        row("  read", &of(|d| d.disk.map(|t| rate(t.bytes, t.in_ns))));
    }
    if devices.clone().any(|devices| devices.network.is_some()) {
        row(
            "network, MB/s: send",
            &of(|d| d.network.map(|t| rate(t.bytes, t.out_ns))),
        );
        row(
            "  receive",
            &of(|d| d.network.map(|t| rate(t.bytes, t.in_ns))),
        );
    }
    row(
        "interrupts of virtio",
        &of(|d| Some(d.interrupt_sums().0.to_string())),
    );
    row(
        "  of all devices",
        &of(|d| Some(d.interrupt_sums().1.to_string())),
    );
}

/// Formats a throughput in 10^6 bytes per second, with one decimal.
fn rate(bytes: u64, ns: u64) -> String {
    // Bytes per microsecond, in tenths.
    let tenths = u128::from(bytes) * 10_000 / u128::from(ns.max(1));
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn stats_rows(report: &Report, row: Row<'_>) {
    if report.guests.iter().all(|guest| guest.stats.is_none()) {
        return;
    }
    let of = |pick: fn(&super::Stats) -> String| {
        move |guest: &GuestReport| guest.stats.as_ref().map_or_else(|| "-".into(), pick)
    };
    row("mediator: calls fast", &of(|s| s.smc_fast.to_string()));
    row("  calls yielding", &of(|s| s.smc_yielding.to_string()));
    row(
        "  suspended by interrupts",
        &of(|s| s.foreign_intr.to_string()),
    );
    // Rows for kinds that nobody used would only lengthen the table.
    let counted = report
        .guests
        .iter()
        .filter_map(|guest| guest.stats.as_ref())
        .flat_map(|s| &s.rpc);
    let kinds: BTreeSet<&str> = counted
        .filter(|&(_, &count)| count > 0)
        .map(|(kind, _)| kind.as_str())
        .collect();
    for kind in kinds {
        row(&format!("  RPC {kind}"), &of_rpc(kind));
    }
    row(
        "  pages pinned, most",
        &of(|s| format!("{}, {}", s.pages_pinned, s.pages_pinned_max)),
    );
    row(
        "  buffers, most",
        &of(|s| format!("{}, {}", s.buffers, s.buffers_max)),
    );
    row("  denied", &of(|s| s.denied.to_string()));
}

fn of_rpc(kind: &str) -> impl Fn(&GuestReport) -> String {
    move |guest| {
        guest
            .stats
            .as_ref()
            .map_or_else(|| "-".into(), |s| s.rpc.get(kind).unwrap_or(&0).to_string())
    }
}

/// Formats nanoseconds as microseconds with one decimal.
pub fn us(ns: u64) -> String {
    format!("{}.{}", ns / 1000, ns % 1000 / 100)
}
