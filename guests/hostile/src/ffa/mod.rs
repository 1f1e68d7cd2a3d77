// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attacks where OP-TEE is reached over FF-A: by calls of the framework, by descriptors, by messages in shared memory.
//!
//! The program plays these, and not those of the SMC ABI, where the hypervisor answers FFA_VERSION.

mod calls;
mod fragments;
mod handles;
mod identity;
mod kit;
mod later;
mod messages;
mod notifications;
mod setup;
mod share;

use crate::attack::Attack;
use alloc::string::String;

pub use kit::{FfaKit, of_tee};

/// All attacks.
pub const ATTACKS: &[&[Attack<FfaKit>]] = &[
    identity::ATTACKS,
    setup::ATTACKS,
    share::ATTACKS,
    handles::ATTACKS,
    calls::ATTACKS,
    messages::ATTACKS,
    notifications::ATTACKS,
    later::ATTACKS,
];

/// A situation in which the VM ends.
pub struct Ending {
    /// The name of the situation.
    pub name: &'static str,
    /// Brings it about.
    pub reach: fn(&FfaKit) -> Result<(), String>,
}

/// All situations in which the VM ends on purpose.
pub const ENDINGS: &[Ending] = &[
    Ending {
        name: "ffa-objects",
        reach: handles::leave_objects,
    },
    Ending {
        name: "ffa-fragments",
        reach: fragments::leave_fragments,
    },
    Ending {
        name: "ffa-calls",
        reach: calls::leave_calls,
    },
    Ending {
        name: "ffa-notifications",
        reach: notifications::leave_enabled,
    },
    Ending {
        name: "ffa-sharing",
        reach: share::leave_sharing,
    },
    Ending {
        name: "ffa-running",
        reach: calls::leave_running,
    },
];
