// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The machine's interrupts, and who owns them.

use super::{Handled, Handlers, PhysicalGic};
use postern_arch::gic;
use postern_console::log::LogOnce;
use spin::Once;

/// What an owner does with its interrupt, see [`Handlers::handle`].
pub type Handler = fn() -> Handled;

/// The private interrupts: SGIs and PPIs.
const PRIVATE: usize = 32;
/// The most SPIs that have an owner: the UART's, OP-TEE's, and room.
const MAX_SPIS: usize = 8;

/// The owners of private interrupts, by INTID.
static PRIVATE_OWNERS: Once<[Option<Handler>; PRIVATE]> = Once::new();
/// Those of SPIs. Filled from the front on.
static SPI_OWNERS: [Once<(u32, Handler)>; MAX_SPIS] = [const { Once::new() }; MAX_SPIS];

/// Interrupts that nobody asked for.
static UNEXPECTED: LogOnce = LogOnce::new();
/// How many of them are logged: each is disabled and so comes once, but for those that cannot be.
const MAX_LOGGED: u64 = 16;

/// Gives EL2's private interrupts their owners, on all pCPUs, before one enables them. Once.
///
/// # Panics
/// One is no private interrupt.
pub fn register_private(owners: &[(u32, Handler)]) {
    PRIVATE_OWNERS.call_once(|| {
        let mut table = [None; PRIVATE];
        for (intid, handler) in owners {
            table[*intid as usize] = Some(*handler);
        }
        table
    });
}

/// Gives an SPI an owner, before it is enabled. At boot, by the boot pCPU.
///
/// # Panics
/// There are more than `MAX_SPIS`.
pub fn register_spi(intid: u32, handler: Handler) {
    let free = SPI_OWNERS.iter().find(|owner| !owner.is_completed());
    free.expect("an SPI more needs a place more")
        .call_once(|| (intid, handler));
}

/// Takes what is pending at this pCPU, see [`super::take`].
pub fn take_pending() {
    super::take(&mut HardwareGic, &mut RegisteredOwners);
}

fn spi_owner(intid: u32) -> Option<Handler> {
    let mut owners = SPI_OWNERS.iter().map_while(Once::get);
    let (_, handler) = owners.find(|(owned, _)| *owned == intid)?;
    Some(*handler)
}

struct HardwareGic;

impl PhysicalGic for HardwareGic {
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

struct RegisteredOwners;

impl Handlers for RegisteredOwners {
    #[inline]
    fn handle(&mut self, intid: u32) -> Option<Handled> {
        let handler = match PRIVATE_OWNERS.get()?.get(intid as usize) {
            Some(private) => (*private)?,
            None => spi_owner(intid)?,
        };
        Some(handler())
    }

    fn unexpected(&mut self, intid: u32) {
        let _ = UNEXPECTED.record();
        let times = UNEXPECTED.count();
        if times <= MAX_LOGGED {
            log::warn!("interrupt {intid} came, which nobody here asked for: it is disabled");
        }
    }
}
