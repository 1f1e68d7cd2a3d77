// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is done wrong.

use alloc::string::String;

/// Something that is done wrong.
#[derive(Clone, Debug)]
pub(super) struct Violation {
    pub(super) text: String,
    /// It follows from OP-TEE having mixed up its threads.
    pub(super) from_mixed_threads: bool,
}

impl From<String> for Violation {
    /// Creates a violation that nothing excuses.
    fn from(text: String) -> Self {
        Self {
            text,
            from_mixed_threads: false,
        }
    }
}
