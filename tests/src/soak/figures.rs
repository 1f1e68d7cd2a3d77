// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Figures that must be the same before and after.

use anyhow::{Context, Result};
use postern_ctl::messages::Answer;
use serde_json::Value;
use std::collections::BTreeMap;

/// Counters of what a VM holds now: all zero when it is off.
pub const HELD: [&str; 7] = [
    "pages_pinned",
    "pages_held",
    "buffers",
    "rpc_buffers",
    "sessions",
    "calls",
    "mapped_pages",
];
/// Counters of what could not be given back: they never grow.
pub const LOST: [&str; 3] = ["leaked", "kept", "poisoned"];
/// Members of `mem` that do not change while the same VMs are on.
pub const MEMORY: [&str; 4] = ["hypervisor_kib", "guests_kib", "free_kib", HEAP];
/// The hypervisor's heap.
pub const HEAP: &str = "heap_used_bytes";
/// The hypervisor's pages that OP-TEE may use, for all VMs together.
pub const SHARED: &str = "shared_pages_used";
/// OP-TEE's heap that all VMs share, which an OP-TEE that leaks uses up.
pub const SHARED_HEAP: &str = "OP-TEE: bytes of the heap of all VMs";

/// Figures by name.
pub type Figures = BTreeMap<String, u64>;

/// Returns a number in an answer.
///
/// # Errors
///
/// Fails when it is missing.
pub fn number(members: &BTreeMap<String, Value>, name: &str) -> Result<u64> {
    members
        .get(name)
        .and_then(Value::as_u64)
        .with_context(|| format!("the answer of the monitor has no {name}: {members:?}"))
}

/// Returns some counters of the one VM in an answer to `tee stats`.
///
/// # Errors
///
/// Fails when they are missing.
pub fn counters(answer: &Answer, names: &[&str]) -> Result<Figures> {
    let vm = answer
        .more
        .get("vms")
        .and_then(|vms| vms.get(0))
        .context("counters of one VM")?;
    let vm: BTreeMap<String, Value> = serde_json::from_value(vm.clone())?;
    let counter = |&name: &&str| Ok((name.to_owned(), number(&vm, name)?));
    names.iter().map(counter).collect()
}

/// Prints both columns; returns whether they are the same.
pub fn compare(before: &Figures, after: &Figures) -> bool {
    let width = before.keys().map(String::len).max().unwrap_or(0);
    println!("{:width$}  {:>12}  {:>12}", "", "baseline", "at the end");
    let mut same = true;
    for (name, wanted) in before {
        let (text, good) = match after.get(name) {
            Some(found) => (found.to_string(), found == wanted),
            None => ("?".into(), false),
        };
        let word = if good { "" } else { "  DIFFERS" };
        println!("{name:width$}  {wanted:12}  {text:>12}{word}");
        same &= good;
    }
    same
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compare_reports_a_difference() {
        let figures = |value| Figures::from([("pins".to_owned(), value), ("heap".to_owned(), 7)]);
        assert!(compare(&figures(0), &figures(0)));
        assert!(!compare(&figures(0), &figures(1)));
        assert!(!compare(&figures(0), &Figures::new()));
    }

    #[test]
    fn counters_parse_from_an_answer() {
        let answer: Answer = serde_json::from_str(
            r#"{"command":"tee stats","ok":true,"vms":[{"vm":"c","sessions":3,"kept":0}]}"#,
        )
        .expect("an answer");
        let found = counters(&answer, &["sessions", "kept"]).expect("both");
        assert_eq!((found["sessions"], found["kept"]), (3, 0));
        assert!(counters(&answer, &["calls"]).is_err());
    }
}
