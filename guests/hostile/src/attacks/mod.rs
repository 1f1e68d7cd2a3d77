//! The attacks, in the groups of the test plan.

mod cookies;
mod lists;
mod messages;
mod parked;
mod race;

use crate::attack::{Attack, Ending};

/// All attacks that the guest plays alone.
pub const ATTACKS: &[&[Attack]] = &[messages::ATTACKS, lists::ATTACKS, cookies::ATTACKS];

/// All ends that the host has it come to, for attacks that go over the end of the VM.
pub const ENDINGS: &[Ending] = &[];
