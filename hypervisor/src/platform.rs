// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The machine that EL2 runs on: the contents of the boot device tree, and the time of day.

use crate::services::wall_clock::WallClock;
use core::sync::atomic::{AtomicU16, AtomicU64};
use postern_base::ids::MAX_PCPUS;
use postern_boot_tree::Machine;
use spin::Once;

/// The time of day.
pub static WALL_CLOCK: WallClock = WallClock::new();

/// What a pCPU found out about itself.
pub struct PcpuModel {
    /// MIDR_EL1.
    pub midr: AtomicU64,
    /// The lengths of SVE's vectors, as `VectorLengths::to_bits` gives them.
    pub sve: AtomicU16,
}

/// The models of the pCPUs, by index; each sets its own when it comes up.
pub static PCPU_MODELS: [PcpuModel; MAX_PCPUS] = [const {
    PcpuModel {
        midr: AtomicU64::new(0),
        sve: AtomicU16::new(0),
    }
}; MAX_PCPUS];

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
