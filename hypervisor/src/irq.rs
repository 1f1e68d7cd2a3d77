// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Physical interrupts. EL2 runs with interrupts masked and asks for them here: after an exit from
//! a guest, after OP-TEE was interrupted, and when idle.
//!
//! Two rules bound the time that a pCPU spends on interrupts:
//! - **A level-sensitive source is quiet before its interrupt is deactivated.** Otherwise the GIC
//!   makes the interrupt pending at once (IHI 0069H, 4.1.2), and EL2 would take it again and again,
//!   with interrupts masked. [`Handlers::handle`] ensures it, and an interrupt without a handler is
//!   disabled.
//! - **One call takes at most [`MOST`] interrupts.** An SGI can be pending again as soon as it was
//!   taken, because other pCPUs send it. EL2's timer has a higher priority, so it is taken first.

#[cfg(target_os = "none")]
pub mod owners;
#[cfg(target_os = "none")]
pub mod sections;
#[cfg(test)]
mod tests;

use postern_arch::distributor::Acknowledged;

/// The most interrupts that one call takes: more than a pCPU has sources, so that each source is
/// served if none repeats at once.
pub const MOST: usize = 8;

/// The operations of EL2 on its physical interrupt controller. `EOImode` is 1: an interrupt ends
/// with a priority drop and then a deactivation.
pub trait PhysicalGic {
    /// Acknowledges the pending interrupt with the highest priority, if any. It is active
    /// afterwards.
    fn acknowledge(&mut self) -> Option<Acknowledged>;
    /// Drops the running priority. The interrupt stays active.
    fn drop_priority(&mut self, interrupt: Acknowledged);
    /// Deactivates an interrupt that was acknowledged here.
    fn deactivate(&mut self, interrupt: Acknowledged);
    /// Disables an interrupt, so that it is not taken again.
    fn disable(&mut self, intid: u32);
}

/// The state of an interrupt after its handler has run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handled {
    /// Its source is quiet, so the interrupt is deactivated.
    Quiet,
    /// It stays active on behalf of the running vCPU. The end of the linked virtual interrupt
    /// deactivates it.
    Linked,
}

/// The owners of the interrupts.
pub trait Handlers {
    /// Runs the handler of an interrupt's owner; returns `None` if the interrupt has no owner. On
    /// return, a level-sensitive source no longer asserts its interrupt for the reason that raised
    /// it, unless the interrupt is [`Handled::Linked`].
    fn handle(&mut self, intid: u32) -> Option<Handled>;
    /// Reports an interrupt without an owner, which is disabled.
    fn unexpected(&mut self, intid: u32);
}

/// Takes the interrupts that are pending at this pCPU, at most [`MOST`]. The rest stays pending.
#[inline]
pub fn take(gic: &mut impl PhysicalGic, handlers: &mut impl Handlers) {
    for _ in 0..MOST {
        let Some(interrupt) = gic.acknowledge() else {
            return;
        };
        gic.drop_priority(interrupt);
        let intid = interrupt.intid();
        let handled = handlers.handle(intid).unwrap_or_else(|| {
            // The source stays as it is, and may be level-sensitive.
            gic.disable(intid);
            handlers.unexpected(intid);
            Handled::Quiet
        });
        if handled == Handled::Quiet {
            gic.deactivate(interrupt);
        }
    }
}
