// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The machine's interrupts, and who owns them.

use super::{Handled, Handlers, PhysicalGic};
use crate::console::log::Counted;
use postern_arch::gic;
use spin::Once;

/// What an owner does with its interrupt, see [`Handlers::handle`].
pub type Handler = fn() -> Handled;

/// The most interrupts that have an owner: four private ones, the UART's, OP-TEE's, and room.
const MAX_OWNERS: usize = 8;

/// Which interrupt goes to whom. Filled from the front on.
static OWNERS: [Once<(u32, Handler)>; MAX_OWNERS] = [const { Once::new() }; MAX_OWNERS];

/// Interrupts that nobody asked for.
static UNEXPECTED: Counted = Counted::new();
/// How many of them are logged: each is disabled and so comes once, but for those that cannot be.
const TOLD: u64 = 16;

/// Gives an interrupt an owner, on all pCPUs, before it is enabled. At boot, by the boot pCPU.
///
/// # Panics
/// There are more than [`MAX_OWNERS`].
pub fn register(intid: u32, handler: Handler) {
    let free = OWNERS.iter().find(|owner| !owner.is_completed());
    free.expect("an interrupt more needs a place more")
        .call_once(|| (intid, handler));
}

/// Takes what is pending at this pCPU, see [`super::take`].
pub fn take_pending() {
    super::take(&mut Gic, &mut Machine);
}

struct Gic;

impl PhysicalGic for Gic {
    #[inline]
    fn acknowledge(&mut self) -> Option<u32> {
        gic::acknowledge()
    }

    #[inline]
    fn drop_priority(&mut self, intid: u32) {
        gic::drop_priority(intid);
    }

    #[inline]
    fn deactivate(&mut self, intid: u32) {
        gic::deactivate(intid);
    }

    fn disable(&mut self, intid: u32) {
        gic::disable(intid);
    }
}

struct Machine;

impl Handlers for Machine {
    #[inline]
    fn handle(&mut self, intid: u32) -> Option<Handled> {
        let mut owners = OWNERS.iter().map_while(Once::get);
        let (_, handler) = owners.find(|(owned, _)| *owned == intid)?;
        Some(handler())
    }

    fn unexpected(&mut self, intid: u32) {
        let _ = UNEXPECTED.happens();
        let times = UNEXPECTED.times();
        if times <= TOLD {
            log::warn!("interrupt {intid} came, which nobody here asked for: it is disabled");
        }
    }
}
