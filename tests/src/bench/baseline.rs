// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Compares new figures with the committed ones: `make bench-check`.

use super::place::Found;
use super::rows;
use crate::Lab;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The bound for a difference, in percent.
const WORSE: u64 = 2;

/// The figures of one state of the sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Baseline {
    /// The versions of the parts during the measurement.
    pub parts: String,
    /// Instructions on the bare machine, by name.
    pub floor: BTreeMap<String, u64>,
    /// Instructions under Postern, and the bytes of its image.
    pub postern: BTreeMap<String, u64>,
}

/// The name of the figure for the image's constant bytes, which are neither written nor only
/// zeroes.
pub const IMAGE: &str = "image-bytes";

fn instructions(found: &Found) -> BTreeMap<String, u64> {
    let all = found.figures.iter();
    all.map(|(name, &(instructions, _))| (name.clone(), instructions))
        .collect()
}

fn numbers(value: &Value) -> Option<BTreeMap<String, u64>> {
    let members = value.as_object()?.iter();
    members
        .map(|(name, value)| Some((name.clone(), value.as_u64()?)))
        .collect()
}

/// Returns the path of the committed file.
#[must_use]
pub fn file(lab: &Lab) -> PathBuf {
    lab.paths.root().join("tests/bench-baseline.json")
}

impl Baseline {
    /// Returns the baseline of new measurements.
    #[must_use]
    pub fn new(parts: String, floor: &Found, postern: &Found, image: u64) -> Self {
        let mut postern = instructions(postern);
        postern.insert(IMAGE.into(), image);
        Self {
            parts,
            floor: instructions(floor),
            postern,
        }
    }

    /// Reads the committed file.
    ///
    /// # Errors
    /// Fails when the file is missing or incomplete.
    pub fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read(file).with_context(|| file.display().to_string())?;
        let value: Value = serde_json::from_slice(&text)?;
        let whole = || {
            Some(Self {
                parts: value["parts"].as_str()?.into(),
                floor: numbers(&value["floor"])?,
                postern: numbers(&value["postern"])?,
            })
        };
        whole().with_context(|| format!("{} is incomplete", file.display()))
    }

    /// Writes the file.
    ///
    /// # Errors
    /// Fails when the file cannot be written.
    pub fn write(&self, file: &Path) -> Result<()> {
        let Self {
            parts,
            floor,
            postern,
        } = self;
        let all = json!({ "parts": parts, "floor": floor, "postern": postern });
        std::fs::write(file, format!("{all:#}\n")).with_context(|| file.display().to_string())
    }
}

/// The comparison of a figure with the committed one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The difference is within the bound.
    Same,
    /// The figure is better by more than the bound.
    Better,
    /// The figure is worse by more than the bound.
    Worse,
    /// The figure is missing now.
    Gone,
    /// The figure was missing before.
    New,
}

/// One figure: its name, the committed value, the new one, and the verdict.
pub type Line = (String, Option<u64>, Option<u64>, Verdict);

/// Compares all figures. `floor` is what the bare machine takes now. It is used when the parts
/// differ from those of the baseline: its difference is then not Postern's.
#[must_use]
pub fn compare(
    baseline: &Baseline,
    floor: Option<&Found>,
    now: &BTreeMap<String, u64>,
) -> Vec<Line> {
    let mut names: Vec<&String> = baseline.postern.keys().chain(now.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let one = |name: &String| {
        let (old, new) = (baseline.postern.get(name).copied(), now.get(name).copied());
        let verdict = match (old, new) {
            (Some(old), Some(new)) => {
                let shift = floor.and_then(|floor| {
                    let before = *baseline.floor.get(name)?;
                    floor.instructions(name)?.checked_signed_diff(before)
                });
                let expected = old.saturating_add_signed(shift.unwrap_or(0));
                if new * 100 > expected * (100 + WORSE) {
                    Verdict::Worse
                } else if new * (100 + WORSE) < expected * 100 {
                    Verdict::Better
                } else {
                    Verdict::Same
                }
            }
            (Some(_), None) => Verdict::Gone,
            (None, _) => Verdict::New,
        };
        (name.clone(), old, new, verdict)
    };
    names.into_iter().map(one).collect()
}

/// Prints the figures that differ; returns whether they pass.
#[must_use]
pub fn judge(lines: &[Line]) -> bool {
    let value = |value: Option<u64>| value.map_or_else(|| "–".into(), |value| value.to_string());
    let mut well = true;
    for (name, old, new, verdict) in lines {
        let words = match verdict {
            Verdict::Same => continue,
            Verdict::Better => "better",
            Verdict::Worse => "WORSE",
            Verdict::Gone => "GONE",
            Verdict::New => "NEW: not in the baseline",
        };
        well &= *verdict == Verdict::Better;
        let title = rows::title(name);
        println!(
            "{words}: {title} ({name}): {}, was {}",
            value(*new),
            value(*old)
        );
    }
    let same = lines
        .iter()
        .filter(|(.., verdict)| *verdict == Verdict::Same)
        .count();
    println!(
        "{same} of {} figures are within {WORSE} % of the baseline",
        lines.len()
    );
    well
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
        let all = pairs.iter();
        all.map(|&(name, value)| (name.to_owned(), value)).collect()
    }

    fn baseline() -> Baseline {
        Baseline {
            parts: "a".into(),
            floor: map(&[("a", 500), ("b", 500)]),
            postern: map(&[("a", 1000), ("b", 1000), ("gone", 1)]),
        }
    }

    fn verdicts(floor: Option<&Found>, now: &[(&str, u64)]) -> Vec<Verdict> {
        let lines = compare(&baseline(), floor, &map(now));
        lines.into_iter().map(|(.., verdict)| verdict).collect()
    }

    #[test]
    fn difference_over_two_percent_is_reported() {
        use Verdict::*;
        assert_eq!(
            verdicts(None, &[("a", 1020), ("b", 981)]),
            [Same, Same, Gone]
        );
        assert_eq!(
            verdicts(None, &[("a", 1021), ("b", 980)]),
            [Worse, Better, Gone]
        );
        assert_eq!(
            verdicts(None, &[("a", 1000), ("b", 1000), ("gone", 1), ("new", 1)]),
            [Same, Same, Same, New]
        );
    }

    #[test]
    fn difference_of_other_parts_is_subtracted() {
        let mut floor = Found::default();
        floor.figures.insert("a".into(), (700, 1));
        let now = [("a", 1200), ("b", 1200), ("gone", 1)];
        assert_eq!(
            verdicts(Some(&floor), &now),
            [Verdict::Same, Verdict::Worse, Verdict::Same]
        );
    }

    #[test]
    fn worse_or_missing_figures_fail() {
        let line = |verdict| ("a".to_owned(), Some(1), Some(1), verdict);
        assert!(judge(&[line(Verdict::Same), line(Verdict::Better)]));
        for verdict in [Verdict::Worse, Verdict::Gone, Verdict::New] {
            assert!(!judge(&[line(verdict)]));
        }
    }

    #[test]
    fn baseline_reads_back_as_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("b.json");
        baseline().write(&file).unwrap();
        assert_eq!(Baseline::read(&file).unwrap(), baseline());
        std::fs::write(&file, "{}").unwrap();
        assert!(Baseline::read(&file).is_err());
    }
}
