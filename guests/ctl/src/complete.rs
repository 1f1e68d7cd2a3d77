// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Finds completions of the word before the cursor.

use postern_monitor::specs::{Arguments, Spec};

/// Returns the completions of the last word of `before`, which may be empty, each once. `names` are
/// those of the VMs.
pub fn candidates<'a>(before: &str, names: &'a [String]) -> Vec<&'a str> {
    let (done, begun) = before
        .rsplit_once(' ')
        .map_or(("", before), |(done, begun)| (done, begun));
    let words: Vec<&str> = done
        .split_ascii_whitespace()
        .filter(|word| !word.starts_with("--"))
        .collect();
    let mut found: Vec<&str> = Vec::new();
    if begun.starts_with("--") {
        found.push("--json");
    } else {
        found.extend(next_words(&words));
        for spec in crate::help::specs() {
            match (spec.arguments, arguments_behind(spec, &words)) {
                (Arguments::Vm | Arguments::AnyVm | Arguments::VmAndSize, Some([])) => {
                    found.extend(names.iter().map(String::as_str));
                }
                (Arguments::Command, Some(topic)) => found.extend(next_words(topic)),
                _ => {}
            }
        }
    }
    found.retain(|word| word.starts_with(begun));
    found
}

/// Returns the words that follow `words` in commands, each once.
fn next_words(words: &[&str]) -> Vec<&'static str> {
    let specs = crate::help::specs().filter(|spec| spec.begins_with(words));
    let mut next: Vec<&str> = specs
        .filter_map(|spec| spec.path.split(' ').nth(words.len()))
        .collect();
    next.dedup();
    next
}

/// Returns the words after a command's own words; `None` when `words` does not begin with those.
fn arguments_behind<'w, 'a>(spec: &Spec, words: &'w [&'a str]) -> Option<&'w [&'a str]> {
    let length = spec.path.split(' ').count();
    let path = words.get(..length)?;
    spec.begins_with(path).then(|| &words[length..])
}
