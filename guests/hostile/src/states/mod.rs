// SPDX-License-Identifier: Apache-2.0 OR MIT
//! States in which a VM may be ended, and which only a malicious guest brings about on purpose and
//! holds for any time.
//!
//! The content of a state is never dropped: a VM holds it until it is ended from outside or ends
//! itself. `README.md` lists the states into which OP-TEE cannot be brought.

mod devices;
mod holding;
mod memory;
mod running;
mod waiting;

use crate::kit::Kit;
use alloc::string::String;

/// A state.
pub struct State {
    /// The state's name for the host.
    pub name: &'static str,
    /// Brings the state about.
    ///
    /// # Errors
    /// Fails with the reason why that is impossible.
    pub reach: fn(&Kit) -> Result<(), String>,
}

/// All states of a VM without devices of its own.
pub const STATES: &[&[State]] = &[
    waiting::STATES,
    running::STATES,
    memory::STATES,
    holding::STATES,
];

/// The states of a VM with a PCI bus and a link.
pub const DEVICE_STATES: &[State] = devices::STATES;

/// States that take long, which the list leaves out.
pub const LONG: &[State] = memory::LONG;

const fn state(name: &'static str, reach: fn(&Kit) -> Result<(), String>) -> State {
    State { name, reach }
}

/// Keeps the content of a state forever.
fn hold<T>(what: Result<T, String>) -> Result<(), String> {
    what.map(core::mem::forget)
}
