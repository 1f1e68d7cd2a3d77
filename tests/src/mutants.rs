// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Mutation testing: what the host tests notice when a line of the product is wrong.
//!
//! `cargo-mutants` changes one expression or one function at a time and runs the tests of its
//! crate. A change that no test notices has *survived*. Here are the areas that are mutated, the
//! reading of what the tool reports, and the verdict.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;

/// Part of the product that is mutated on its own.
#[derive(Debug)]
pub struct Area {
    /// Its name on the command line.
    pub name: &'static str,
    /// The crate that it belongs to, whose tests have to notice.
    pub package: &'static str,
    /// The files, as globs from the top of the checkout.
    pub files: &'static [&'static str],
    /// Files among them that are left out, because they are tests, or compiled for the target only.
    pub without: &'static [&'static str],
    /// The least share of mutants that tests have to notice, in percent.
    pub target: u32,
}

/// Everything that is mutated.
pub const AREAS: [Area; 5] = [
    Area {
        name: "mediator",
        package: "optee-mediator",
        files: &["mediator/src/**/*.rs"],
        without: &[
            "mediator/src/fake/**",
            "mediator/src/tests/**",
            // Stand-ins for the models of concurrency, which host tests do not compile.
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
            // The table that the tests hold the hypervisor to.
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

/// Mutants that are not tried, as regular expressions over their names: text for people, which no test
/// compares, and `|` to `^`, since fields of a register are put together by `|` and have no bit in common.
pub const NOT_TRIED: [&str; 2] = [
    r"<impl fmt::(Debug|Display) for",
    r"replace \| with \^|replace \|= with \^=",
];

/// What became of the mutants of an area.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Tests failed, as they should.
    pub caught: usize,
    /// The tests did not come to an end, which counts as caught: they hung.
    pub timeout: usize,
    /// The change did not compile, which says nothing.
    pub unviable: usize,
    /// Nobody noticed: what was changed, without line numbers, sorted.
    pub survivors: Vec<String>,
}

impl Outcome {
    /// Reads `outcomes.json` as cargo-mutants 27 writes it.
    ///
    /// # Errors
    ///
    /// It is not such a file, or the tests failed before anything was changed.
    pub fn parse(json: &str) -> Result<Self> {
        let report: Value = serde_json::from_str(json).context("outcomes.json")?;
        let outcomes = report["outcomes"]
            .as_array()
            .context("outcomes.json has no list of outcomes")?;
        let mut all = Self::default();
        for outcome in outcomes {
            let summary = outcome["summary"].as_str().unwrap_or_default();
            let Some(name) = outcome["scenario"]["Mutant"]["name"].as_str() else {
                ensure!(
                    summary == "Success",
                    "the tests fail before anything is changed"
                );
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

    /// Puts parts together.
    ///
    /// # Errors
    ///
    /// No mutant was tried.
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

    /// How many mutants compiled.
    #[must_use]
    pub fn tried(&self) -> usize {
        self.caught + self.timeout + self.survivors.len()
    }

    /// The share that was noticed, in tenths of a percent, rounded down.
    #[must_use]
    pub fn per_mille(&self) -> usize {
        (self.caught + self.timeout) * 1000 / self.tried().max(1)
    }
}

/// The name of a mutant, `FILE:LINE:COLUMN: what`, without its position: other changes of the file
/// move it.
fn without_position(name: &str) -> String {
    let mut parts = name.splitn(4, ':');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(file), Some(_), Some(_), Some(what)) => format!("{file}:{what}"),
        _ => name.to_owned(),
    }
}

/// The survivors that are known, and how many of each: changes of one kind in one function have the same name.
#[derive(Debug, Default)]
pub struct Known(BTreeMap<String, usize>);

impl Known {
    /// Reads the list: a line is a mutant without its position, the lines below it that are
    /// indented are the reason. Lines that begin with `#` are comments.
    ///
    /// # Errors
    ///
    /// A reason has no mutant, or a mutant no reason.
    pub fn parse(text: &str) -> Result<Self> {
        let mut known: BTreeMap<String, usize> = BTreeMap::new();
        // The mutant that lacks a reason, and whether there was any yet.
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

    /// The survivors that are not known; of those with the same name, those beyond the known number.
    #[must_use]
    pub fn news<'a>(&self, outcome: &'a Outcome) -> Vec<&'a str> {
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
