// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::*;

/// Feeds lines of a console to a guest, a second apart.
fn play(lines: &[&str]) -> Guest {
    let mut guest = Guest::new("a");
    for (at, line) in (1..).zip(lines) {
        let what = match Event::find(line) {
            None => What::Line((*line).to_owned()),
            Some(Ok(event)) => What::Guest(event),
            Some(Err(_)) => What::Garbled((*line).to_owned()),
        };
        guest.take_item(Duration::from_secs(at), &what);
    }
    guest
}

const STORY: [&str; 12] = [
    "[    0.000000] Booting Linux on physical CPU 0x0000000000",
    r#"@postern {"event":"ready","kernel":"6.12","cpus":2,"tee":true,"xtest":true,"ms":4691}"#,
    r#"@postern {"event":"latency","label":"idle","samples":9,"min_ns":1,"median_ns":2,"p90_ns":3,"p99_ns":4,"max_ns":5,"mean_ns":2,"total_ns":9,"what":"x"}"#,
    r#"@postern {"event":"xtest-start","suites":"regression"}"#,
    r#"@postern {"event":"case","name":"regression_1001","state":"start"}"#,
    r#"@postern {"event":"case","name":"regression_1001","state":"failed","ms":16,"subcases":2,"failed_subcases":1}"#,
    r#"@postern {"event":"log","line":"why"}"#,
    r#"@postern {"event":"case","name":"regression_1002","state":"start"}"#,
    r#"@postern {"event":"case","name":"regression_1002","state":"ok","ms":16,"subcases":0,"failed_subcases":0}"#,
    r#"@postern {"event":"case","name":"regression_1003","state":"start"}"#,
    r#"@postern {"event":"case","name":"regression_1003","state":"skipped","ms":16,"subcases":0,"failed_subcases":0}"#,
    r#"@postern {"event":"xtest-end","cases":3,"failed":1,"skipped":1,"subtests":7,"failed_subtests":1,"table_cases":3,"ms":8000,"exit":1,"start_ms":1,"end_ms":8001}"#,
];

#[test]
fn guest_state_follows_a_whole_run() {
    let guest = play(&STORY);
    assert_eq!(
        (guest.phase, guest.tee, guest.ready),
        (Phase::Ready, true, Some(Duration::from_secs(2)))
    );
    assert_eq!(guest.latencies[0].median_ns, 2);
    let [run] = &guest.runs[..] else {
        panic!("one run")
    };
    assert_eq!(
        (
            run.ended(),
            run.count(CaseState::Failed),
            run.count(CaseState::Skipped)
        ),
        (3, 1, 1)
    );
    assert_eq!(
        (run.start, run.end),
        (Duration::from_secs(4), Some(Duration::from_secs(12)))
    );
    assert_eq!(run.cases[0].log, ["why"]);
    assert_eq!(
        (run.cases[0].start, run.cases[0].end),
        (Duration::from_secs(5), Some(Duration::from_secs(6)))
    );
    assert_eq!(run.summary.as_ref().map(|end| end.subtests), Some(7));
}

#[test]
fn current_case_is_known() {
    let guest = play(&STORY[..8]);
    assert_eq!(guest.phase, Phase::Testing);
    assert_eq!(
        guest.runs[0].current().map(|case| case.name.as_str()),
        Some("regression_1002")
    );
    assert_eq!(guest.runs[0].ended(), 1);
}

#[test]
fn lost_lines_still_count_cases() {
    // The start of 1002 and the end of 1003 did not arrive.
    let mut lines = STORY.to_vec();
    lines.remove(10);
    lines.remove(7);
    let guest = play(&lines);
    let states: Vec<_> = guest.runs[0].cases.iter().map(|case| case.state).collect();
    assert_eq!(states, [CaseState::Failed, CaseState::Ok, CaseState::Start]);
}

#[test]
fn kernel_messages_have_severities() {
    let table = [
        (
            "[ 1.0] Kernel panic - not syncing: Attempted to kill init!",
            Some(Severity::Fatal),
        ),
        (
            "[ 1.0] Internal error: Oops: 0000000096000004 [#1] SMP",
            Some(Severity::Fatal),
        ),
        (
            "[ 1.0] Unable to handle kernel paging request at virtual address",
            Some(Severity::Fatal),
        ),
        (
            "[ 1.0] watchdog: BUG: soft lockup - CPU#1 stuck for 22s!",
            Some(Severity::Slow),
        ),
        (
            "[ 1.0] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
            Some(Severity::Slow),
        ),
        (
            "[ 1.0] INFO: task xtest:99 blocked for more than 120 seconds.",
            Some(Severity::Slow),
        ),
        (
            "[ 1.0] WARNING: CPU: 0 PID: 1 at drivers/tee/optee/call.c:1",
            Some(Severity::Warning),
        ),
        (
            "[ 1.0] irq 33: nobody cared (try booting with the \"irqpoll\" option)",
            Some(Severity::Warning),
        ),
        ("[ 1.0] optee: initialized driver", None),
        ("[ 1.0] mitigations: BUGs none", None),
    ];
    for (line, severity) in table {
        assert_eq!(kernel_severity(line), severity, "{line}");
    }
    let guest = play(&[table[0].0, table[1].0, table[6].0]);
    assert_eq!(
        guest.death.as_deref(),
        Some(table[0].0),
        "the first death counts"
    );
    assert_eq!(guest.warnings.len(), 1);
}

#[test]
fn hypervisor_events_reach_their_guest() {
    let mut guest = Guest::new("a");
    let off = |vm: &str, reason: &str| HypervisorEvent::VmOff {
        vm: vm.into(),
        reason: reason.into(),
    };
    guest.take_event(&off("b", "off"));
    assert_eq!(guest.phase, Phase::Booting);
    guest.take_event(&off("a", "off"));
    assert_eq!(
        (guest.phase.clone(), guest.death.is_none()),
        (Phase::Off, true)
    );
    guest.take_event(&off("a", "error"));
    assert!(guest.death.is_some());
    let stats = |vm: &str, smc_fast| Stats {
        vm: vm.into(),
        smc_fast,
        ..Stats::default()
    };
    guest.count(&stats("a", 1));
    guest.count(&stats("b", 2));
    assert_eq!(guest.stats.map(|stats| stats.smc_fast), Some(1));
}
