//! Puts vCPUs on pCPUs and takes them off: the one way out of every exit.
//!
//! The policy is [`super::Scheduler`]'s; here are the locks, the timer and the registers. One
//! lock guards the queues of all pCPUs. On the way of an SMC it is taken only where OP-TEE was
//! interrupted.

use super::idle::IdleClock;
use super::lists::{fill, read_back, refresh, set_timer_active};
use super::masked::Cause;
use super::{Placement, Scheduler, debug, physical_timer, sections};
use crate::arch::world::Frame;
use crate::arch::{barrier, gic, ich, percpu, percpu::Pcpu, timer};
use crate::boot::start::machine;
use crate::console::monitor::machine as monitor;
use crate::devices::mmio::Access;
use crate::devices::vgic::{CpuInterface, InterfaceRegister, VcpuSet, Vgic, Vmcr};
use crate::ids::{MAX_PCPUS, PcpuIndex};
use crate::lock::{Class, Lock};
use crate::services::stuck;
use crate::vm::{self, Running, Vm, layout};

static SCHEDULER: Lock<Scheduler> = Lock::new(Class::Scheduler, Scheduler::new());
/// Of each pCPU; written by itself only.
static IDLE: [Lock<IdleClock>; MAX_PCPUS] =
    [const { Lock::new(Class::Idle, IdleClock::new()) }; MAX_PCPUS];

/// How long a vCPU runs when others wait, in milliseconds.
const SLICE_MS: u64 = 10;

/// [`SLICE_MS`] in ticks.
fn slice() -> u64 {
    SLICE_MS * timer::frequency() / 1000
}

/// Asks for the scheduler before the guest goes on.
const RESCHEDULE: u32 = 1;
/// The list registers were read back and must be filled again.
const REFILL: u32 = 2;
/// The running vCPU waits for an interrupt.
const BLOCK: u32 = 4;
/// The running vCPU is turned off.
const OFF: u32 = 8;
/// The monitor has something to do, with no lock held.
const MONITOR: u32 = 16;
/// A piece of work for some VM is to be done.
const WORK: u32 = 32;

fn ask(what: u32) {
    let here = percpu::this();
    here.work.set(here.work.get() | what);
}

/// Has the monitor work on this pCPU, as soon as no lock is held.
pub fn ask_for_monitor() {
    ask(MONITOR);
}

/// Whether the monitor was asked for; it is not any more.
fn take_monitor(here: &Pcpu) -> bool {
    let work = here.work.get();
    here.work.set(work & !MONITOR);
    work & MONITOR != 0
}

/// How much a pCPU has had nothing to do.
pub fn idle_clock(pcpu: PcpuIndex) -> IdleClock {
    *IDLE[pcpu.get()].lock()
}

/// The first vCPU of this pCPU.
pub fn first(frame: &mut Frame) {
    sections::open();
    schedule(frame);
    sections::did(Cause::Switch);
    sections::close();
}

/// Whether there is something to do before the vCPU that is on this pCPU goes on: two loads.
#[inline]
pub fn is_wanted(here: &Pcpu, running: Running) -> bool {
    here.work.get() != 0 || running.vm.vgic.needs_fill(running.vcpu.index)
}

/// The last thing before a guest goes on.
#[inline]
pub fn before_return(frame: &mut Frame) {
    let here = percpu::this();
    let Some(running) = here.current.get() else {
        return first(frame);
    };
    if is_wanted(here, running) {
        with_work(frame, here, running);
    }
}

/// [`before_return`] after an exit at this time, in ticks, that was answered with what is usual for a trap.
#[inline]
pub fn before_return_from_trap(frame: &mut Frame, here: &Pcpu, running: Running, since: u64) {
    if is_wanted(here, running) {
        sections::open_since(since, Cause::Trap);
        with_work(frame, here, running);
    } else {
        sections::note(here, since, Cause::Trap);
    }
}

#[cold]
fn with_work(frame: &mut Frame, here: &Pcpu, running: Running) {
    sections::open();
    // First, since a command may end what runs here.
    if take_monitor(here) {
        sections::lengthy(Cause::Monitor, monitor::work);
    }
    if here.work.get() & WORK != 0 {
        here.work.set(here.work.get() & !WORK | REFILL);
        // A quarter of the time is the others'. The slice stays as long as it was: else whoever wakes up while
        // there is work could end it at once, again and again.
        do_pieces(here, running, slice() / 4);
        look_at_slice(here);
    }
    if here.work.get() & (RESCHEDULE | BLOCK | OFF) != 0 {
        schedule(frame);
    } else {
        here.work.set(here.work.get() & MONITOR);
        refresh(here, running);
    }
    sections::did(Cause::Switch);
    sections::close();
}

/// Does a piece of work for some VM. Where that is a call to OP-TEE, it is interrupted after `most`
/// ticks, or when something else is due.
fn do_a_piece(most: u64) -> bool {
    if !vm::has_work() {
        return false;
    }
    timer::arm_no_later_than(timer::now() + most);
    vm::work_step()
}

/// Does pieces of work for VMs, for `most` ticks or a piece more, and takes interrupts in between. An interrupt for
/// the guest that waits here ends it.
fn do_pieces(here: &Pcpu, running: Running, most: u64) {
    let end = timer::now() + most;
    loop {
        let left = end.saturating_sub(timer::now());
        if left == 0 || !do_a_piece(left) {
            return;
        }
        sections::take_pending();
        if here.work.get() & MONITOR != 0 || running.vm.vgic.needs_fill(running.vcpu.index) {
            return;
        }
    }
}

/// There is work for some VM, which pCPUs are to do that have nothing else to do.
pub fn work_waits() {
    let here = percpu::this();
    for pcpu in machine().cpus.list() {
        let mpidr = pcpu.mpidr.get();
        if mpidr != vm::mpidr_of(here.id()) {
            gic::kick(mpidr);
        }
    }
    ask(WORK);
}

/// The vCPUs of `vm` that run are to ask whether they may.
pub fn look_around(vm: &'static Vm) {
    let here = percpu::this();
    for vcpu in &vm.vcpus {
        match vcpu.pcpu() {
            Some(pcpu) if pcpu == here.id() => ask(RESCHEDULE),
            Some(pcpu) => gic::kick(vm::mpidr_of(pcpu)),
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

/// The guest executed WFI; `frame` is behind it already.
pub fn wait_for_interrupt(running: Running) {
    read_back(percpu::this(), running);
    ask(REFILL);
    let vmcr = Vmcr::from_bits(ich::vmcr());
    if !running
        .vm
        .vgic
        .has_deliverable_through(running.vcpu.index, vmcr)
    {
        ask(BLOCK);
    }
}

/// The guest has nothing to do for a while, but can go on.
pub fn yield_now() {
    ask(RESCHEDULE);
}

/// The running vCPU ends: PSCI CPU_OFF, or its VM stops.
pub fn turn_off() {
    ask(OFF);
}

/// Another pCPU wants this one to look around.
pub fn kicked() {
    let here = percpu::this();
    if let Some(running) = here.current.get() {
        read_back(here, running);
        ask(REFILL);
        if !running.vm.may_run() {
            ask(RESCHEDULE);
        }
    }
    look_at_slice(here);
}

/// Gives way if the slice is over and somebody waits; else sees to it that the timer says so.
fn look_at_slice(here: &Pcpu) {
    if SCHEDULER.lock().slice_is_over(here.id(), timer::now()) {
        ask(RESCHEDULE);
    }
    arm_timer(here);
}

/// EL2's timer fired: a slice is over, or a waiting vCPU's time has come.
pub fn timer_fired() {
    let here = percpu::this();
    let now = timer::now();
    let pcpu = here.id();
    loop {
        let expired = SCHEDULER.lock().expired(pcpu, now);
        let Some(id) = expired else { break };
        wake(vm::by_id(id));
    }
    physical_timer::look(here, now);
    if now >= here.watch_at.get() {
        here.watch_at.set(now + timer::frequency());
        IDLE[pcpu.get()].lock().mark(now);
        stuck::look();
        vm::pass_time();
    }
    // Busy pCPUs too do their part, a piece at a time: a VM's start or end must not wait until its
    // neighbours are idle.
    if vm::has_work() {
        ask(WORK);
    }
    look_at_slice(here);
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
    let here = percpu::this();
    if let Some(running) = here.current.get() {
        read_back(here, running);
        ask(REFILL);
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
            Some(pcpu) => gic::kick(vm::mpidr_of(pcpu)),
            None => wake(Running { vm, vcpu }),
        }
    }
}

/// Makes a vCPU that waits runnable; no effect on others.
pub fn wake(sleeper: Running) {
    let placed = SCHEDULER.lock().wake(sleeper.id(), sleeper.affinity());
    placed_on(placed);
}

/// Makes a vCPU that is off runnable.
pub fn start(newcomer: Running) {
    let placed = SCHEDULER.lock().start(newcomer.id(), newcomer.affinity());
    placed_on(placed);
}

fn placed_on(placed: Option<Placement>) {
    let here = percpu::this();
    match placed {
        Some(Placement { pcpu, .. }) if pcpu == here.id() => look_at_slice(here),
        Some(Placement { pcpu, .. }) => gic::kick(vm::mpidr_of(pcpu)),
        None => {}
    }
}

/// Takes the current vCPU off if it is to leave, and puts the next one on.
fn schedule(frame: &mut Frame) {
    let here = percpu::this();
    let pcpu = here.id();
    let work = here.work.replace(here.work.get() & MONITOR);
    if let Some(running) = here.current.get() {
        let leaves = work & (BLOCK | OFF) != 0 || !running.vm.may_run();
        if !leaves && !SCHEDULER.lock().must_give_way(pcpu) {
            refresh(here, running);
            arm_timer(here);
            return;
        }
        if running.vm.is_paused() {
            running.vm.note_pause();
        }
        take_off(here, running, frame);
        if work & OFF != 0 || running.vm.is_stopping() {
            end(running);
        } else if running.vm.is_paused() {
            rest(running, pcpu);
        } else if work & BLOCK != 0 {
            let deadline = running.vcpu.timer_deadline(running.vm);
            let placed = SCHEDULER.lock().block(running.id(), pcpu, deadline);
            placed_on(placed);
            // What came between the guest's WFI and now found nobody to wake.
            let ready = deadline.is_some_and(|at| at <= timer::now())
                || running.vm.is_stopping()
                || running.vcpu.has_deliverable(running.vm);
            if ready {
                wake(running);
            }
        } else {
            let placed = SCHEDULER.lock().requeue(running.id(), pcpu);
            placed_on(placed);
        }
    }
    loop {
        let now = timer::now();
        let next = SCHEDULER.lock().pick(pcpu, now, slice());
        if let Some(id) = next {
            let running = vm::by_id(id);
            // What was asked of the one before. Else its slice's end would end this one's as well.
            here.work.set(here.work.get() & (MONITOR | WORK));
            if put_on(here, running, frame) {
                arm_timer(here);
                return;
            }
            if running.vm.is_stopping() {
                end(running);
            } else {
                rest(running, pcpu);
            }
            continue;
        }
        // No slice is running here. Whoever waits for a time is woken in time, work or not.
        arm_timer(here);
        if !do_a_piece(slice()) && here.work.get() & MONITOR == 0 {
            let idle = &IDLE[pcpu.get()];
            idle.lock().begin(timer::now());
            sections::outside(barrier::wait_for_interrupt);
            idle.lock().end(timer::now());
        }
        sections::take_pending();
        if take_monitor(here) {
            sections::lengthy(Cause::Monitor, monitor::work);
        }
        here.work.set(here.work.get() & MONITOR);
    }
}

/// The vCPU, which is on no pCPU, waits until its VM goes on.
fn rest(running: Running, pcpu: PcpuIndex) {
    let placed = SCHEDULER.lock().block(running.id(), pcpu, None);
    placed_on(placed);
    running.vm.tell_if_paused();
    // A VM that went on or stopped before now found nobody to wake.
    if !running.vm.is_paused() {
        wake(running);
    }
}

fn take_off(here: &Pcpu, running: Running, frame: &Frame) {
    read_back(here, running);
    ich::set_hcr(0);
    let mut saved = running.vcpu.saved.lock();
    saved.frame = frame.clone();
    saved.context.save(here.switched);
    drop(saved);
    if here.timer_is_active.get() {
        set_timer_active(here, false);
    }
    debug::take_off(here);
    here.guest_timer_at.set(u64::MAX);
    here.current.set(None);
    running.vcpu.seat.leave();
}

/// Puts a vCPU on this pCPU; `false` where its VM is paused or stopping, so that it must not run.
fn put_on(here: &Pcpu, running: Running, frame: &mut Frame) -> bool {
    // `stop` asks who is where after it has said that the VM stops.
    let seat = &running.vcpu.seat;
    if !seat.take(here.id(), || !running.vm.may_run()) {
        return false;
    }
    here.current.set(Some(running));
    let saved = running.vcpu.saved.lock();
    *frame = saved.frame.clone();
    saved
        .context
        .load(&running.vcpu.machine(running.vm), here.switched);
    debug::put_on(here, &saved.debug);
    // Two vCPUs of a VM share its VMID, and may use one address space identifier differently.
    let last = &here.last_vcpu[running.vm.index.get()];
    if last.replace(Some(running.vcpu.index)) != Some(running.vcpu.index) {
        barrier::invalidate_guest_tlb();
    }
    drop(saved);
    physical_timer::settle(here, running);
    fill(here, running);
    true
}

/// A vCPU that is on no pCPU does not run again.
fn end(running: Running) {
    SCHEDULER.lock().off(running.id());
    running.vm.vcpu_stopped(running.vcpu);
}

/// The guest ends an interrupt by a trapped write to ICC_DIR_EL1.
pub fn deactivate(running: Running, value: u64) {
    read_back(percpu::this(), running);
    ask(REFILL);
    let vmcr = Vmcr::from_bits(ich::vmcr());
    let set = running.vm.vgic.deactivate(running.vcpu.index, vmcr, value);
    kick(running.vm, set);
}

/// A guest's access to a register of its CPU interface that traps together with ICC_DIR_EL1 ([`Hcr::TC`]): the
/// write of a value, or a read, and its result.
///
/// [`Hcr::TC`]: crate::devices::vgic::Hcr::TC
pub fn interface_access(running: Running, register: InterfaceRegister, write: Option<u64>) -> u64 {
    // What traps follows from ICC_CTLR_EL1.EOImode.
    read_back(percpu::this(), running);
    ask(REFILL);
    let mut interface = CpuInterface {
        vmcr: Vmcr::from_bits(ich::vmcr()),
        vtr: ich::vtr(),
        active: ich::active_priorities(),
    };
    let value = interface.access(register, write);
    if write.is_some() {
        ich::set_vmcr(interface.vmcr.bits());
    }
    value
}

/// What came of an access to the vGIC.
pub enum VgicAnswer {
    /// The value read; zero for a write.
    Value(u64),
    /// The guest is to try again.
    Again,
    /// There is no register.
    Nothing,
}

/// An access of the running vCPU to its distributor or redistributors.
pub fn vgic_access(running: Running, device: layout::Device, access: Access) -> VgicAnswer {
    if Vgic::wants_sync(&access) {
        read_back(percpu::this(), running);
        ask(REFILL);
    }
    running.vm.vgic_access(running.vcpu, device, &access)
}

/// Has EL2's timer interrupt when something is due on this pCPU.
fn arm_timer(here: &Pcpu) {
    let scheduler = SCHEDULER.lock();
    let pcpu = here.id();
    // What is asked for already needs no interrupt, which would come at once, again and again. What is not
    // does: the slice may have ended since somebody looked.
    let now = timer::now();
    let is_asked = here.work.get() & RESCHEDULE != 0;
    let event = if is_asked && scheduler.slice_is_over(pcpu, now) {
        None
    } else {
        let for_work = vm::has_work().then(|| now + slice());
        scheduler.next_event(pcpu).into_iter().chain(for_work).min()
    };
    let watch = here.watch_at.get().min(here.guest_timer_at.get());
    let event = event.map_or(watch, |event| event.min(watch));
    drop(scheduler);
    timer::arm(event);
}

/// Forgets where vCPUs of `vm` wait: it is stopping. Those that run are interrupted.
pub fn stop(vm: &'static Vm) {
    let here = percpu::this();
    for vcpu in &vm.vcpus {
        match vcpu.pcpu() {
            Some(pcpu) if pcpu == here.id() => ask(OFF),
            Some(pcpu) => gic::kick(vm::mpidr_of(pcpu)),
            // It finds out that its VM stops before it runs.
            None => wake(Running { vm, vcpu }),
        }
    }
}

const _: () = assert!(size_of::<PcpuIndex>() == 1);
