// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests the parser of cargo-mutants' reports.

use super::*;

fn report(summaries: &[(&str, &str)]) -> String {
    let mut outcomes = vec![serde_json::json!({"scenario": "Baseline", "summary": "Success"})];
    outcomes.extend(summaries.iter().map(|(name, summary)| {
        serde_json::json!({"scenario": {"Mutant": {"name": name}}, "summary": summary})
    }));
    serde_json::json!({ "outcomes": outcomes }).to_string()
}

#[test]
fn counts_and_survivors_parse() {
    let json = report(&[
        ("a.rs:1:2: replace + with - in f", "CaughtMutant"),
        ("a.rs:9:2: replace g -> u8 with 0", "MissedMutant"),
        ("a.rs:3:2: replace > with < in <impl X for Y>::f", "Timeout"),
        ("a.rs:4:2: replace f -> T with x", "Unviable"),
    ]);
    let outcome = Outcome::parse(&json).unwrap();
    assert_eq!(
        (outcome.caught, outcome.timeout, outcome.unviable),
        (1, 1, 1)
    );
    assert_eq!(outcome.survivors, ["a.rs: replace g -> u8 with 0"]);
    assert_eq!((outcome.tried(), outcome.per_mille()), (3, 666));
}

#[test]
fn report_without_mutants_is_an_error() {
    for json in [
        "",
        "{}",
        &report(&[("a.rs:1:2: x", "Else")]),
        r#"{"outcomes": [{"scenario": "Baseline", "summary": "Failure"}]}"#,
    ] {
        assert!(Outcome::parse(json).is_err(), "{json}");
    }
}

#[test]
fn outcomes_of_parts_add_up() {
    let part = |summaries: &[_]| Outcome::parse(&report(summaries)).unwrap();
    let (one, two) = (
        part(&[("b.rs:1:2: x", "MissedMutant"), ("b.rs:2:2: y", "Timeout")]),
        part(&[("a.rs:1:2: x", "MissedMutant"), ("b.rs:3:2: y", "Unviable")]),
    );
    let all = Outcome::whole(vec![one, two]).unwrap();
    assert_eq!((all.caught, all.timeout, all.unviable), (0, 1, 1));
    assert_eq!(all.survivors, ["a.rs: x", "b.rs: x"]);
    // A report without tried mutants is an error.
    let nothing = part(&[("b.rs:3:2: y", "Unviable")]);
    assert!(Outcome::whole(vec![nothing, part(&[])]).is_err());
}

#[test]
fn only_unknown_survivors_are_reported() {
    let known = Known::parse("# why\na.rs: one\n  it is the same\n  for all\n").unwrap();
    let outcome = Outcome {
        survivors: vec!["a.rs: one".into(), "a.rs: two".into()],
        ..Outcome::default()
    };
    assert_eq!(known.unknown_survivors(&outcome), ["a.rs: two"]);
}

#[test]
fn survivors_of_same_name_are_counted() {
    let known = Known::parse("a.rs: one\n  r\na.rs: one\n  s\n").unwrap();
    let outcome = Outcome {
        survivors: vec!["a.rs: one".into(); 3],
        ..Outcome::default()
    };
    assert_eq!(known.unknown_survivors(&outcome), ["a.rs: one"]);
}

#[test]
fn known_survivor_needs_a_reason() {
    for text in ["a.rs: one\n", "  reason\n", "a\nb\n  r\n"] {
        assert!(Known::parse(text).is_err(), "{text:?}");
    }
    let list = include_str!("../../mutants-known.txt");
    Known::parse(list).unwrap();
}
