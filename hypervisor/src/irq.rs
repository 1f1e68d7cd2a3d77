// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Physical interrupts. EL2 runs with interrupts masked and asks for them here: after an exit
//! from a guest, when OP-TEE was interrupted, and when idle.
//!
//! Two things keep a pCPU from being busy with interrupts for ever:
//! - **A level-sensitive source is quiet before its interrupt is deactivated.** Else the GIC makes the
//!   interrupt pending at once (IHI 0069H, 4.1.2), and EL2 would take it again and again, with
//!   interrupts masked. [`Handlers::handle`] has to see to it, and an interrupt that has no handler is
//!   disabled.
//! - **One call takes [`MOST`] interrupts at most.** An SGI can be pending again as soon as it was
//!   taken, since other pCPUs send it. EL2's timer has a higher priority, so it is taken first.

#[cfg(target_os = "none")]
pub mod owners;
#[cfg(target_os = "none")]
pub mod sections;
#[cfg(test)]
mod tests;

/// The most interrupts that one call takes: more than a pCPU has sources, so that all of them have
/// their turn where none comes again at once.
pub const MOST: usize = 8;

/// What EL2 does with its physical interrupt controller. `EOImode` is 1: the end of an interrupt
/// is a priority drop, then a deactivation.
pub trait PhysicalGic {
    /// Takes the pending interrupt of the highest priority, if there is one: it is active from here on.
    fn acknowledge(&mut self) -> Option<u32>;
    /// Drops the running priority. The interrupt stays active.
    fn drop_priority(&mut self, intid: u32);
    /// Deactivates an interrupt that was taken here.
    fn deactivate(&mut self, intid: u32);
    /// Disables an interrupt, so that it does not come again.
    fn disable(&mut self, intid: u32);
}

/// What becomes of an interrupt that was handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handled {
    /// Its source is quiet, so it ends.
    Quiet,
    /// It stays active on behalf of the running vCPU, whose end of the linked virtual interrupt
    /// deactivates it.
    Linked,
}

/// The owners of the interrupts.
pub trait Handlers {
    /// Has the interrupt's owner handle it; `None` where nobody asked for it. On return, a level-sensitive source does not
    /// assert its interrupt any more for the reason that it came for, unless the interrupt is [`Handled::Linked`].
    fn handle(&mut self, intid: u32) -> Option<Handled>;
    /// An interrupt came that nobody asked for. It is disabled.
    fn unexpected(&mut self, intid: u32);
}

/// Takes what is pending at this pCPU, at most [`MOST`] interrupts. The rest stays pending.
#[inline]
pub fn take(gic: &mut impl PhysicalGic, handlers: &mut impl Handlers) {
    for _ in 0..MOST {
        let Some(intid) = gic.acknowledge() else {
            return;
        };
        gic.drop_priority(intid);
        let handled = handlers.handle(intid).unwrap_or_else(|| {
            // Its source stays as it is, and may be level-sensitive.
            gic.disable(intid);
            handlers.unexpected(intid);
            Handled::Quiet
        });
        if handled == Handled::Quiet {
            gic.deactivate(intid);
        }
    }
}
