// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The machine's state of random bytes for guests' kernels.

use crate::services::seeds::{Fresh, GuestSeeds, Origin, Seeds};
use postern_arch::entropy::{self, Kind};
use postern_base::lock::{Class, Lock};
use postern_boot_tree::seed::BootSeed;
use spin::Once;

static SEEDS: Once<Lock<Seeds>> = Once::new();

/// Sets the state up, from the best source that there is and from what the boot loader left, and
/// says in the log what that is.
pub fn init(boot: &BootSeed) {
    let mut seeds = Seeds::new(boot.bytes());
    let origin = if let Some(fresh) = fresh() {
        seeds.take_in(fresh);
        if entropy::kind() == Kind::Firmware {
            Origin::Firmware
        } else {
            Origin::Cpu
        }
    } else if boot.bytes().is_empty() {
        Origin::Nowhere
    } else {
        Origin::BootTree(boot.bytes().len())
    };
    SEEDS.call_once(|| Lock::new(Class::Seeds, seeds));
    match origin {
        Origin::Nowhere => log::warn!("seeds of guests' kernels: {origin}"),
        _ => log::info!("seeds of guests' kernels: {origin}"),
    }
}

/// What a guest that starts now gets: nobody else gets the same.
pub fn for_start() -> Option<GuestSeeds> {
    // Before the lock: firmware may take its time.
    let fresh = fresh();
    SEEDS.get()?.lock().next(fresh)
}

/// Bits that the machine has now; `None` where it has no source, or too few now.
fn fresh() -> Option<Fresh> {
    if !entropy::is_available() {
        return None;
    }
    Some([entropy::bits()?, entropy::bits()?, entropy::bits()?])
}
