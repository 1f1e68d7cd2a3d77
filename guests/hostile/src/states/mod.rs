// SPDX-License-Identifier: Apache-2.0 OR MIT
//! States that a VM may be in when it ends: one that only a guest with such intentions gets into, on
//! purpose and for as long as one likes.
//!
//! What a state holds is never dropped: a VM in a state holds it until it is ended from outside, or
//! ends itself. What OP-TEE cannot be brought into is listed in `README.md`.

mod holding;
mod memory;
mod running;
mod waiting;

use crate::kit::Kit;
use alloc::string::String;

/// A state.
pub struct State {
    /// How the host names it.
    pub name: &'static str,
    /// Brings it about.
    ///
    /// # Errors
    /// Why that is impossible.
    pub reach: fn(&Kit) -> Result<(), String>,
}

/// All of them.
pub const STATES: &[&[State]] = &[
    waiting::STATES,
    running::STATES,
    memory::STATES,
    holding::STATES,
];

/// Those that take long, which the list leaves out.
pub const LONG: &[State] = memory::LONG;

const fn state(name: &'static str, reach: fn(&Kit) -> Result<(), String>) -> State {
    State { name, reach }
}

/// Holds what makes up a state for good.
fn hold<T>(what: Result<T, String>) -> Result<(), String> {
    what.map(core::mem::forget)
}
