// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The machine's interrupts.

use super::{Handled, Handlers, PhysicalGic, Source};
use crate::arch::{gic, percpu, timer};
use crate::console::input;
use crate::console::log::Counted;
use crate::sched::run;
use crate::services::notification;

/// Interrupts that nobody asked for.
static UNEXPECTED: Counted = Counted::new();
/// How many of them are logged: each is disabled and so comes once, but for those that cannot be.
const TOLD: u64 = 16;

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
        gic::disable(percpu::this().redistributor, intid);
    }
}

struct Machine;

impl Handlers for Machine {
    #[inline]
    fn source(&self, intid: u32) -> Option<Source> {
        Some(match intid {
            gic::KICK_INTID => Source::Kick,
            timer::HYPERVISOR_TIMER_INTID => Source::HypervisorTimer,
            gic::MAINTENANCE_INTID => Source::Maintenance,
            timer::VIRTUAL_TIMER_INTID => Source::VirtualTimer,
            _ if input::is_console(intid) => Source::Console,
            _ if notification::is_source(intid) => Source::Notification,
            _ => return None,
        })
    }

    #[inline]
    fn handle(&mut self, source: Source) -> Handled {
        match source {
            Source::Kick => run::kicked(),
            // Arms the timer for what comes next, so the line falls.
            Source::HypervisorTimer => run::timer_fired(),
            Source::Maintenance => run::refill(),
            Source::VirtualTimer => return virtual_timer(),
            // Empties the receive FIFO, and fills the one to transmit or masks its interrupt.
            Source::Console => input::interrupt(),
            Source::Notification => notification::arrived(),
        }
        Handled::Quiet
    }

    fn unexpected(&mut self, intid: u32) {
        let _ = UNEXPECTED.happens();
        let times = UNEXPECTED.times();
        if times <= TOLD {
            crate::warn!("interrupt {intid} came, which nobody here asked for: it is disabled");
        }
    }
}

/// The virtual timer fired: for the vCPU that is here, or, where there is none, for one that has just
/// left.
fn virtual_timer() -> Handled {
    match percpu::this().current.get() {
        Some(running) => {
            run::timer_fired_for(running);
            Handled::Linked
        }
        None => {
            timer::silence_virtual();
            Handled::Quiet
        }
    }
}
