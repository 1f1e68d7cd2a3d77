// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The emulated physical timer of the vCPU that is on this pCPU: EL2's own timer interrupts when it
//! is due.

use super::instance::VcpuRef;
use super::pcpu::{self, Pcpu};
use super::scheduler::kick;
use postern_arch::timer;
use postern_base::ticks::Ticks;
use postern_devices::physical_timer::TimerRegister;
use postern_guest_tree::layout;
use postern_vgic::{IntId, IrqLine};

/// The physical timer's interrupt. PPIs begin at INTID 16.
const INTID: IntId = match IntId::new(16 + layout::PHYSICAL_TIMER_PPI) {
    Some(intid) => intid,
    None => panic!("the vGIC has every PPI"),
};

/// Performs the running vCPU's access to `register`: writes a value, or reads one. Returns the
/// value read; zero for a write.
pub fn access(running: VcpuRef, register: TimerRegister, write: Option<u64>) -> u64 {
    let count = running.vm.count_at(timer::now());
    let mut saved = running.vcpu.saved.lock();
    let Some(value) = write else {
        return saved.physical_timer.read(register, count);
    };
    saved.physical_timer.write(register, value, count);
    drop(saved);
    let here = pcpu::here();
    update_irq(here, running);
    // This takes no scheduler lock: an interrupt that comes too early does no harm, and arms the
    // next one.
    timer::arm_no_later_than(here.guest_timer_at.get());
    0
}

/// Updates the timer's interrupt for the vCPU on this pCPU, and notes when it changes next.
#[inline]
pub fn update_irq(here: &Pcpu, running: VcpuRef) {
    let mut saved = running.vcpu.saved.lock();
    let timer = &mut saved.physical_timer;
    if timer.is_idle() {
        here.guest_timer_at.set(Ticks::NEVER);
        return;
    }
    let changed = timer.update(running.vm.count_at(timer::now()));
    let at = timer
        .deadline()
        .map_or(Ticks::NEVER, |count| running.vm.time_of(count));
    here.guest_timer_at.set(at);
    drop(saved);
    if let (Some(level), Some(line)) = (changed, IrqLine::ppi(running.vcpu.index, INTID)) {
        kick(running.vm, running.vm.vgic.set_line(line, level));
    }
}

/// Handles EL2's timer, which fired at `now`, perhaps for the vCPU on this pCPU.
pub fn on_timer(here: &Pcpu, now: Ticks) {
    if now < here.guest_timer_at.get() {
        return;
    }
    if let Some(running) = here.current.get() {
        update_irq(here, running);
    }
}
