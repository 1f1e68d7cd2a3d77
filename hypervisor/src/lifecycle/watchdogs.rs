// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The reset of VMs whose watchdogs have expired.

use super::transitions;
use crate::vm::instance::Vm;
use crate::vm::lifecycle::{LifecycleAction, LifecycleEvent};
use crate::vm::pcpu::Pcpu;
use crate::vm::registry;
use crate::vm::watchdog::{self, WatchdogState};
use core::sync::atomic::Ordering;
use postern_arch::timer;
use postern_base::ticks::Ticks;
use postern_console::log::Level;

/// Looks at the watchdogs of all VMs at `now`, and notes when this pCPU is to look again: not before
/// a millisecond has passed, so that a guest that moves its deadline without pause costs the pCPUs
/// of others little. The caller holds no lock.
pub fn poll(here: &Pcpu, now: Ticks) {
    let due = |vm: &'static Vm| match watchdog::pass(vm, now) {
        WatchdogState::Expired => {
            expired(vm);
            Ticks::NEVER
        }
        WatchdogState::DueAt(at) => at,
    };
    let earliest = registry::all().iter().map(due).min();
    let soonest = now + timer::second() / 1000;
    let at = earliest.map_or(Ticks::NEVER, |at| at.max(soonest));
    here.watchdog_at.set(at);
}

fn expired(vm: &'static Vm) {
    let action = transitions::transition(vm, LifecycleEvent::WatchdogExpired);
    // Another pCPU was first, or the VM has been paused meanwhile: it resets when it is resumed.
    if action == LifecycleAction::Nothing {
        return;
    }
    vm.watchdog_resets.fetch_add(1, Ordering::Relaxed);
    vm.log(
        Level::Warn,
        format_args!("its watchdog has expired: it resets"),
    );
    transitions::carry_out(vm, action);
}
