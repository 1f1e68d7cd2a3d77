// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The pages that OP-TEE's core may map because of one call.

/// Pages that OP-TEE's core may map and that a call holds. They are returned at the call's end at the latest.
#[derive(Default, Debug)]
pub(crate) struct MappedPages {
    /// Pages of the buffers that the call passes.
    pub(crate) passed: u32,
    /// Pages that OP-TEE has requested during the call and has not returned.
    pub(crate) requested: u32,
}

impl MappedPages {
    /// Returns their number.
    pub(crate) const fn all(&self) -> u32 {
        self.passed + self.requested
    }
}
