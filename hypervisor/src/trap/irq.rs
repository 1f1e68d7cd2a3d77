//! Physical interrupts. EL2 runs with interrupts masked and asks for them here: after an exit
//! from a guest, when OP-TEE was interrupted, and when idle.

use crate::arch::{gic, percpu, timer};
use crate::console::input;
use crate::sched::run;
use crate::services::notification;

/// Takes all interrupts that are pending at this pCPU.
pub fn take_pending() {
    while let Some(intid) = gic::acknowledge() {
        gic::drop_priority(intid);
        // The virtual timer's stays active until the guest ends the virtual interrupt.
        if intid == timer::VIRTUAL_TIMER_INTID && virtual_timer() {
            continue;
        }
        gic::deactivate(intid);
        match intid {
            gic::KICK_INTID => run::kicked(),
            timer::HYPERVISOR_TIMER_INTID => run::timer_fired(),
            gic::MAINTENANCE_INTID => run::refill(),
            timer::VIRTUAL_TIMER_INTID => {}
            _ if input::is_console(intid) => input::receive(),
            _ if notification::is_source(intid) => notification::arrived(),
            other => crate::warn!("unexpected interrupt {other}"),
        }
    }
}

/// The guest's timer fired; `false` if there is no guest whose it could be.
fn virtual_timer() -> bool {
    let Some(running) = percpu::this().current.get() else {
        return false;
    };
    run::timer_fired_for(running);
    true
}
