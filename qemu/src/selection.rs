// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Selects the cases of xtest for a run, and with them the results that it must have.

use crate::prepare::Versions;
use crate::report::Report;
use anyhow::{Context, Result};
use std::path::Path;

/// The cases of [`Selection::Default`], in the order of xtest.
const DEFAULT: &str = include_str!("selection/default.txt");
/// Native runs of all cases, by Debian suite.
const STORED: [(&str, &str); 2] = [
    ("trixie", include_str!("selection/native-trixie.json")),
    ("sid", include_str!("selection/native-sid.json")),
];
/// The suites that xtest runs when none is named.
const ALL_SUITES: &str = "regression+pkcs11";

/// A selection of cases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// A few minutes that cover every path of the ABI that Linux uses, without the slow
    /// cryptography.
    Default,
    /// All of `regression` and `pkcs11`.
    All,
    /// The user's selection in xtest's own words: `-t SUITES`, names or parts of names, `-x NAME`.
    Words(Vec<String>),
}

impl std::str::FromStr for Selection {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "" | "default" => Ok(Self::Default),
            "all" => Ok(Self::All),
            words => {
                let good =
                    |letter: char| letter.is_ascii_alphanumeric() || " +-_.".contains(letter);
                match words.chars().find(|&letter| !good(letter)) {
                    Some(letter) => Err(format!(
                        "{letter:?} cannot be part of an xtest option or case name"
                    )),
                    None => Ok(Self::Words(
                        words.split_whitespace().map(str::to_owned).collect(),
                    )),
                }
            }
        }
    }
}

impl std::fmt::Display for Selection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::All => f.write_str("all"),
            Self::Words(words) => f.write_str(&words.join(" ")),
        }
    }
}

/// Returns the names in the file of the default selection: the first word of each line that is no
/// comment.
fn default_names() -> impl Iterator<Item = &'static str> {
    DEFAULT
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_whitespace().next())
}

impl Selection {
    /// Returns xtest's arguments.
    pub fn arguments(&self) -> Vec<String> {
        let suites = |suites: &str| vec!["-t".to_owned(), suites.to_owned()];
        match self {
            Self::Default => suites("regression")
                .into_iter()
                .chain(default_names().map(str::to_owned))
                .collect(),
            Self::All => suites(ALL_SUITES),
            Self::Words(words) => words.clone(),
        }
    }

    /// Returns the command line for a guest's agent.
    pub fn command(&self) -> String {
        format!("xtest {}", self.arguments().join(" "))
    }

    /// Returns whether xtest, given this selection, runs a case of that name.
    pub fn matches(&self, case: &str) -> bool {
        let arguments = self.arguments();
        let mut words = arguments.iter().map(String::as_str).peekable();
        let mut suites = ALL_SUITES;
        while let Some(option @ ("-t" | "-l" | "-d")) = words.peek().copied() {
            words.next();
            let value = words.next().unwrap_or("");
            if option == "-t" {
                suites = value;
            }
        }
        let in_suite = suites.split('+').any(|suite| {
            case.strip_prefix(suite)
                .is_some_and(|rest| rest.starts_with('_'))
        });
        // As in xtest: everything is selected when there is no filter or the first one excludes;
        // later words win.
        let mut selected = words.peek().is_none_or(|first| *first == "-x");
        while let Some(word) = words.next() {
            let (part, wanted) = if word == "-x" {
                (words.next().unwrap_or(""), false)
            } else {
                (word, true)
            };
            if case.contains(part) {
                selected = wanted;
            }
        }
        in_suite && selected
    }
}

/// The results of the same cases on the bare machine.
#[derive(Clone, Debug)]
pub struct Baseline {
    /// A description of the run's origin.
    pub origin: String,
    /// The whole native run.
    pub report: Report,
}

impl Baseline {
    /// Loads the native run of all cases with the same OP-TEE and xtest: the newest of this
    /// machine, if `native` is one, otherwise the one that comes with the tool. Returns `None` when
    /// neither has those versions.
    ///
    /// # Errors
    ///
    /// Fails when the run that comes with the tool cannot be read.
    pub fn load(versions: &Versions, native: &Path) -> Result<Option<Self>> {
        let fits = |report: &Report| {
            report.mode == "native"
                && report.selection == Selection::All.to_string()
                && report.passed()
                // The list of cases depends on xtest.
                && (versions.optee_is_built || report.versions.optee == versions.optee)
                && report.versions.xtest == versions.xtest
        };
        let own = std::fs::read_to_string(native)
            .ok()
            .and_then(|text| Report::parse(&text).ok());
        if let Some(report) = own.filter(fits) {
            return Ok(Some(Self {
                origin: native.display().to_string(),
                report,
            }));
        }
        let suite = &versions.suite;
        let Some((_, stored)) = STORED.iter().find(|(name, _)| name == suite) else {
            return Ok(None);
        };
        let report =
            Report::parse(stored).with_context(|| format!("the stored native run of {suite}"))?;
        let origin = format!("the native run that is stored for {suite}");
        Ok(fits(&report).then_some(Self { origin, report }))
    }

    /// Returns the names of the cases that a selection must run, in order.
    pub fn expected(&self, selection: &Selection) -> Vec<String> {
        let cases = self.report.guests.iter().flat_map(|guest| &guest.cases);
        cases
            .map(|case| case.name.clone())
            .filter(|name| selection.matches(name))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Selection {
        line.parse().expect(line)
    }

    #[test]
    fn selection_reads_back_as_written() {
        assert_eq!(words("default"), Selection::Default);
        assert_eq!(words(""), Selection::Default);
        assert_eq!(words("all"), Selection::All);
        assert_eq!(words("all").command(), "xtest -t regression+pkcs11");
        assert_eq!(
            words("-t regression  1001 -x 4007_rsa").command(),
            "xtest -t regression 1001 -x 4007_rsa"
        );
        assert_eq!(words("1001 1002").to_string(), "1001 1002");
        assert!("1001; reboot".parse::<Selection>().is_err());
        assert!("1001\npoweroff".parse::<Selection>().is_err());
    }

    #[test]
    fn filters_select_as_in_xtest() {
        let table = [
            ("all", "regression_1001", true),
            ("all", "pkcs11_1001", true),
            ("all", "benchmark_1001", false),
            ("1001", "regression_1001", true),
            ("1001", "pkcs11_1001", true),
            ("-t regression 1001", "pkcs11_1001", false),
            ("-t pkcs11 1001", "pkcs11_1001", true),
            ("-t regression -x 1001", "regression_1001", false),
            ("-t regression -x 1001", "regression_1002", true),
            ("-l 0 -t regression _10 -x _1001", "regression_1001", false),
            ("-l 0 -t regression _10 -x _1001", "regression_1002", true),
            ("-l 0 -t regression _10 -x _1001", "regression_2002", false),
            ("-t regression -x _10 1001", "regression_1001", true),
            // The first filter decides about the cases that no filter names.
            ("-t regression 1001 -x 1002", "regression_1003", false),
        ];
        for (selection, case, runs) in table {
            assert_eq!(words(selection).matches(case), runs, "{selection}: {case}");
        }
    }

    /// Returns the versions of a stored run, and the baseline for them without any run of this
    /// machine.
    fn stored(suite: &str) -> (Versions, Baseline) {
        let (_, text) = STORED
            .iter()
            .find(|(name, _)| *name == suite)
            .expect("stored");
        let report = Report::parse(text).expect("a report");
        let versions = Versions {
            suite: suite.into(),
            optee: report.versions.optee,
            xtest: report.versions.xtest,
            ..Versions::default()
        };
        let baseline = Baseline::load(&versions, Path::new("/nonexistent"));
        (versions, baseline.expect("readable").expect("stored"))
    }

    #[test]
    fn default_selection_exists_in_both_suites() {
        for (suite, _) in STORED {
            let expected = stored(suite).1.expected(&Selection::Default);
            for name in default_names() {
                assert!(
                    expected.iter().any(|case| case == name),
                    "{suite} has no case {name}"
                );
            }
            // A name that is part of another's would select that one too.
            assert_eq!(expected.len(), default_names().count(), "{suite}");
        }
    }

    #[test]
    fn stored_runs_have_all_cases() {
        for (suite, regression, pkcs11) in [("trixie", 108, 31), ("sid", 112, 31)] {
            let expected = stored(suite).1.expected(&Selection::All);
            let of = |suite: &str| {
                expected
                    .iter()
                    .filter(|name| name.starts_with(suite))
                    .count()
            };
            assert_eq!(
                (of("regression_"), of("pkcs11_")),
                (regression, pkcs11),
                "{suite}"
            );
        }
    }

    #[test]
    fn baseline_needs_same_versions() {
        let (mut versions, baseline) = stored("trixie");
        assert!(baseline.origin.contains("stored"));
        // This machine's own run comes first, if it ran all cases and passed.
        let folder = tempfile::tempdir().expect("a folder");
        let native = folder.path().join("report.json");
        let mut own = baseline.report;
        let save = |own: &Report| {
            std::fs::write(&native, serde_json::to_string(own).expect("text")).expect("written");
        };
        save(&own);
        let load = |versions: &Versions| Baseline::load(versions, &native).expect("readable");
        assert_eq!(
            load(&versions).map(|found| found.origin),
            Some(native.display().to_string())
        );
        own.verdict = "FAIL".into();
        save(&own);
        assert!(load(&versions).is_some_and(|found| found.origin.contains("stored")));
        versions.xtest = "99".into();
        assert!(load(&versions).is_none());
    }
}
