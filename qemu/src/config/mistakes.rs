// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is wrong with the form of a description, in the words of whoever wrote it: the parser's speak of Rust's types.

/// What the parser says, and what is said instead; of several that fit, all in this order.
const WORDS: [(&str, &str); 12] = [
    (
        "invalid type: map, expected a sequence",
        "there may be several of it: put its name in double brackets, [[vm]]",
    ),
    (
        "expected u32",
        "expected a whole number from 0 on, without quotes",
    ),
    (
        "expected u64",
        "expected a whole number from 0 on, without quotes",
    ),
    (
        "expected a sequence",
        "expected a list in brackets, such as [0, 1] or [\"public\"]",
    ),
    (
        "expected path string",
        "expected the path of a file in quotes",
    ),
    ("expected a string", "expected text in quotes"),
    (
        "expected a boolean",
        "expected true or false, without quotes",
    ),
    ("wanted string or table", "expected a word in quotes"),
    (
        "expected struct TeePolicy",
        "expected a table, [vm.tee_policy]",
    ),
    (
        "expected struct TeeQuota",
        "expected a table, [vm.tee_quota]",
    ),
    ("expected struct Machine", "expected a table, [machine]"),
    (
        "expected struct Hypervisor",
        "expected a table, [hypervisor]",
    ),
];

/// The parser's message, with the place that it shows, in the writer's words.
pub(super) fn in_words(message: &str) -> String {
    let mut text = message.trim_end().to_owned();
    for (theirs, ours) in WORDS {
        text = text.replace(theirs, ours);
    }
    text
}
