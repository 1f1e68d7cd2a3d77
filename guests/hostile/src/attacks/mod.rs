// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The attacks, in the groups of the test plan.

mod clocks;
mod cookies;
mod debug;
mod fast;
mod gic;
mod gicv2;
mod interrupts;
mod later;
mod leaks;
mod links;
mod lists;
mod maintenance;
mod message_races;
mod messages;
mod race;
mod resources;
mod rpc;
mod rpc_memory;
mod stage2;
mod watchdog;

use crate::attack::Attack;

/// All attacks, of which the guest can play each alone.
pub const ATTACKS: &[&[Attack]] = &[
    messages::ATTACKS,
    lists::ATTACKS,
    cookies::ATTACKS,
    rpc::ATTACKS,
    rpc_memory::ATTACKS,
    interrupts::ATTACKS,
    leaks::ATTACKS,
    fast::ATTACKS,
    stage2::ATTACKS,
    later::ATTACKS,
    maintenance::ATTACKS,
    resources::ATTACKS,
    clocks::ATTACKS,
    debug::ATTACKS,
    gic::ATTACKS,
    gicv2::ATTACKS,
    watchdog::ATTACKS,
    links::ATTACKS,
];
