// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a call holds of what OP-TEE's core may map.

/// Pages that OP-TEE's core may map and that a call holds: they come back at its end at the latest.
#[derive(Default, Debug)]
pub(crate) struct MappedPages {
    /// Those of the buffers that it names.
    pub(crate) passed: u32,
    /// Those that OP-TEE has asked for during the call, and has not given back.
    pub(crate) requested: u32,
}

impl MappedPages {
    /// How many there are.
    pub(crate) const fn all(&self) -> u32 {
        self.passed + self.requested
    }
}
