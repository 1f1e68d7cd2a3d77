// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::*;
use crate::guest::Guest;

fn latency(label: &str, times: [u64; 4]) -> Latency {
    let [min_ns, median_ns, p99_ns, max_ns] = times;
    Latency {
        label: label.into(),
        samples: 2000,
        min_ns,
        median_ns,
        p90_ns: p99_ns,
        p99_ns,
        p999_ns: p99_ns,
        max_ns,
        mean_ns: median_ns,
        total_ns: 1,
        what: "a call".into(),
    }
}

/// Returns a report of two guests with two cases each, run at once for 70 s.
pub(super) fn example() -> Report {
    let case = |name: &str, start_ms, end_ms| CaseReport {
        name: name.into(),
        state: CaseState::Ok,
        start_ms,
        end_ms: Some(end_ms),
        subcases: 2,
        log: Vec::new(),
    };
    let guest = |name: &str, shift: u64| GuestReport {
        name: name.into(),
        vcpus: 2,
        memory_kib: 512 * 1024,
        tee: true,
        ready_ms: Some(9000),
        xtest: Some(XtestReport {
            suites: "regression".into(),
            cases: 2,
            failed: 0,
            skipped: 0,
            subtests: 570,
            failed_subtests: 0,
            exit: Some(0),
            start_ms: 20_000 + shift,
            end_ms: Some(100_000 + shift),
            guest_ms: Some(80_000),
        }),
        cases: vec![
            case("regression_1001", 20_000 + shift, 50_000 + shift),
            case("regression_6001", 50_000 + shift, 100_000 + shift),
        ],
        latency: vec![
            latency(IDLE, [250_000, 500_000, 2_000_000, 9_000_000]),
            latency(BUSY, [260_000, 1_500_000, 12_000_000, 60_000_000]),
        ],
        devices: (name == "a").then(|| DevicesReport {
            disk: Some(Throughput {
                bytes: 32 << 20,
                out_ns: 1_000_000_000,
                in_ns: 500_000_000,
            }),
            network: Some(Throughput {
                bytes: 1_000_000,
                out_ns: 2_000_000_000,
                in_ns: 4_000_000_000,
            }),
            interrupts: [
                ("arch_timer", 9000),
                ("virtio0", 250),
                ("virtio1, virtio2", 30),
            ]
            .map(|(name, count)| (name.to_owned(), count))
            .into(),
        }),
        stats: Some(Stats {
            vm: name.into(),
            smc_fast: 12,
            smc_yielding: 41_000,
            rpc: [("fs".to_owned(), 900), ("load_ta".to_owned(), 77)].into(),
            pages_pinned_max: 530,
            ..Stats::default()
        }),
        warnings: Vec::new(),
    };
    Report {
        schema: SCHEMA,
        verdict: "PASS".into(),
        why: Vec::new(),
        notes: Vec::new(),
        mode: "shared".into(),
        system: "two.toml".into(),
        suite: "trixie".into(),
        selection: "default".into(),
        versions: ReportVersions {
            optee: "4.5.0-2".into(),
            ..ReportVersions::default()
        },
        machine: ReportMachine {
            cpus: 4,
            cpu: "cortex-a72".into(),
            memory_mib: 3072,
            host_cpus: 2,
        },
        duration_ms: 120_000,
        overlap_ms: 70_000,
        expected_cases: Some(2),
        guests: vec![guest("a", 0), guest("b", 10_000)],
    }
}

fn guests() -> Vec<Guest> {
    vec![Guest::new("a"), Guest::new("b")]
}

fn checks() -> Checks {
    Checks {
        expected: Some(vec![
            ("regression_1001".into(), CaseState::Ok),
            ("regression_6001".into(), CaseState::Ok),
        ]),
        overlap: true,
        stats: true,
        busy: true,
        broken: None,
    }
}

#[test]
fn report_reads_back_as_written() {
    let report = example();
    let text = serde_json::to_string_pretty(&report).expect("written");
    assert_eq!(Report::parse(&text).expect("read"), report);
    assert!(Report::parse(&text.replace("\"schema\": 1", "\"schema\": 2")).is_err());
}

#[test]
fn good_run_passes() {
    let mut report = example();
    judge(&mut report, &guests(), &checks());
    assert_eq!(
        (report.verdict.as_str(), &report.why[..]),
        ("PASS", &[][..])
    );
}

#[test]
fn every_failure_has_its_reason() {
    type Spoil = fn(&mut Report, &mut [Guest], &mut Checks);
    let table: [(Spoil, &str); 15] = [
        (
            |r, _, _| r.guests[1].cases[0].state = CaseState::Failed,
            "b: 1 case failed: regression_1001",
        ),
        (
            |r, _, _| drop(r.guests[0].cases.pop()),
            "a: 1 case missing: regression_6001",
        ),
        (
            |r, _, _| r.guests[0].cases[1].state = CaseState::Skipped,
            "a: 1 case skipped that the bare machine",
        ),
        (|r, _, _| r.guests[0].xtest = None, "a: xtest did not run"),
        (
            |r, _, _| r.guests[0].xtest.as_mut().expect("xtest").exit = Some(-11),
            "a: xtest ended with -11",
        ),
        (
            |r, _, _| r.guests[0].xtest.as_mut().expect("xtest").exit = None,
            "a: xtest did not end",
        ),
        (
            |r, _, _| r.guests[0].xtest.as_mut().expect("xtest").cases = 0,
            "a: no case was run",
        ),
        (
            |r, _, _| drop(r.guests[1].latency.pop()),
            "b: the round trip was not measured (busy)",
        ),
        (
            |r, _, _| drop(r.guests[1].latency.remove(0)),
            "b: the round trip was not measured (idle)",
        ),
        (
            |r, _, _| r.guests[1].stats = None,
            "b: the hypervisor reported no counters",
        ),
        (
            |r, _, _| r.overlap_ms = 40_000,
            "at once for only 40 of the shorter run's 80 s",
        ),
        (
            |_, g, _| g[1].death = Some("Kernel panic".into()),
            "b: Kernel panic",
        ),
        (
            |_, g, _| g[0].errors.push("tee-supplicant died".into()),
            "a: tee-supplicant died",
        ),
        (|_, g, _| g[0].garbled = 2, "a: 2 events could not be read"),
        (|_, _, c| c.broken = Some("QEMU ended".into()), "QEMU ended"),
    ];
    for (spoil, reason) in table {
        let (mut report, mut guests, mut checks) = (example(), guests(), checks());
        spoil(&mut report, &mut guests, &mut checks);
        judge(&mut report, &guests, &checks);
        assert_eq!(report.verdict, "FAIL", "{reason}");
        assert!(
            report.why.iter().any(|why| why.contains(reason)),
            "{reason}: {:?}",
            report.why
        );
        assert!(table_text(&report).contains("\nFAIL: "), "{reason}");
    }
}

fn table_text(report: &Report) -> String {
    table(report)
}

#[test]
fn unchecked_conditions_do_not_fail() {
    let mut report = example();
    report.overlap_ms = 0;
    for guest in &mut report.guests {
        guest.latency.pop();
        guest.stats = None;
        guest.cases.pop();
    }
    let checks = Checks {
        expected: None,
        overlap: false,
        stats: false,
        busy: false,
        broken: None,
    };
    judge(&mut report, &guests(), &checks);
    assert_eq!(report.why, [] as [String; 0]);
    // A guest without the TEE has no results to miss.
    report.guests[0].tee = false;
    report.guests[0].xtest = None;
    judge(
        &mut report,
        &guests(),
        &Checks {
            stats: false,
            busy: false,
            overlap: false,
            ..checks
        },
    );
    assert_eq!(report.verdict, "PASS");
}

#[test]
fn broken_run_reports_only_its_last_case() {
    let mut report = example();
    report.guests[0].cases[1].state = CaseState::Start;
    report.guests[1].stats = None;
    judge(
        &mut report,
        &guests(),
        &Checks {
            broken: Some("time-out".into()),
            ..checks()
        },
    );
    assert_eq!(report.why, ["time-out", "a: not ended: regression_6001"]);
}

#[test]
fn kernel_warnings_are_noted() {
    let (mut report, mut guests) = (example(), guests());
    guests[0].warnings = vec!["rcu stall".into(), "another".into()];
    judge(&mut report, &guests, &checks());
    assert!(report.passed());
    assert_eq!(report.notes, ["a: 2 kernel warnings, the first: rcu stall"]);
}

#[test]
fn overlap_sums_all_spans() {
    let table: [(&[(u64, u64)], u64); 7] = [
        (&[], 0),
        (&[(0, 10)], 0),
        (&[(0, 10), (10, 20)], 0),
        (&[(0, 10), (4, 20)], 6),
        (&[(0, 10), (2, 8), (3, 5)], 6),
        (&[(0, 10), (2, 4), (6, 9)], 5),
        (&[(0, 10), (8, 3)], 0),
    ];
    for (spans, expected) in table {
        assert_eq!(overlap_ms(spans), expected, "{spans:?}");
    }
}

#[test]
fn table_has_one_column_per_guest() {
    let text = table(&example());
    let row = |title: &str| {
        text.lines()
            .find(|line| line.contains(title))
            .unwrap_or_default()
            .to_owned()
    };
    let cells = |title: &str| -> Vec<String> {
        row(title)
            .split_whitespace()
            .rev()
            .take(2)
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(cells("xtest: cases"), ["2", "2"]);
    assert_eq!(cells("calls yielding"), ["41000", "41000"]);
    assert_eq!(cells("RPC load_ta"), ["77", "77"]);
    // From the right: the second guest has no devices.
    assert_eq!(cells("disk, MB/s: write"), ["-", "33.5"]);
    assert_eq!(cells("network, MB/s: send"), ["-", "0.5"]);
    assert_eq!(cells("interrupts of virtio"), ["-", "280"]);
    assert_eq!(cells("of all devices"), ["-", "9280"]);
    assert!(row("start - end").contains("0:20 - 1:40"));
    assert!(text.contains("  median") && text.contains("1500.0"));
    assert!(text.ends_with("\nPASS\n"));
}

#[test]
fn every_report_key_is_documented() {
    fn keys(value: &serde_json::Value, all: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(fields) => {
                for (key, value) in fields {
                    all.push(key.clone());
                    // The hypervisor defines the kinds of RPCs and exits, Linux the names of
                    // interrupt handlers.
                    if !["rpc", "exits", "interrupts"].contains(&key.as_str()) {
                        keys(value, all);
                    }
                }
            }
            serde_json::Value::Array(values) => values.iter().for_each(|value| keys(value, all)),
            _ => {}
        }
    }
    let mut report = example();
    report.guests[0].cases[0].log = vec!["why".into()];
    let mut all = Vec::new();
    keys(&serde_json::to_value(&report).expect("a value"), &mut all);
    assert!(all.len() > 50);
    let document = include_str!("../../../docs/report.md");
    let missing: Vec<&String> = all
        .iter()
        .filter(|key| !document.contains(&format!("`{key}`")))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/report.md does not name {missing:?}"
    );
}
