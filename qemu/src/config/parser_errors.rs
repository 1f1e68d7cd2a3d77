// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Translates the TOML parser's errors, which speak of Rust's types, into the words of a
//! description.

/// The parser's words, and their replacements; all that fit are applied in this order.
const WORDS: [(&str, &str); 16] = [
    (
        "unknown field `hypervisor`",
        "[hypervisor] with its `cmdline` is gone, since Postern has no options: remove it",
    ),
    ("unknown field", "unknown key"),
    ("missing field", "missing key"),
    ("unknown variant", "unknown value"),
    (
        "invalid type: map, expected a sequence",
        "this table can be repeated: write its name in double brackets, [[vm]]",
    ),
    (
        "expected u32",
        "expected a whole number, 0 or more, without quotes",
    ),
    (
        "expected u64",
        "expected a whole number, 0 or more, without quotes",
    ),
    // Ids of FF-A's partitions are the only such numbers.
    (
        "expected i64",
        "expected the id of a partition, a number without quotes, such as 0x8001",
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
    (
        "expected struct MachineConfig",
        "expected a table, [machine]",
    ),
];

/// Keys that have another name since a release: the old one and the new one.
const RENAMED: [(&str, &str); 1] = [("leftovers", "max_leaked_asids")];

/// Returns the parser's message, with the excerpt that it shows, in a description's words.
pub(super) fn translate(message: &str) -> String {
    let mut text = message.trim_end().to_owned();
    for (old, new) in RENAMED {
        let unknown = format!("unknown field `{old}`");
        if let Some(at) = text.find(&unknown) {
            text.truncate(at);
            text += &format!("`{old}` is called `{new}`");
        }
    }
    for (theirs, ours) in WORDS {
        text = text.replace(theirs, ours);
    }
    text
}
