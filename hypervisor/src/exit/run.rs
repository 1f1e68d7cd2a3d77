// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The work before a guest continues: the one way out of every exit.
//!
//! [`crate::sched::run_loop`] decides what to do, and this file implements it on the machine.

use crate::control::monitor;
use crate::control::watchdog;
use crate::irq::owners::{Handler, register_private};
use crate::irq::{Handled, sections};
use crate::lifecycle::{transitions, watchdogs, work_steps};
use crate::platform::WALL_CLOCK;
use crate::sched::masked::Cause;
use crate::sched::run_loop::{self, PcpuOps, RunDecision};
use crate::tee::{notification, secure_entries};
use crate::vm::context_switch::has_exit_work;
use crate::vm::instance::{VcpuRef, Vm};
use crate::vm::pcpu::{Pcpu, here};
use crate::vm::{context_switch, idle, links, lr_sync, physical_timer, registry, virtio};
use postern_arch::gic;
use postern_arch::timer;
use postern_arch::vcpu_context::Frame;
use postern_base::ids::{PcpuSet, VcpuId};
use postern_base::ticks::Ticks;

/// Registers the owners of EL2's private interrupts, before a pCPU enables them.
pub fn own_interrupts() {
    let own: [(u32, Handler); 4] = [
        (gic::KICK_INTID, context_switch::on_kick_sgi),
        (timer::HYPERVISOR_TIMER_INTID, on_hypervisor_timer),
        (
            gic::MAINTENANCE_INTID,
            context_switch::on_maintenance_interrupt,
        ),
        (timer::VIRTUAL_TIMER_INTID, context_switch::on_virtual_timer),
    ];
    register_private(own.into_iter().chain(notification::donated_sgis()));
}

/// Handles the EL2 timer interrupt: a time slice has ended, or the deadline of a waiting vCPU has
/// come. Sets the timer to the next deadline, so its line falls.
fn on_hypervisor_timer() -> Handled {
    run_loop::timer_fired(here());
    Handled::Quiet
}

/// Lets the clocks of all VMs act on the time of day.
fn pass_time() {
    if WALL_CLOCK.is_set() {
        registry::all().iter().for_each(Vm::pass_time);
    }
}

/// Loads the first vCPU of this pCPU into an empty frame.
pub fn first(frame: &mut Frame) {
    with_work(frame);
}

/// Does the work that is due before the guest continues.
#[inline]
pub fn before_return(frame: &mut Frame) {
    let here = here();
    let Some(running) = here.current.get() else {
        return first(frame);
    };
    if has_exit_work(here, running) {
        with_work(frame);
    }
}

/// Does the same as [`before_return`] in an open section, which it closes.
#[inline]
pub fn before_return_in_section(frame: &mut Frame) {
    let here = here();
    match here.current.get() {
        Some(running) if !has_exit_work(here, running) => sections::close(),
        _ => with_work_in_section(frame),
    }
}

/// Does the same as [`before_return`] after a trap at `since` that was answered in the ordinary
/// way.
#[inline]
pub fn before_return_from_trap(frame: &mut Frame, here: &Pcpu, running: VcpuRef, since: Ticks) {
    if has_exit_work(here, running) {
        sections::open_since(since, Cause::Trap);
        with_work_in_section(frame);
    } else {
        sections::note(since, Cause::Trap);
    }
}

#[cold]
fn with_work(frame: &mut Frame) {
    sections::open();
    with_work_in_section(frame);
}

/// Does the work in an open section, which it closes.
#[cold]
fn with_work_in_section(frame: &mut Frame) {
    run_loop::prepare_entry(here(), frame);
    sections::end_part(Cause::Switch);
    sections::close();
}

impl PcpuOps for Pcpu {
    type Vcpu = VcpuRef;
    type Frame = Frame;

    fn tick(&self, now: Ticks) {
        physical_timer::on_timer(self, now);
        if now >= self.tick_at.get() {
            self.tick_at.set(now + timer::second());
            idle::mark(now);
            secure_entries::here().tick();
            watchdog::poll();
            pass_time();
            links::expire(now);
            registry::all().iter().for_each(virtio::retry);
            watchdogs::poll(self, now);
        } else if now >= self.watchdog_at.get() {
            watchdogs::poll(self, now);
        }
    }

    fn take_pending(&self) {
        sections::take_pending();
    }

    fn idle(&self) {
        idle::wait();
    }

    fn work_step(&self) -> bool {
        work_steps::work_step()
    }

    fn monitor(&self) {
        sections::lengthy(Cause::Monitor, monitor::work);
    }

    fn id(&self, vcpu: VcpuRef) -> VcpuId {
        vcpu.id()
    }

    fn by_id(&self, id: VcpuId) -> VcpuRef {
        registry::by_id(id)
    }

    fn affinity(&self, vcpu: VcpuRef) -> PcpuSet {
        vcpu.affinity()
    }

    fn run_decision(&self, vcpu: VcpuRef) -> RunDecision {
        vcpu.vm.run_decision()
    }

    fn current(&self) -> Option<VcpuRef> {
        self.current.get()
    }

    fn needs_flush(&self, vcpu: VcpuRef) -> bool {
        vcpu.vm.vgic.needs_flush(vcpu.vcpu.index)
    }

    fn resync_lrs(&self, vcpu: VcpuRef) {
        lr_sync::resync_lrs(self, vcpu);
    }

    fn vcpu_put(&self, vcpu: VcpuRef, frame: &mut Frame) {
        context_switch::vcpu_put(self, vcpu, frame);
    }

    fn vcpu_load(&self, vcpu: VcpuRef, frame: &mut Frame) -> bool {
        context_switch::vcpu_load(self, vcpu, frame)
    }

    fn deadline(&self, vcpu: VcpuRef) -> Option<Ticks> {
        vcpu.vcpu.timer_deadline(vcpu.vm)
    }

    fn has_deliverable(&self, vcpu: VcpuRef) -> bool {
        vcpu.vcpu.has_deliverable(vcpu.vm)
    }

    fn note_pause(&self, vcpu: VcpuRef) {
        vcpu.vm.note_pause();
    }

    fn parked(&self, vcpu: VcpuRef) {
        transitions::report_if_paused(vcpu.vm);
    }

    fn vcpu_stopped(&self, vcpu: VcpuRef) {
        transitions::vcpu_stopped(vcpu.vm, vcpu.vcpu);
    }
}
