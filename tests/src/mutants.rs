// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Mutation testing: checks that the host tests fail when a line of the product is wrong.
//!
//! `cargo-mutants` changes one expression or one function at a time and runs the tests of its
//! crate. A change that fails no test has *survived*. This module has the areas that are mutated,
//! the parser of the tool's reports, and the verdict.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;

/// A part of the product that is mutated on its own.
#[derive(Debug)]
pub struct Area {
    /// The area's name on the command line.
    pub name: &'static str,
    /// The crate whose tests have to fail.
    pub package: &'static str,
    /// The files, as globs from the top of the checkout.
    pub files: &'static [&'static str],
    /// Files among them that are left out, because they are tests or only compiled for the target.
    pub without: &'static [&'static str],
    /// The least percentage of mutants that tests have to catch.
    pub target: u32,
}

/// All areas.
pub const AREAS: [Area; 5] = [
    Area {
        name: "mediator",
        package: "optee-mediator",
        files: &["mediator/src/**/*.rs"],
        without: &[
            "mediator/src/fake/**",
            "mediator/src/tests/**",
            // Replacements for the models of concurrency, which host tests do not compile.
            "mediator/src/sync.rs",
        ],
        target: 95,
    },
    Area {
        name: "vgic",
        package: "postern-vgic",
        files: &["hypervisor/vgic/src/**/*.rs"],
        without: &["hypervisor/vgic/src/tests/**"],
        target: 90,
    },
    Area {
        name: "trap",
        package: "postern-exceptions",
        files: &["hypervisor/exceptions/src/**/*.rs"],
        without: &[
            // The table with which the tests compare the hypervisor.
            "hypervisor/exceptions/src/registers/architecture.rs",
            "hypervisor/exceptions/src/registers/table.rs",
        ],
        target: 90,
    },
    Area {
        name: "stage2",
        package: "postern-stage2",
        files: &["hypervisor/stage2/src/**/*.rs"],
        without: &["hypervisor/stage2/src/tests/**"],
        target: 90,
    },
    Area {
        name: "boot",
        package: "postern-boot-tree",
        files: &["hypervisor/boot-tree/src/**/*.rs"],
        without: &["hypervisor/boot-tree/src/tests/**"],
        target: 90,
    },
];

/// Mutants that are not tried, as regular expressions over their names: texts for users, which no
/// test compares, and `|` to `^`, because the fields of a register that `|` joins have no bit in
/// common.
pub const NOT_TRIED: [&str; 2] = [
    r"<impl fmt::(Debug|Display) for",
    r"replace \| with \^|replace \|= with \^=",
];

/// The results for the mutants of an area.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Mutants that fail a test.
    pub caught: usize,
    /// Mutants with which the tests hang, which counts as caught.
    pub timeout: usize,
    /// Mutants that do not compile, which do not count.
    pub unviable: usize,
    /// Mutants that fail no test, without line numbers, sorted.
    pub survivors: Vec<String>,
}

impl Outcome {
    /// Parses `outcomes.json` as cargo-mutants 27 writes it.
    ///
    /// # Errors
    ///
    /// Fails when it is no such file, or the tests failed without any change.
    pub fn parse(json: &str) -> Result<Self> {
        let report: Value = serde_json::from_str(json).context("outcomes.json")?;
        let outcomes = report["outcomes"]
            .as_array()
            .context("outcomes.json has no list of outcomes")?;
        let mut all = Self::default();
        for outcome in outcomes {
            let summary = outcome["summary"].as_str().unwrap_or_default();
            let Some(name) = outcome["scenario"]["Mutant"]["name"].as_str() else {
                ensure!(summary == "Success", "the tests fail without any change");
                continue;
            };
            match summary {
                "CaughtMutant" => all.caught += 1,
                "Timeout" => all.timeout += 1,
                "Unviable" => all.unviable += 1,
                "MissedMutant" => all.survivors.push(without_position(name)),
                other => anyhow::bail!("{name}: unknown outcome {other:?}"),
            }
        }
        all.survivors.sort();
        Ok(all)
    }

    /// Merges the results of parts.
    ///
    /// # Errors
    ///
    /// Fails when no mutant was tried.
    pub fn whole(parts: Vec<Self>) -> Result<Self> {
        let mut all = Self::default();
        for part in parts {
            all.caught += part.caught;
            all.timeout += part.timeout;
            all.unviable += part.unviable;
            all.survivors.extend(part.survivors);
        }
        all.survivors.sort();
        ensure!(all.tried() > 0, "no mutant was tried");
        Ok(all)
    }

    /// Returns how many mutants compiled.
    #[must_use]
    pub fn tried(&self) -> usize {
        self.caught + self.timeout + self.survivors.len()
    }

    /// Returns the share of caught mutants in tenths of a percent, rounded down.
    #[must_use]
    pub fn per_mille(&self) -> usize {
        (self.caught + self.timeout) * 1000 / self.tried().max(1)
    }
}

/// Returns the name of a mutant, `FILE:LINE:COLUMN: what`, without its position, which changes with
/// other parts of the file.
fn without_position(name: &str) -> String {
    let mut parts = name.splitn(4, ':');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(file), Some(_), Some(_), Some(what)) => format!("{file}:{what}"),
        _ => name.to_owned(),
    }
}

/// The known survivors and the number of each: changes of one kind in one function have the same
/// name.
#[derive(Debug, Default)]
pub struct Known(BTreeMap<String, usize>);

impl Known {
    /// Parses the list: a line is a mutant without its position, the indented lines below it are
    /// the reason. Lines that begin with `#` are comments.
    ///
    /// # Errors
    ///
    /// Fails when a reason has no mutant, or a mutant no reason.
    pub fn parse(text: &str) -> Result<Self> {
        let mut known: BTreeMap<String, usize> = BTreeMap::new();
        // The mutant that still lacks a reason, and whether there was any mutant yet.
        let (mut bare, mut any) = (None, false);
        let lines = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        for line in lines {
            if line.starts_with(' ') {
                ensure!(any, "a reason without a mutant");
                bare = None;
            } else {
                ensure!(bare.is_none(), "{}: no reason", bare.unwrap_or_default());
                *known.entry(line.to_owned()).or_default() += 1;
                (bare, any) = (Some(line), true);
            }
        }
        ensure!(bare.is_none(), "{}: no reason", bare.unwrap_or_default());
        Ok(Self(known))
    }

    /// Returns the survivors that are not known; of those with the same name, those beyond the
    /// known number.
    #[must_use]
    pub fn unknown_survivors<'a>(&self, outcome: &'a Outcome) -> Vec<&'a str> {
        let mut left = self.0.clone();
        let mut is_new = |name: &&str| match left.get_mut(*name) {
            Some(count) if *count > 0 => {
                *count -= 1;
                false
            }
            _ => true,
        };
        let all = outcome.survivors.iter().map(String::as_str);
        all.filter(|name| is_new(name)).collect()
    }
}

#[cfg(test)]
mod tests;
