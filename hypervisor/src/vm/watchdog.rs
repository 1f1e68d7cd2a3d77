// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A VM's watchdog, which counts the VM's own time: it stands still while the VM is paused.
//!
//! EL2's own timer interrupts when a watchdog is due, on the pCPU of the guest's last access to it.
//! All pCPUs look at all watchdogs once a second, too, so one is at most a second late where that
//! pCPU does not return from the secure world.

use super::instance::Vm;
use super::pcpu;
use super::scheduler::kick;
use postern_arch::timer;
use postern_base::mmio::Access;
use postern_base::ticks::Ticks;
use postern_devices::generic_watchdog::{Frame, GenericWatchdog};
use postern_guest_tree::layout::SpiSource;

/// What a VM's watchdog does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchdogState {
    /// It demands the VM's reset.
    Expired,
    /// It asserts its next signal when the physical counter has this value; never where the VM has
    /// no watchdog, the guest has not enabled it, or the VM does not run.
    DueAt(Ticks),
}

/// Does a guest's access to a frame of its watchdog. Returns the value read; `None` where the VM has
/// no watchdog.
pub fn access(vm: &'static Vm, frame: Frame, access: Access) -> Option<u64> {
    let now = timer::now();
    let value = with(vm, now, |watchdog, count| {
        watchdog.access(frame, access, count)
    })?;
    if access.write.is_some() {
        arm(vm, now);
    }
    Some(value)
}

/// Has this pCPU look at the watchdog when it is due.
pub fn arm(vm: &'static Vm, now: Ticks) {
    let at = match pass(vm, now) {
        WatchdogState::Expired => now,
        WatchdogState::DueAt(at) => at,
    };
    let here = pcpu::here();
    if at < here.watchdog_at.get() {
        here.watchdog_at.set(at);
        // Without the scheduler's lock, as for the physical timer.
        timer::arm_no_later_than(at);
    }
}

/// Lets the VM's time pass until `now`. Returns what the watchdog does next.
pub fn pass(vm: &'static Vm, now: Ticks) -> WatchdogState {
    // Read before the counter's offset, which changes before a VM is resumed.
    if !vm.may_run() {
        return WatchdogState::DueAt(Ticks::NEVER);
    }
    let state = with(vm, now, |watchdog, count| {
        watchdog.pass(count);
        if watchdog.has_expired() {
            return WatchdogState::Expired;
        }
        let at = watchdog.deadline().map(|count| vm.time_of(count));
        WatchdogState::DueAt(at.unwrap_or(Ticks::NEVER))
    });
    state.unwrap_or(WatchdogState::DueAt(Ticks::NEVER))
}

fn with<R>(
    vm: &'static Vm,
    now: Ticks,
    change: impl FnOnce(&mut GenericWatchdog, Ticks) -> R,
) -> Option<R> {
    let mut watchdog = vm.devices.watchdog.as_ref()?.lock();
    let result = change(&mut watchdog, vm.count_at(now));
    // Under the device's lock, so that levels reach the vGIC in order.
    let set = vm.drive(SpiSource::Watchdog, watchdog.irq_line());
    drop(watchdog);
    kick(vm, set);
    Some(result)
}
