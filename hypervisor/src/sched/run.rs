// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Puts vCPUs on pCPUs and takes them off: the one way out of every exit.
//!
//! The policy is [`super::Scheduler`]'s, and what follows from it on a pCPU is [`super::turn`]'s; here are the
//! locks, the timer and the registers. One lock guards the queues of all pCPUs. On the way of an SMC
//! it is taken only where OP-TEE was interrupted.

use super::idle::IdleClock;
use super::lists::{read_back, refresh};
use super::masked::Cause;
use super::turn::{self, Gate, Site, Wanted};
use super::{Scheduler, physical_timer, sections, switch};
use crate::arch::world::Frame;
use crate::arch::{barrier, gic, ich, percpu, percpu::Pcpu, timer};
use crate::console::monitor::machine as monitor;
use crate::platform::{self, machine};
use crate::services::stuck;
use crate::vm::{self, Running, Vm};
use core::cell::Cell;
use postern_base::ids::{MAX_PCPUS, PcpuIndex, PcpuSet, VcpuId};
use postern_base::lock::{Class, Lock};
use postern_vgic::{VcpuSet, Vmcr};

static SCHEDULER: Lock<Scheduler> = Lock::new(Class::Scheduler, Scheduler::new());
/// Of each pCPU; written by itself only.
static IDLE: [Lock<IdleClock>; MAX_PCPUS] =
    [const { Lock::new(Class::Idle, IdleClock::new()) }; MAX_PCPUS];

/// How long a vCPU runs when others wait, in milliseconds.
const SLICE_MS: u64 = 10;

/// This pCPU.
fn here() -> &'static Pcpu {
    percpu::this()
}

fn ask(what: Wanted) {
    turn::ask(here(), what);
}

/// Has the monitor work on this pCPU, as soon as no lock is held.
pub fn ask_for_monitor() {
    ask(Wanted::MONITOR);
}

/// How much a pCPU has had nothing to do.
pub fn idle_clock(pcpu: PcpuIndex) -> IdleClock {
    *IDLE[pcpu.get()].lock()
}

/// The first vCPU of this pCPU.
pub fn first(frame: &mut Frame) {
    with_work(frame);
}

/// Whether there is something to do before the vCPU that is on this pCPU goes on: two loads.
#[inline]
pub fn is_wanted(here: &Pcpu, running: Running) -> bool {
    !here.wanted.get().is_nothing() || running.vm.vgic.needs_fill(running.vcpu.index)
}

/// The last thing before a guest goes on.
#[inline]
pub fn before_return(frame: &mut Frame) {
    let here = percpu::this();
    let Some(running) = here.current.get() else {
        return first(frame);
    };
    if is_wanted(here, running) {
        with_work(frame);
    }
}

/// [`before_return`] after an exit at this time, in ticks, that was answered with what is usual for a trap.
#[inline]
pub fn before_return_from_trap(frame: &mut Frame, here: &Pcpu, running: Running, since: u64) {
    if is_wanted(here, running) {
        sections::open_since(since, Cause::Trap);
        with_work(frame);
    } else {
        sections::note(here, since, Cause::Trap);
    }
}

#[cold]
fn with_work(frame: &mut Frame) {
    sections::open();
    turn::before_guest(here(), frame);
    sections::did(Cause::Switch);
    sections::close();
}

/// There is work for some VM, which pCPUs are to do that have nothing else to do.
pub fn work_waits() {
    let here = percpu::this();
    for pcpu in machine().cpus.list() {
        let mpidr = pcpu.mpidr.get();
        if mpidr != platform::mpidr_of(here.id()) {
            gic::kick(mpidr);
        }
    }
    ask(Wanted::WORK);
}

/// The vCPUs of `vm` that run are to ask whether they may.
pub fn look_around(vm: &'static Vm) {
    let here = percpu::this();
    for vcpu in &vm.vcpus {
        match vcpu.pcpu() {
            Some(pcpu) if pcpu == here.id() => ask(Wanted::RESCHEDULE),
            Some(pcpu) => gic::kick(platform::mpidr_of(pcpu)),
            None => {}
        }
    }
}

/// The vCPUs of `vm` may run again. Those that wait for something wake up and wait again.
pub fn wake_all(vm: &'static Vm) {
    for vcpu in &vm.vcpus {
        wake(Running { vm, vcpu });
    }
}

/// Whether the vCPU has something to do that a call in the secure world must not keep it from.
#[inline]
pub fn guest_must_run(running: Running) -> bool {
    is_wanted(percpu::this(), running)
}

/// Has the list registers filled again before the guest goes on: until then the vGIC's books are complete.
pub fn refill_later(running: Running) {
    read_back(percpu::this(), running);
    ask(Wanted::REFILL);
}

/// The guest executed WFI; `frame` is behind it already.
pub fn wait_for_interrupt(running: Running) {
    refill_later(running);
    let vmcr = Vmcr::from_bits(ich::vmcr());
    if !running
        .vm
        .vgic
        .has_deliverable_through(running.vcpu.index, vmcr)
    {
        ask(Wanted::BLOCK);
    }
}

/// The guest has nothing to do for a while, but can go on.
pub fn yield_now() {
    ask(Wanted::RESCHEDULE);
}

/// The running vCPU ends: PSCI CPU_OFF, or its VM stops.
pub fn turn_off() {
    ask(Wanted::OFF);
}

/// Another pCPU wants this one to look around.
pub fn kicked() {
    let here = here();
    if let Some(running) = here.current() {
        refill_later(running);
        if !running.vm.may_run() {
            ask(Wanted::RESCHEDULE);
        }
    }
    turn::look_at_slice(here);
}

/// EL2's timer fired: a slice is over, or a waiting vCPU's time has come.
pub fn timer_fired() {
    turn::timer_fired(here());
}

/// This pCPU stays in the secure world: others take over what waits for it.
pub fn lost(pcpu: PcpuIndex) {
    turn::lost(here(), pcpu);
}

/// It is back.
pub fn regained(pcpu: PcpuIndex) {
    turn::regained(here(), pcpu);
}

/// The virtual timer of the vCPU that is on this pCPU fired.
pub fn timer_fired_for(running: Running) {
    percpu::this().timer_is_active.set(true);
    let set = running.vm.vgic.timer_fired(running.vcpu.index);
    kick(running.vm, set);
}

/// The maintenance interrupt: a list register ran empty while more interrupts wait, or the like. It is
/// level-sensitive, and what asserts it is in ICH_HCR_EL2 and the list registers (ICH_MISR_EL2), which
/// reading changes nothing about. So the virtual interface is off until it is filled.
pub fn refill() {
    if let Some(running) = percpu::this().current.get() {
        refill_later(running);
    }
    ich::turn_off();
}

/// Something became pending for these vCPUs of `vm`: interrupts those that run, wakes the others.
pub fn kick(vm: &'static Vm, vcpus: VcpuSet) {
    let here = percpu::this();
    for index in vcpus.iter() {
        let Some(vcpu) = vm.vcpus.get(index.get()) else {
            continue;
        };
        match vcpu.pcpu() {
            // The flag is looked at before it goes on.
            Some(pcpu) if pcpu == here.id() => {}
            Some(pcpu) => gic::kick(platform::mpidr_of(pcpu)),
            None => wake(Running { vm, vcpu }),
        }
    }
}

/// Makes a vCPU that waits runnable; no effect on others.
pub fn wake(sleeper: Running) {
    turn::wake(here(), sleeper);
}

/// Makes a vCPU that is off runnable.
pub fn start(newcomer: Running) {
    turn::start(here(), newcomer);
}

/// Forgets where vCPUs of `vm` wait: it is stopping. Those that run are interrupted.
pub fn stop(vm: &'static Vm) {
    let here = percpu::this();
    for vcpu in &vm.vcpus {
        match vcpu.pcpu() {
            Some(pcpu) if pcpu == here.id() => ask(Wanted::OFF),
            Some(pcpu) => gic::kick(platform::mpidr_of(pcpu)),
            // It finds out that its VM stops before it runs.
            None => wake(Running { vm, vcpu }),
        }
    }
}

impl Site for Pcpu {
    type Vcpu = Running;
    type Frame = Frame;

    fn pcpu(&self) -> PcpuIndex {
        self.id()
    }

    fn wanted(&self) -> &Cell<Wanted> {
        &self.wanted
    }

    fn work_at(&self) -> &Cell<u64> {
        &self.work_at
    }

    fn now(&self) -> u64 {
        timer::now()
    }

    fn slice(&self) -> u64 {
        SLICE_MS * timer::frequency() / 1000
    }

    fn arm(&self, at: u64) {
        timer::arm(at);
    }

    fn arm_no_later_than(&self, at: u64) {
        timer::arm_no_later_than(at);
    }

    fn next_tick(&self) -> u64 {
        self.watch_at.get().min(self.guest_timer_at.get())
    }

    fn tick(&self, now: u64) {
        physical_timer::look(self, now);
        if now >= self.watch_at.get() {
            self.watch_at.set(now + timer::frequency());
            IDLE[self.index].lock().mark(now);
            self.passages.tick();
            stuck::look();
            vm::pass_time();
        }
    }

    fn scheduler<R>(&self, ask: impl FnOnce(&mut Scheduler) -> R) -> R {
        ask(&mut SCHEDULER.lock())
    }

    fn kick(&self, pcpu: PcpuIndex) {
        gic::kick(platform::mpidr_of(pcpu));
    }

    fn take_pending(&self) {
        sections::take_pending();
    }

    fn idle(&self) {
        let clock = &IDLE[self.index];
        clock.lock().begin(timer::now());
        sections::outside(barrier::wait_for_interrupt);
        clock.lock().end(timer::now());
    }

    fn has_work(&self) -> bool {
        vm::has_work()
    }

    fn work_step(&self) -> bool {
        vm::work_step()
    }

    fn monitor(&self) {
        sections::lengthy(Cause::Monitor, monitor::work);
    }

    fn id(&self, vcpu: Running) -> VcpuId {
        vcpu.id()
    }

    fn by_id(&self, id: VcpuId) -> Running {
        vm::by_id(id)
    }

    fn affinity(&self, vcpu: Running) -> PcpuSet {
        vcpu.affinity()
    }

    fn gate(&self, vcpu: Running) -> Gate {
        vcpu.vm.gate()
    }

    fn current(&self) -> Option<Running> {
        self.current.get()
    }

    fn needs_fill(&self, vcpu: Running) -> bool {
        vcpu.vm.vgic.needs_fill(vcpu.vcpu.index)
    }

    fn refresh(&self, vcpu: Running) {
        refresh(self, vcpu);
    }

    fn take_off(&self, vcpu: Running, frame: &mut Frame) {
        switch::take_off(self, vcpu, frame);
    }

    fn put_on(&self, vcpu: Running, frame: &mut Frame) -> bool {
        switch::put_on(self, vcpu, frame)
    }

    fn deadline(&self, vcpu: Running) -> Option<u64> {
        vcpu.vcpu.timer_deadline(vcpu.vm)
    }

    fn has_deliverable(&self, vcpu: Running) -> bool {
        vcpu.vcpu.has_deliverable(vcpu.vm)
    }

    fn note_pause(&self, vcpu: Running) {
        vcpu.vm.note_pause();
    }

    fn rests(&self, vcpu: Running) {
        vcpu.vm.tell_if_paused();
    }

    fn ended(&self, vcpu: Running) {
        vcpu.vm.vcpu_stopped(vcpu.vcpu);
    }
}
