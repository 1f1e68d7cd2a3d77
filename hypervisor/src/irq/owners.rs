// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The owners of the machine's interrupts.

use super::{Handled, Handlers, PhysicalGic};
use crate::console::output;
use postern_arch::distributor::Acknowledged;
use postern_arch::gic::{self, CpuInterface};
use postern_console::log::{Level, LogOnce};
use spin::Once;

/// The function by which an owner handles its interrupt, see [`Handlers::handle`].
pub type Handler = fn() -> Handled;

/// The number of private interrupts: SGIs and PPIs.
const PRIVATE: usize = 32;
/// The most SPIs with an owner: five of a UART, OP-TEE's, and two for each of four SMMUs.
const MAX_SPIS: usize = 14;

/// The owners of private interrupts, by INTID.
static PRIVATE_OWNERS: Once<[Option<Handler>; PRIVATE]> = Once::new();
/// The handler of the SPIs of devices that VMs have for themselves. It returns `None` for any other SPI.
static ASSIGNED_OWNER: Once<fn(u32) -> Option<Handled>> = Once::new();
/// The owners of SPIs, filled from the front.
static SPI_OWNERS: [Once<(u32, Handler)>; MAX_SPIS] = [const { Once::new() }; MAX_SPIS];

/// The number of interrupts without an owner.
static UNEXPECTED: LogOnce = LogOnce::new();
/// The most interrupts without an owner that are logged. Each is disabled and so comes once, except
/// those that cannot be disabled.
const MAX_LOGGED: u64 = 16;

/// Registers the owners of EL2's private interrupts for all pCPUs, before any pCPU enables them.
/// Called once.
///
/// # Panics
/// An interrupt is not private.
pub fn register_private(owners: impl Iterator<Item = (u32, Handler)>) {
    PRIVATE_OWNERS.call_once(|| {
        let mut table = [None; PRIVATE];
        for (intid, handler) in owners {
            table[intid as usize] = Some(handler);
        }
        table
    });
}

/// Registers the owner of an SPI before it is enabled. Called at boot by the boot pCPU.
///
/// # Panics
/// There are more than `MAX_SPIS` owners.
pub fn register_spi(intid: u32, handler: Handler) {
    let free = SPI_OWNERS.iter().find(|owner| !owner.is_completed());
    free.expect("raise MAX_SPIS for another SPI")
        .call_once(|| (intid, handler));
}

/// Registers the handler of the SPIs of devices that VMs have for themselves, before the first is enabled. It returns
/// `None` for any other SPI.
pub fn register_assigned(handler: fn(u32) -> Option<Handled>) {
    ASSIGNED_OWNER.call_once(|| handler);
}

/// Takes the interrupts that are pending at this pCPU, see [`super::take`].
pub fn take_pending() {
    super::take(
        &mut HardwareGic(gic::cpu_interface()),
        &mut RegisteredOwners,
    );
}

fn spi_owner(intid: u32) -> Option<Handler> {
    let mut owners = SPI_OWNERS.iter().map_while(Once::get);
    let (_, handler) = owners.find(|(owned, _)| *owned == intid)?;
    Some(*handler)
}

struct HardwareGic(CpuInterface);

impl PhysicalGic for HardwareGic {
    #[inline]
    fn acknowledge(&mut self) -> Option<Acknowledged> {
        self.0.acknowledge()
    }

    #[inline]
    fn drop_priority(&mut self, interrupt: Acknowledged) {
        self.0.drop_priority(interrupt);
    }

    #[inline]
    fn deactivate(&mut self, interrupt: Acknowledged) {
        self.0.deactivate(interrupt);
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
            None => match spi_owner(intid) {
                Some(handler) => handler,
                None => return ASSIGNED_OWNER.get()?(intid),
            },
        };
        Some(handler())
    }

    #[cold]
    #[inline(never)]
    fn unexpected(&mut self, intid: u32) {
        let _ = UNEXPECTED.record();
        let times = UNEXPECTED.count();
        if times <= MAX_LOGGED {
            output::log(
                Level::Warn,
                format_args!("interrupt {intid} has no owner: it is disabled"),
            );
        }
    }
}
