// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the word before the cursor may become.

use super::system::System;
use postern_base::ids::{MAX_VMS, VmIndex};
use postern_monitor::specs::{Arguments, SPECS, Spec};

/// The most words that matter.
const MAX_WORDS: usize = 4;

/// Gives `each` what the last word of `before` may become; the word may be empty. The same word
/// comes more than once only in a row.
pub fn candidates(before: &str, system: &impl System, each: &mut dyn FnMut(&str)) {
    let (done, begun) = before.rfind(' ').map_or(("", before), |blank| {
        before.split_at_checked(blank + 1).unwrap_or_default()
    });
    let words = done.split_ascii_whitespace();
    let words = words.filter(|word| !word.starts_with('#') && !word.starts_with("--"));
    let mut list = heapless::Vec::<&str, MAX_WORDS>::new();
    for word in words {
        if list.push(word).is_err() {
            return;
        }
    }
    let mut offer = |word: &str| {
        if word.starts_with(begun) {
            each(word);
        }
    };
    if begun.starts_with("--") {
        return offer("--json");
    }
    next_words(&list, &mut offer);
    for spec in &SPECS {
        let Some(arguments) = arguments_behind(spec, &list) else {
            continue;
        };
        match (spec.arguments, arguments) {
            (Arguments::Vm | Arguments::AnyVm | Arguments::VmAndSize, []) => {
                let indices = (0..MAX_VMS).filter_map(VmIndex::new);
                for name in indices.map_while(|index| system.name(index)) {
                    offer(name);
                }
            }
            (Arguments::OnOff, []) => ["on", "off"].into_iter().for_each(&mut offer),
            (Arguments::Command, topic) => next_words(topic, &mut offer),
            _ => {}
        }
    }
}

/// The words that follow `words` in commands, each once.
fn next_words(words: &[&str], offer: &mut impl FnMut(&str)) {
    let mut last = "";
    for spec in SPECS.iter().filter(|spec| spec.begins_with(words)) {
        let next = spec.path.split(' ').nth(words.len());
        if let Some(next) = next.filter(|&next| next != last) {
            last = next;
            offer(next);
        }
    }
}

/// What stands behind a command's words; `None` where they do not stand there.
fn arguments_behind<'w, 'a>(spec: &Spec, words: &'w [&'a str]) -> Option<&'w [&'a str]> {
    let length = spec.path.split(' ').count();
    let path = words.get(..length)?;
    spec.begins_with(path).then(|| &words[length..])
}
