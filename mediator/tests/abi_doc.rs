// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `docs/abi.md` says of each row of the ABI what the mediator does and which test holds it, and
//! `docs/threat-model.md` which tests hold each promise. Here is what keeps that true: every test
//! that they name exists, every constant of the ABI has a row, and every test of a row is named. `docs/ffa-abi.md` is the same
//! for FF-A.
// Miri has no files.
#![cfg(not(miri))]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The project's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All Rust sources below a folder, one after the other.
fn sources(folder: &Path, all: &mut String) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            all.push_str(&fs::read_to_string(&path).expect("a source"));
        }
    }
}

/// The functions in a source that are tests.
fn tests_in(source: &str) -> BTreeSet<&str> {
    let mut tests = BTreeSet::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        if line == "#[test]" {
            is_test = true;
        } else if let Some(rest) = line.strip_prefix("fn ") {
            if is_test {
                tests.insert(rest.split('(').next().unwrap_or_default());
            }
            is_test = false;
        }
    }
    tests
}

/// What is between backticks.
fn code(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// The rows of a document's tables, by the heading that they are under: their cells.
fn rows(document: &str) -> BTreeMap<&str, Vec<Vec<&str>>> {
    let mut rows: BTreeMap<&str, Vec<Vec<&str>>> = BTreeMap::new();
    let mut heading = "";
    let mut lines = document.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(text) = line.strip_prefix("## ") {
            heading = text;
        } else if let Some(cells) = line.strip_prefix('|') {
            let header = lines.peek().is_some_and(|next| next.starts_with("|---"));
            if !header && !line.starts_with("|---") {
                let cells = cells.trim_end().trim_end_matches('|').split('|');
                let cells = cells.map(str::trim).collect();
                rows.entry(heading).or_default().push(cells);
            }
        }
    }
    rows
}

/// The constants in `block`, or anywhere if that is empty, whose names are followed by `like`.
fn constants<'a>(source: &'a str, block: &str, like: &str) -> BTreeSet<&'a str> {
    let mut inside = block.is_empty();
    let mut found = BTreeSet::new();
    for line in source.lines() {
        if !block.is_empty() {
            inside = line == block || inside && line != "}";
        }
        let line = line.trim().trim_start_matches("pub ");
        if let Some(rest) = line.strip_prefix("const ").filter(|_| inside) {
            let end = rest.find([':', ' ', '(']).unwrap_or(rest.len());
            if rest[end..].starts_with(like) {
                found.insert(&rest[..end]);
            }
        }
    }
    assert!(
        !found.is_empty(),
        "no constants in {block:?}: this test must learn how they look now"
    );
    found
}

#[test]
fn every_test_that_is_named_exists() {
    assert!(names_tests_that_exist("docs/abi.md") > 100);
}

/// The same for FF-A.
#[test]
fn every_test_of_ffa_that_is_named_exists() {
    assert!(names_tests_that_exist("docs/ffa-abi.md") > 100);
}

/// Checks that each row of a document's tables names tests, and that these exist. Returns how many it names.
fn names_tests_that_exist(document: &str) -> usize {
    let mut all = String::new();
    for folder in [
        "mediator/src",
        "mediator/tests",
        "mediator/ffa-proto/src",
        "optee-proto/src",
    ] {
        sources(&root().join(folder), &mut all);
    }
    let tests = tests_in(&all);
    let document = read(document);
    let mut named = 0;
    for (heading, rows) in rows(&document) {
        for row in rows {
            let last = row.last().copied().unwrap_or_default();
            assert!(code(last).count() > 0, "{heading}: no test in {row:?}");
            for test in code(last) {
                assert!(tests.contains(test), "{heading}: no test {test}: {row:?}");
                named += 1;
            }
        }
    }
    named
}

#[test]
fn every_function_and_service_of_ffa_has_a_row() {
    let document = read("docs/ffa-abi.md");
    let rows = rows(&document);
    let known = |heading: &str| -> BTreeSet<&str> {
        rows[heading].iter().flat_map(|row| code(row[0])).collect()
    };
    // Such as `MemShare = 0x73, "MEM_SHARE", V1_0, Both;`.
    let functions = read("mediator/ffa-proto/src/function.rs");
    let names = functions.lines().filter_map(|line| {
        let (_, rest) = line.split_once(" = 0x")?;
        rest.split('"').nth(1)
    });
    assert_eq!(known("Functions"), names.collect());
    let services = read("optee-proto/src/ffa.rs");
    let names = constants(&services, "impl Service {", ": Self");
    assert_eq!(known("Services"), names);
}

#[test]
fn every_test_over_ffa_is_named() {
    let mut all = String::new();
    sources(&root().join("mediator/src/tests/over_ffa"), &mut all);
    let document = read("docs/ffa-abi.md");
    let named: BTreeSet<&str> = document.lines().flat_map(code).collect();
    for test in tests_in(&all) {
        assert!(
            named.contains(test),
            "docs/ffa-abi.md does not name the test {test}"
        );
    }
}

/// The same for the threat model, whose tests are in all crates.
#[test]
fn every_test_of_the_threat_model_exists() {
    let mut all = String::new();
    for folder in ["mediator", "optee-proto", "hypervisor", "tests"] {
        sources(&root().join(folder), &mut all);
    }
    let tests = tests_in(&all);
    let document = read("docs/threat-model.md");
    let mut named = 0;
    for (heading, rows) in rows(&document) {
        if heading != "What is promised" {
            continue;
        }
        for row in rows {
            let tests_of_row = row.get(2).copied().unwrap_or_default();
            assert!(
                tests_of_row.contains("attack") || code(tests_of_row).count() > 0,
                "nothing holds {row:?}"
            );
            // The fourth column, over FF-A, also has words of the field.
            let over_ffa = row.get(3).copied().unwrap_or_default();
            let over_ffa = code(over_ffa).filter(|name| name.contains('_'));
            let named_here = code(tests_of_row).chain(over_ffa);
            for test in named_here.filter(|name| !name.starts_with("make ")) {
                assert!(tests.contains(test), "no test {test}: {row:?}");
                named += 1;
            }
        }
    }
    assert!(named > 20, "{named} tests: the tables look different now");
}

#[test]
fn every_row_of_the_abi_is_there() {
    let document = read("docs/abi.md");
    let rows = rows(&document);
    let [smc, msg, rpc, caps] =
        ["smc", "msg", "rpc", "caps"].map(|name| read(&format!("optee-proto/src/{name}.rs")));
    let calls = ["Fast calls", "Yielding calls"];
    for (headings, names) in [
        (&calls[..], constants(&smc, "", ": FunctionId")),
        (
            &["Return codes"],
            constants(&smc, "impl Return {", ": Self"),
        ),
        (&["Capabilities"], constants(&caps, "", " = 1 <<")),
        (&["Commands"], constants(&msg, "impl Command {", ": Self")),
        (&["Attributes"], constants(&msg, "impl Attr {", ": Self")),
        (
            &["RPC functions"],
            constants(&rpc, "impl Function {", ": Self"),
        ),
        (
            &["RPC commands"],
            constants(&rpc, "impl Command {", ": Self"),
        ),
    ] {
        let rows = headings.iter().flat_map(|heading| &rows[heading]);
        let known: BTreeSet<&str> = rows.flat_map(|row| code(row[0])).collect();
        assert_eq!(known, names, "{headings:?}: the document, and optee-proto");
    }
}

#[test]
fn every_test_of_a_row_is_named() {
    let mut all = String::new();
    sources(&root().join("mediator/src/tests/abi"), &mut all);
    let document = read("docs/abi.md");
    let named: BTreeSet<&str> = document.lines().flat_map(code).collect();
    for test in tests_in(&all) {
        assert!(
            named.contains(test),
            "docs/abi.md does not name the test {test}"
        );
    }
}
