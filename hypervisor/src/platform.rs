// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The machine that EL2 runs on: the contents of the boot device tree, and the time of day.

use crate::services::wall_clock::WallClock;
use postern_base::ids::PcpuIndex;
use postern_boot_tree::{Machine, Mpidr};
use spin::Once;

/// The time of day.
pub static WALL_CLOCK: WallClock = WallClock::new();

static MACHINE: Once<Machine<'static>> = Once::new();

/// Keeps the contents of the boot device tree for [`machine`]. Called once.
pub fn init(machine: Machine<'static>) -> &'static Machine<'static> {
    MACHINE.call_once(|| machine)
}

/// Returns the contents of the boot device tree.
///
/// # Panics
/// Before [`init`] was called.
pub fn machine() -> &'static Machine<'static> {
    MACHINE.get().expect("the boot path reads the tree first")
}

/// Returns the affinity of a pCPU.
pub fn mpidr_of(pcpu: PcpuIndex) -> Mpidr {
    machine().cpus.list()[pcpu.get()].mpidr
}
