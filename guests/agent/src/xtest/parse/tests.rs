// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::*;

/// Feeds lines one millisecond apart from 1000 on; returns all events.
fn read(output: &str, exit: i32) -> Vec<Event> {
    let mut parser = Parser::default();
    let mut now = 1000;
    let mut events = Vec::new();
    for line in output.lines() {
        events.extend(parser.line(line, now));
        now += 1;
    }
    events.extend(parser.finished(exit, 1000, now));
    events
}

fn cases(events: &[Event]) -> Vec<(&str, CaseState, Option<u32>)> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Case {
                name,
                state,
                subcases,
                ..
            } if *state != CaseState::Start => Some((name.as_str(), *state, *subcases)),
            _ => None,
        })
        .collect()
}

fn logs(events: &[Event]) -> Vec<&str> {
    let lines = events.iter().filter_map(|event| match event {
        Event::Log { line } => Some(line.as_str()),
        _ => None,
    });
    lines.collect()
}

fn end(events: &[Event]) -> &XtestEnd {
    match events.last() {
        Some(Event::XtestEnd(end)) => end,
        other => panic!("the last event is {other:?}"),
    }
}

const GOOD: &str = "\
Test ID: 1001
Run test suite with level=0

TEE test application started over default TEE instance
######################################################
#
# regression
#
######################################################
 
* regression_1001 Core self tests
 - 1001 -   skip test, pseudo TA not found
  regression_1001 OK
 
* regression_4007_rsa Test TEE Internal API Generate RSA key
o regression_4007_rsa.1 Generate RSA-256 key
  regression_4007_rsa.1 OK
o regression_4007_rsa.2 Generate RSA-384 key
SM2 not supported: skip subcase
  regression_4007_rsa.2 OK
  regression_4007_rsa OK
+-----------------------------------------------------
Result of testsuite regression filtered by \"1001\":
regression_1001 OK
regression_4007_rsa OK
+-----------------------------------------------------
35491 subtests of which 0 failed
2 test cases of which 0 failed
110 test cases were skipped
TEE test application done!
";

#[test]
fn good_run_reports_each_case() {
    let events = read(GOOD, 0);
    assert_eq!(
        cases(&events),
        [
            ("regression_1001", CaseState::Skipped, Some(0)),
            ("regression_4007_rsa", CaseState::Ok, Some(2))
        ]
    );
    assert_eq!(logs(&events), [] as [&str; 0]);
    let end = end(&events);
    assert_eq!((end.cases, end.failed, end.skipped), (2, 0, 1));
    assert_eq!(
        (end.subtests, end.failed_subtests, end.table_cases),
        (35_491, 0, Some(2))
    );
    assert_eq!(
        (end.exit, end.start_ms, end.end_ms - end.start_ms),
        (0, 1000, end.ms)
    );
}

#[test]
fn case_reports_start_then_end_with_duration() {
    let events = read(GOOD, 0);
    let of = |wanted: &str| -> Vec<(CaseState, Option<u64>)> {
        let cases = events.iter().filter_map(|event| match event {
            Event::Case {
                name, state, ms, ..
            } if name == wanted => Some((*state, *ms)),
            _ => None,
        });
        cases.collect()
    };
    assert_eq!(
        of("regression_1001"),
        [(CaseState::Start, None), (CaseState::Skipped, Some(2))]
    );
    assert_eq!(
        of("regression_4007_rsa"),
        [(CaseState::Start, None), (CaseState::Ok, Some(6))]
    );
}

#[test]
fn failing_case_reports_only_its_own_output() {
    let output = "\
* regression_1001 Core self tests
fine
  regression_1001 OK
* regression_1004 Test User Crypt TA
o regression_1004.1 AES
/build/regression_1000.c:612: res has an unexpected value: 0xffff0000
  regression_1004.1 FAILED
  regression_1004 FAILED
+-----------------------------------------------------
Result of testsuite regression:
regression_1001 OK
regression_1004.1 FAILED first error at regression_1000.c:612
regression_1004 FAILED
+-----------------------------------------------------
1 subtest of which 1 failed
2 test cases of which 1 failed
0 test cases were skipped
";
    let events = read(output, 1);
    assert_eq!(
        cases(&events),
        [
            ("regression_1001", CaseState::Ok, Some(0)),
            ("regression_1004", CaseState::Failed, Some(1))
        ]
    );
    let logs = logs(&events);
    assert_eq!(logs[0], "o regression_1004.1 AES");
    assert!(logs[1].contains("unexpected value"));
    assert!(logs.contains(&"regression_1004.1 FAILED first error at regression_1000.c:612"));
    assert!(!logs.contains(&"fine"));
    let end = end(&events);
    assert_eq!(
        (end.cases, end.failed, end.failed_subtests, end.exit),
        (2, 1, 1, 1)
    );
}

#[test]
fn case_without_end_has_failed() {
    let output = "* regression_1013 Test concurrency\nhalf of it\n";
    let events = read(output, -11);
    assert_eq!(
        cases(&events),
        [("regression_1013", CaseState::Failed, Some(0))]
    );
    assert_eq!(logs(&events), ["half of it"]);
    assert_eq!((end(&events).exit, end(&events).table_cases), (-11, None));
    // A case also fails when the next one begins before its end.
    let output = "* regression_1 A\n* regression_2 B\n  regression_2 OK\n";
    let events = read(output, 0);
    let verdicts: Vec<_> = cases(&events)
        .into_iter()
        .map(|(_, state, _)| state)
        .collect();
    assert_eq!(verdicts, [CaseState::Failed, CaseState::Ok]);
}

#[test]
fn output_of_a_case_does_not_end_it() {
    let output = "\
* regression_1004 Test
* not a case
regression_1004 OK
  regression_1004 OK and more
  regression_1005 OK
  regression_10041 FAILED
  regression_1004 OK
";
    let events = read(output, 0);
    assert_eq!(
        cases(&events),
        [("regression_1004", CaseState::Ok, Some(0))]
    );
    let Some(Event::Case {
        failed_subcases,
        ms,
        ..
    }) = events.get(1)
    else {
        panic!("{events:?}")
    };
    assert_eq!((*failed_subcases, *ms), (Some(0), Some(6)));
}

#[test]
fn kept_output_is_bounded() {
    let mut output = String::from("* regression_1 Long\n");
    for line in 0..KEPT_LINES + 50 {
        output.push_str(&format!("line {line} {}\n", "\u{e4}".repeat(LINE_LENGTH)));
    }
    output.push_str("  regression_1 FAILED\n");
    let events = read(&output, 1);
    let logs = logs(&events);
    assert_eq!(logs.len(), KEPT_LINES + 1);
    assert_eq!(logs[0], "(50 earlier lines dropped)");
    assert!(logs.iter().all(|line| line.len() <= LINE_LENGTH));
    assert!(logs[1].starts_with("line 50 "));
}

#[test]
fn output_of_a_run_without_cases_is_reported() {
    let events = read("No test suite matches\n\nusage: xtest\n", 255);
    assert_eq!(logs(&events), ["No test suite matches", "usage: xtest"]);
    assert_eq!((end(&events).cases, end(&events).exit), (0, 255));
    let endless = "again\n".repeat(KEPT_OUTSIDE + 9);
    assert_eq!(logs(&read(&endless, 1)).len(), KEPT_OUTSIDE);
    // After cases, output outside them is not reported.
    let events = read("Run test suite\n* regression_1 A\n  regression_1 OK\n", 0);
    assert_eq!(logs(&events), [] as [String; 0]);
}
