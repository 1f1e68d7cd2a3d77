// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The machine's random state, from which guests' kernels get seeds.

use crate::console::output;
use crate::services::seeds::{Fresh, GuestSeeds, Origin, Seeds};
use postern_arch::entropy::{self, Kind};
use postern_base::lock::{Class, Lock};
use postern_boot_tree::seed::BootSeed;
use postern_console::log::Level;
use spin::Once;

static SEEDS: Once<Lock<Seeds>> = Once::new();

/// Initialises the state from the best source that the machine has and from the boot loader's seed,
/// and logs the source.
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
    let level = match origin {
        Origin::Nowhere => Level::Warn,
        _ => Level::Info,
    };
    output::log(level, format_args!("seeds of guests' kernels: {origin}"));
}

/// Returns the seeds for a guest that starts now. No other start gets the same.
pub fn for_start() -> Option<GuestSeeds> {
    // Called before the lock is taken: firmware may take its time.
    let fresh = fresh();
    SEEDS.get()?.lock().next(fresh)
}

/// Returns fresh random bits; `None` where the machine has no source, or the source has too few
/// bits now.
fn fresh() -> Option<Fresh> {
    if !entropy::is_available() {
        return None;
    }
    Some([entropy::bits()?, entropy::bits()?, entropy::bits()?])
}
