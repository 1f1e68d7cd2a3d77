// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A fake pCPU, whose clock advances with every reading.

use super::*;
use crate::sched::policy::Scheduler;
use crate::sched::run_queues::{pcpu_away, pcpu_back, start};
use postern_base::ids::{PcpuIndex, VcpuIndex, VmIndex};
use std::cell::Cell;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

/// The ticks of a slice.
const SLICE: u64 = 1000;
/// The time from which there is no more work, so that a test ends.
const ALL_DONE: u64 = 1000 * SLICE;
/// The interval of ticks, which come when nothing else is due.
const WATCH: u64 = 100 * SLICE;
/// An action during a resync, by the guest or by another party.
type Act = Box<dyn FnOnce(&MockPcpu)>;

const HERE: PcpuIndex = PcpuIndex::BOOT;

fn other() -> PcpuIndex {
    PcpuIndex::new(1).unwrap()
}

fn id(number: usize) -> VcpuId {
    VcpuId {
        vm: VmIndex::new(number).unwrap(),
        vcpu: VcpuIndex::BOOT,
    }
}

/// A fake pCPU 0. Each vCPU belongs to another VM.
struct MockPcpu {
    scheduler: RefCell<Scheduler>,
    requests: Cell<PcpuRequests>,
    work_at: Cell<Ticks>,
    clock: Cell<u64>,
    /// The ticks that a reading of the clock takes.
    look: Cell<u64>,
    armed: Cell<u64>,
    watch_at: Cell<u64>,
    current: Cell<Option<VcpuId>>,
    deadlines: RefCell<BTreeMap<VcpuId, u64>>,
    paused: RefCell<Vec<VcpuId>>,
    stopping: RefCell<Vec<VcpuId>>,
    /// The actions during the next resyncs of list registers, one per resync.
    in_resync: RefCell<VecDeque<Act>>,
    /// The ticks that a piece of work takes, if there is work.
    piece: Cell<Option<u64>>,
    /// Whether there is work that cannot be done yet.
    is_too_early: Cell<bool>,
    worked: Cell<u64>,
    idled: Cell<usize>,
    monitored: Cell<usize>,
    kicked: RefCell<Vec<PcpuIndex>>,
    /// The vCPUs that ran, with the start and end of each run.
    history: RefCell<Vec<(VcpuId, u64, u64)>>,
    put_on_at: Cell<u64>,
}

impl MockPcpu {
    /// Returns a pCPU with `vcpus` vCPUs, each of another VM. The first one runs.
    fn new(vcpus: usize) -> Self {
        let site = Self {
            scheduler: RefCell::new(Scheduler::new()),
            requests: Cell::new(PcpuRequests::NONE),
            work_at: Cell::new(Ticks::NEVER),
            clock: Cell::new(0),
            look: Cell::new(0),
            armed: Cell::new(u64::MAX),
            watch_at: Cell::new(WATCH),
            current: Cell::new(None),
            deadlines: RefCell::default(),
            paused: RefCell::default(),
            stopping: RefCell::default(),
            in_resync: RefCell::default(),
            piece: Cell::new(None),
            is_too_early: Cell::new(false),
            worked: Cell::new(0),
            idled: Cell::new(0),
            monitored: Cell::new(0),
            kicked: RefCell::default(),
            history: RefCell::default(),
            put_on_at: Cell::new(0),
        };
        for number in 0..vcpus {
            start(&site, id(number), PcpuSet::EMPTY.with(HERE));
        }
        prepare_entry(&site, &mut ());
        site
    }

    fn pass(&self, ticks: u64) {
        self.clock.set(self.clock.get() + ticks);
    }

    /// Lets the guest run until an interrupt or until `end`, and then EL2 serve what is pending.
    fn run_until(&self, end: u64) {
        let until = self.armed.get().min(end).max(self.clock.get());
        self.clock.set(until);
        if self.armed.get() <= until {
            self.take_pending();
        }
        if !self.requests.get().is_empty() {
            prepare_entry(self, &mut ());
        }
    }

    /// Lets guests that never wait run until `end`.
    fn spin_until(&self, end: u64) {
        while self.clock.get() < end {
            self.run_until(end);
        }
    }

    /// Makes the running guest execute WFI, with a deadline if it has one.
    fn wait(&self, deadline: Option<u64>) {
        let vcpu = self.current.get().unwrap();
        if let Some(at) = deadline {
            self.deadlines.borrow_mut().insert(vcpu, at);
        }
        request(self, PcpuRequests::BLOCK);
        prepare_entry(self, &mut ());
    }

    /// Returns how long a vCPU has run.
    fn share(&self, vcpu: VcpuId) -> u64 {
        let history = self.history.borrow();
        let mine = history.iter().filter(|&&(other, ..)| other == vcpu);
        let now =
            (self.current.get() == Some(vcpu)).then(|| self.clock.get() - self.put_on_at.get());
        mine.map(|&(_, from, to)| to - from).sum::<u64>() + now.unwrap_or(0)
    }
}

impl RunQueues for MockPcpu {
    fn pcpu(&self) -> PcpuIndex {
        HERE
    }

    fn requests(&self) -> &Cell<PcpuRequests> {
        &self.requests
    }

    fn work_at(&self) -> &Cell<Ticks> {
        &self.work_at
    }

    fn now(&self) -> Ticks {
        self.pass(self.look.get());
        Ticks::new(self.clock.get())
    }

    fn slice(&self) -> Ticks {
        Ticks::new(SLICE)
    }

    fn arm(&self, at: Ticks) {
        self.armed.set(at.get());
    }

    fn arm_no_later_than(&self, at: Ticks) {
        self.armed.set(self.armed.get().min(at.get()));
    }

    fn next_tick(&self) -> Ticks {
        Ticks::new(self.watch_at.get())
    }

    fn scheduler<R>(&self, call: impl FnOnce(&mut Scheduler) -> R) -> R {
        call(&mut self.scheduler.borrow_mut())
    }

    fn kick(&self, pcpu: PcpuIndex) {
        self.kicked.borrow_mut().push(pcpu);
    }

    fn has_work(&self) -> bool {
        self.piece.get().is_some() && self.clock.get() < ALL_DONE
    }
}

impl PcpuOps for MockPcpu {
    type Vcpu = VcpuId;
    type Frame = ();

    fn tick(&self, now: Ticks) {
        let now = now.get();
        if now >= self.watch_at.get() {
            self.watch_at.set(now + WATCH);
        }
    }

    fn take_pending(&self) {
        if self.armed.get() <= self.clock.get() {
            timer_fired(self);
        }
    }

    fn idle(&self) {
        assert_ne!(self.armed.get(), u64::MAX);
        self.idled.set(self.idled.get() + 1);
        assert!(self.idled.get() < 1000, "it does not sleep");
        self.clock.set(self.armed.get().max(self.clock.get()));
    }

    fn work_step(&self) -> bool {
        let Some(ticks) = self
            .piece
            .get()
            .filter(|_| self.has_work() && !self.is_too_early.get())
        else {
            return false;
        };
        // Like a call to OP-TEE, which the timer interrupts.
        let until = (self.clock.get() + ticks).min(self.armed.get().max(self.clock.get() + 1));
        self.worked
            .set(self.worked.get() + until - self.clock.get());
        self.clock.set(until);
        true
    }

    fn monitor(&self) {
        self.monitored.set(self.monitored.get() + 1);
    }

    fn id(&self, vcpu: VcpuId) -> VcpuId {
        vcpu
    }

    fn by_id(&self, id: VcpuId) -> VcpuId {
        id
    }

    fn affinity(&self, _: VcpuId) -> PcpuSet {
        PcpuSet::EMPTY.with(HERE)
    }

    fn run_decision(&self, vcpu: VcpuId) -> RunDecision {
        if self.stopping.borrow().contains(&vcpu) {
            RunDecision::Stop
        } else if self.paused.borrow().contains(&vcpu) {
            RunDecision::Pause
        } else {
            RunDecision::Run
        }
    }

    fn current(&self) -> Option<VcpuId> {
        self.current.get()
    }

    fn needs_flush(&self, _: VcpuId) -> bool {
        false
    }

    fn resync_lrs(&self, _: VcpuId) {
        let act = self.in_resync.borrow_mut().pop_front();
        if let Some(act) = act {
            act(self);
        }
    }

    fn vcpu_put(&self, vcpu: VcpuId, (): &mut ()) {
        assert_eq!(self.current.take(), Some(vcpu));
        let span = (vcpu, self.put_on_at.get(), self.clock.get());
        self.history.borrow_mut().push(span);
    }

    fn vcpu_load(&self, vcpu: VcpuId, (): &mut ()) -> bool {
        let is_open = self.run_decision(vcpu) == RunDecision::Run;
        if is_open {
            self.deadlines.borrow_mut().remove(&vcpu);
            assert_eq!(self.current.replace(Some(vcpu)), None);
            self.put_on_at.set(self.clock.get());
        }
        is_open
    }

    fn deadline(&self, vcpu: VcpuId) -> Option<Ticks> {
        self.deadlines.borrow().get(&vcpu).copied().map(Ticks::new)
    }

    fn has_deliverable(&self, _: VcpuId) -> bool {
        false
    }

    fn note_pause(&self, vcpu: VcpuId) {
        assert!(self.paused.borrow().contains(&vcpu));
    }

    fn parked(&self, vcpu: VcpuId) {
        assert_ne!(self.current.get(), Some(vcpu));
    }

    fn vcpu_stopped(&self, vcpu: VcpuId) {
        assert_ne!(self.current.get(), Some(vcpu));
    }
}

#[test]
fn a_slice_that_ends_between_two_clock_readings_is_over() {
    // For any duration of a reading, so that the slice ends before the first, between any two, or
    // after the last.
    for look in 1..40 {
        for late in 0..60 {
            let site = MockPcpu::new(2);
            site.look.set(look);
            site.clock.set(SLICE - 50 + late);
            // An unrelated interrupt.
            check_slice(&site);
            before_guest_if_asked(&site);
            site.spin_until(SLICE + 10 * look);
            site.run_until(SLICE + 10 * look);
            assert_eq!(site.current.get(), Some(id(1)), "{look} {late}");
        }
    }
}

fn before_guest_if_asked(site: &MockPcpu) {
    if !site.requests.get().is_empty() {
        prepare_entry(site, &mut ());
    }
}

#[test]
fn a_deadline_wakes_its_vcpu_despite_endless_work() {
    for piece in [1, 10, 100, 1_000_000] {
        let site = MockPcpu::new(1);
        site.piece.set(Some(piece));
        // No other vCPU runs, so all time until the deadline is for work.
        site.wait(Some(300));
        assert_eq!(site.current.get(), Some(id(0)), "{piece}");
        let late = site.clock.get() - 300;
        assert!(late <= piece.min(100), "{piece}: {late} late");
        assert!(site.worked.get() >= 200);
    }
}

#[test]
fn a_pcpu_sleeps_while_it_is_too_early_for_work() {
    let site = MockPcpu::new(1);
    site.piece.set(Some(10));
    site.is_too_early.set(true);
    site.wait(Some(100 * SLICE));
    assert_eq!(site.clock.get(), 100 * SLICE);
    assert!(
        (100..=101).contains(&site.idled.get()),
        "{}",
        site.idled.get()
    );
}

#[test]
fn work_does_not_end_a_slice() {
    let site = MockPcpu::new(2);
    site.piece.set(Some(10));
    for _ in 0..5 {
        // Another pCPU has announced work.
        site.pass(1);
        request(&site, PcpuRequests::WORK);
        prepare_entry(&site, &mut ());
        assert_eq!(site.current.get(), Some(id(0)), "at {}", site.clock.get());
        site.clock.set(site.clock.get().min(SLICE / 2));
    }
    site.piece.set(None);
    site.spin_until(SLICE - 1);
    assert_eq!(site.current.get(), Some(id(0)));
    site.spin_until(SLICE + 1);
    site.run_until(SLICE + 1);
    assert_eq!(site.current.get(), Some(id(1)));
}

#[test]
fn spinning_vcpus_share_equally_while_there_is_work() {
    for piece in [1, 30, 100] {
        let site = MockPcpu::new(2);
        site.piece.set(Some(piece));
        site.spin_until(200 * SLICE);
        let (a, b) = (site.share(id(0)), site.share(id(1)));
        assert!(a.abs_diff(b) <= 2 * SLICE, "{a} {b}");
        // Work gets at least a tenth of the time, so that it ends, and at most a quarter.
        let worked = site.worked.get();
        assert!(worked >= 20 * SLICE, "{worked}");
        assert!(worked <= 50 * SLICE, "{worked}");
    }
}

/// Checks a vCPU that sleeps briefly again and again, and so causes timer interrupts all the time.
#[test]
fn short_sleeps_do_not_move_work_into_the_neighbours_time() {
    let site = MockPcpu::new(2);
    site.piece.set(Some(10));
    let end = 200 * SLICE;
    while site.clock.get() < end {
        if site.current.get() == Some(id(0)) {
            site.pass(1);
            site.wait(Some(site.clock.get() + 20));
        }
        site.run_until(end);
    }
    let (worked, neighbour) = (site.worked.get(), site.share(id(1)));
    assert!(worked <= end / 4, "{worked} of {end}");
    // The neighbour's share includes work that was done while it was loaded.
    assert!(neighbour >= end * 9 / 10, "{neighbour} of {end}");
}

/// Checks two vCPUs that wake each other, so that no slice ends and the timer is armed anew each
/// time.
#[test]
fn constant_rescheduling_does_not_postpone_work() {
    let site = MockPcpu::new(2);
    site.piece.set(Some(10));
    let end = 200 * SLICE;
    while site.clock.get() < end {
        site.run_until(site.clock.get() + SLICE / 3);
        request(&site, PcpuRequests::RESCHEDULE);
        prepare_entry(&site, &mut ());
    }
    let worked = site.worked.get();
    assert!(worked >= end / 10, "{worked} of {end}");
    assert!(worked <= end / 4, "{worked} of {end}");
}

#[test]
fn a_vcpu_woken_during_a_resync_runs_without_delay() {
    for serve_requests in 1..MAX_ROUNDS {
        let site = MockPcpu::new(2);
        site.wait(None);
        assert_eq!(site.current.get(), Some(id(1)));
        // The slice is long over, but no vCPU waited.
        site.spin_until(5 * SLICE);
        for round in 1..=serve_requests {
            let is_last = round == serve_requests;
            site.in_resync.borrow_mut().push_back(Box::new(move |site| {
                if is_last {
                    wake(site, id(0), PcpuSet::EMPTY.with(HERE));
                } else {
                    request(site, PcpuRequests::MONITOR);
                }
            }));
        }
        request(&site, PcpuRequests::RESYNC_LRS);
        prepare_entry(&site, &mut ());
        assert_eq!(site.current.get(), Some(id(0)), "{serve_requests}");
        assert_eq!(site.monitored.get(), serve_requests - 1);
        assert!(site.requests.get().is_empty());
    }
}

#[test]
fn endless_requests_are_served_again_within_a_slice() {
    let site = MockPcpu::new(1);
    for _ in 0..1000 {
        site.in_resync
            .borrow_mut()
            .push_back(Box::new(|site| request(site, PcpuRequests::MONITOR)));
    }
    request(&site, PcpuRequests::RESYNC_LRS);
    prepare_entry(&site, &mut ());
    let served = 1000 - site.in_resync.borrow().len();
    assert_eq!(served, 1 + MAX_ROUNDS);
    assert!(site.armed.get() <= site.clock.get() + SLICE);
    assert!(site.requests.get().intersects(PcpuRequests::MONITOR));
}

#[test]
fn a_vm_that_pauses_or_stops_leaves_the_pcpu_to_others() {
    for stops in [false, true] {
        let site = MockPcpu::new(2);
        let list = if stops { &site.stopping } else { &site.paused };
        list.borrow_mut().push(id(0));
        request(&site, PcpuRequests::RESCHEDULE);
        prepare_entry(&site, &mut ());
        assert_eq!(site.current.get(), Some(id(1)));
        // The vCPU continues when it is woken, unless it has stopped.
        list.borrow_mut().clear();
        wake(&site, id(0), PcpuSet::EMPTY.with(HERE));
        site.spin_until(3 * SLICE);
        assert_eq!(site.share(id(0)) > 0, !stops);
    }
}

#[test]
fn vcpus_that_wait_for_an_away_pcpu_are_taken_over() {
    let site = MockPcpu::new(1);
    let both = PcpuSet::EMPTY.with(HERE).with(other());
    let here = PcpuSet::EMPTY.with(HERE);
    site.scheduler(|scheduler| {
        // On the other pCPU, 1 sleeps until 700, 2 runs, and 3 waits behind it.
        let _ = scheduler.start(id(1), PcpuSet::EMPTY.with(other()));
        assert_eq!(
            scheduler.pick(other(), Ticks::ZERO, Ticks::new(SLICE)),
            Some(id(1))
        );
        let _ = scheduler.block(id(1), other(), Some(Ticks::new(700)));
        let _ = scheduler.start(id(2), PcpuSet::EMPTY.with(other()));
        assert_eq!(
            scheduler.pick(other(), Ticks::ZERO, Ticks::new(SLICE)),
            Some(id(2))
        );
        let _ = scheduler.start(id(4), here);
        let _ = scheduler.start(id(3), both);
        assert!(scheduler.must_give_way(other()));
    });
    site.clock.set(600);
    pcpu_away(&site, other());
    assert!(site.kicked.borrow().is_empty());
    assert!(!site.scheduler(|scheduler| scheduler.must_give_way(other())));
    site.spin_until(4 * SLICE);
    assert!(site.share(id(3)) > 0);
    // The deadline of 1 has come on this pCPU, and 1 runs here, since the fake lets every vCPU run
    // here.
    assert!(site.share(id(1)) > 0);
    pcpu_back(&site, other());
    assert_eq!(*site.kicked.borrow(), [other()]);
}
