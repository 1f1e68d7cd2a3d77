// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::*;
use postern_base::ids::{VcpuIndex, VmIndex};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const SLICE: u64 = 10;

const fn t(ticks: u64) -> Ticks {
    Ticks::new(ticks)
}

fn id(number: usize) -> VcpuId {
    VcpuId {
        vm: VmIndex::new(number / MAX_VCPUS).unwrap(),
        vcpu: VcpuIndex::new(number % MAX_VCPUS).unwrap(),
    }
}

fn pcpu(index: usize) -> PcpuIndex {
    PcpuIndex::new(index).unwrap()
}

fn set(indices: impl IntoIterator<Item = usize>) -> PcpuSet {
    indices
        .into_iter()
        .fold(PcpuSet::EMPTY, |set, index| set.with(pcpu(index)))
}

fn at(index: usize) -> Option<PcpuIndex> {
    Some(pcpu(index))
}

impl Scheduler {
    /// Returns when the scheduler must be called again on `pcpu`.
    fn next_event(&self, pcpu: PcpuIndex) -> Option<u64> {
        let slice_end = self.slice_end(pcpu);
        let event = slice_end.into_iter().chain(self.deadline(pcpu)).min();
        event.map(Ticks::get)
    }

    /// Checks the invariants: a vCPU is in one place, which its state names, and may be there.
    fn check(&self) {
        let mut seen = BTreeMap::new();
        for (index, here) in self.pcpus.iter().enumerate() {
            for &id in here.queue.iter().chain(&here.current) {
                assert_eq!(seen.insert(id, index), None, "{id:?} is in two places");
                let vcpu = self.vcpus[id.vm.get()][id.vcpu.get()];
                assert!(vcpu.affinity.contains(pcpu(index)), "{id:?} on {index}");
                let expected = if here.current == Some(id) {
                    matches!(vcpu.place, VcpuPlace::Running { on, .. } if on == pcpu(index))
                } else {
                    vcpu.place == VcpuPlace::Queued(pcpu(index))
                };
                assert!(expected, "{id:?} on {index}: {:?}", vcpu.place);
                let elsewhere = vcpu.affinity.iter().any(|other| !self.away.contains(other));
                let strands = elsewhere && self.away.contains(pcpu(index));
                assert!(!strands || here.current == Some(id), "{id:?} on {index}");
            }
        }
        for number in 0..MAX_VCPUS_OF_ALL {
            let vcpu = self.vcpus[id(number).vm.get()][id(number).vcpu.get()];
            let runs = matches!(vcpu.place, VcpuPlace::Running { .. } | VcpuPlace::Queued(_));
            assert_eq!(runs, seen.contains_key(&id(number)), "{number}");
        }
    }
}

#[test]
fn the_first_vcpus_spread_out() {
    let mut scheduler = Scheduler::new();
    for number in 0..4 {
        assert_eq!(scheduler.start(id(number), set(0..4)), at(number));
    }
    assert_eq!(scheduler.start(id(4), set(0..4)), at(0));
    assert_eq!(scheduler.start(id(5), set([0, 2])), at(2));
    assert_eq!(scheduler.start(id(5), set(0..4)), None, "it is on");
    assert_eq!(scheduler.start(id(6), PcpuSet::EMPTY), None);
    scheduler.check();
}

#[test]
fn a_vcpu_wakes_where_it_waits_least() {
    let mut scheduler = Scheduler::new();
    let all = set(0..3);
    for number in 0..3 {
        let _ = scheduler.start(id(number), all);
        assert_eq!(
            scheduler.pick(pcpu(number), t(0), t(SLICE)),
            Some(id(number))
        );
    }
    // Its own pCPU is idle.
    let _ = scheduler.block(id(1), pcpu(1), None);
    assert_eq!(scheduler.pick(pcpu(1), t(0), t(SLICE)), None);
    assert_eq!(scheduler.wake(id(1), all), at(1));
    assert_eq!(scheduler.wake(id(1), all), None, "it waits already");
    assert_eq!(scheduler.pick(pcpu(1), t(0), t(SLICE)), Some(id(1)));
    // Its own is busy with another vCPU; an idle one is preferred.
    let _ = scheduler.block(id(1), pcpu(1), None);
    let _ = scheduler.start(id(3), set([1]));
    assert_eq!(scheduler.pick(pcpu(1), t(0), t(SLICE)), Some(id(3)));
    let _ = scheduler.block(id(2), pcpu(2), None);
    assert_eq!(scheduler.wake(id(1), all), at(2));
    // All are equally busy, so its own is preferred.
    assert_eq!(scheduler.wake(id(2), all), at(2));
    scheduler.check();
}

#[test]
fn a_lone_vcpu_has_no_slice_end() {
    let mut scheduler = Scheduler::new();
    let _ = scheduler.start(id(0), set([0]));
    assert_eq!(scheduler.pick(pcpu(0), t(100), t(SLICE)), Some(id(0)));
    assert_eq!(scheduler.next_event(pcpu(0)), None);
    assert!(!scheduler.slice_is_over(pcpu(0), t(1000)));
    assert!(!scheduler.must_give_way(pcpu(0)));
    // When another vCPU comes after the end of the slice, it need not wait.
    let _ = scheduler.start(id(1), set([0]));
    assert_eq!(scheduler.next_event(pcpu(0)), Some(110));
    assert!(!scheduler.slice_is_over(pcpu(0), t(109)));
    assert!(scheduler.slice_is_over(pcpu(0), t(110)));
    let _ = scheduler.requeue(id(0), pcpu(0));
    assert_eq!(scheduler.pick(pcpu(0), t(1000), t(SLICE)), Some(id(1)));
    assert_eq!(scheduler.next_event(pcpu(0)), Some(1010));
    scheduler.check();
}

#[test]
fn blocked_vcpus_expire_at_their_deadlines() {
    let mut scheduler = Scheduler::new();
    let here = pcpu(0);
    for (number, deadline) in [(0, Some(50)), (1, None), (2, Some(30)), (3, Some(40))] {
        let _ = scheduler.start(id(number), set([0]));
        assert_eq!(scheduler.pick(here, t(0), t(SLICE)), Some(id(number)));
        let _ = scheduler.block(id(number), here, deadline.map(t));
    }
    assert_eq!(scheduler.next_event(here), Some(30));
    assert_eq!(scheduler.expired(here, t(29)), None);
    assert_eq!(scheduler.expired(here, t(45)), Some(id(2)));
    assert_eq!(scheduler.expired(here, t(45)), Some(id(3)));
    assert_eq!(scheduler.expired(here, t(45)), None);
    assert_eq!(scheduler.wake(id(2), set([0])), at(0));
    // A vCPU that was woken otherwise or turned off has no deadline any more.
    assert_eq!(scheduler.wake(id(0), set([0])), at(0));
    scheduler.off(id(3));
    assert_eq!(scheduler.expired(here, t(u64::MAX)), None);
    scheduler.check();
}

#[test]
fn a_wake_up_just_before_a_block_is_not_lost() {
    let mut scheduler = Scheduler::new();
    let _ = scheduler.start(id(0), set([0]));
    scheduler.pick(pcpu(0), t(0), t(SLICE));
    assert_eq!(scheduler.wake(id(0), set([0])), None);
    let _ = scheduler.block(id(0), pcpu(0), None);
    assert_eq!(scheduler.pick(pcpu(0), t(0), t(SLICE)), Some(id(0)));
    // The wake-up is used up.
    let _ = scheduler.block(id(0), pcpu(0), None);
    assert_eq!(scheduler.pick(pcpu(0), t(0), t(SLICE)), None);
}

#[test]
fn a_requeued_vcpu_moves_where_it_waits_less() {
    let mut scheduler = Scheduler::new();
    let _ = scheduler.start(id(0), set([0, 1]));
    assert_eq!(scheduler.pick(pcpu(0), t(0), t(SLICE)), Some(id(0)));
    assert_eq!(scheduler.start(id(1), set([0])), at(0));
    assert_eq!(scheduler.requeue(id(0), pcpu(0)), at(1));
    assert_eq!(scheduler.pick(pcpu(0), t(0), t(SLICE)), Some(id(1)));
    assert_eq!(scheduler.pick(pcpu(1), t(0), t(SLICE)), Some(id(0)));
    scheduler.check();
}

#[test]
fn an_idle_pcpu_steals_a_waiting_vcpu() {
    let mut scheduler = Scheduler::new();
    let _ = scheduler.start(id(0), set([0]));
    let _ = scheduler.start(id(1), set([0]));
    let _ = scheduler.start(id(2), set([1]));
    let _ = scheduler.start(id(3), set([0, 1]));
    // vCPU 3 waits for pCPU 1, behind 2. pCPU 0 runs 0, then 1, and turns both off.
    assert_eq!(scheduler.pick(pcpu(1), t(0), t(SLICE)), Some(id(2)));
    for number in [0, 1] {
        assert_eq!(scheduler.pick(pcpu(0), t(0), t(SLICE)), Some(id(number)));
        scheduler.off(id(number));
    }
    assert_eq!(scheduler.pick(pcpu(0), t(0), t(SLICE)), Some(id(3)));
    scheduler.off(id(3));
    assert_eq!(
        scheduler.pick(pcpu(0), t(0), t(SLICE)),
        None,
        "2 runs already, and may not run here"
    );
    scheduler.check();
}

#[test]
fn off_works_from_every_place() {
    let mut scheduler = Scheduler::new();
    for number in 0..3 {
        let _ = scheduler.start(id(number), set([0]));
    }
    scheduler.pick(pcpu(0), t(0), t(SLICE));
    let _ = scheduler.block(id(0), pcpu(0), Some(t(5)));
    scheduler.pick(pcpu(0), t(0), t(SLICE));
    for number in 0..4 {
        scheduler.off(id(number));
        scheduler.check();
    }
    assert_eq!(scheduler.next_event(pcpu(0)), None);
    assert_eq!(scheduler.pick(pcpu(0), t(0), t(SLICE)), None);
    assert_eq!(scheduler.wake(id(0), set([0])), None);
    assert_eq!(scheduler.start(id(0), set([0])), at(0));
}

#[test]
fn vcpus_that_wait_for_an_away_pcpu_move_elsewhere() {
    let mut scheduler = Scheduler::new();
    let (gone, heir) = (pcpu(1), pcpu(0));
    // On the pCPU that goes away, 0 runs; 1 and 2 wait for it, and 1 can run nowhere else; 3 and 4
    // sleep.
    for (number, affinity) in [(3, set([1])), (4, set([1, 2]))] {
        let _ = scheduler.start(id(number), affinity);
        assert_eq!(scheduler.pick(gone, t(0), t(SLICE)), Some(id(number)));
        let _ = scheduler.block(id(number), gone, Some(t(50 + number as u64)));
    }
    for (number, affinity) in [(0, set([1])), (1, set([1])), (2, set([1, 2]))] {
        let _ = scheduler.start(id(number), affinity);
        if number == 0 {
            assert_eq!(scheduler.pick(gone, t(0), t(SLICE)), Some(id(0)));
            // So that 2 is queued beside 0 and 1.
            for other in 10..14 {
                let _ = scheduler.start(id(other), set([2]));
            }
        }
    }
    assert_eq!(scheduler.pick(pcpu(2), t(0), t(SLICE)), Some(id(10)));
    assert_eq!(scheduler.set_away(gone, heir), set([0, 2]));
    scheduler.check();
    assert_eq!(scheduler.next_event(heir), Some(53));
    assert_eq!(scheduler.expired(gone, t(100)), None);
    assert_eq!(scheduler.expired(heir, t(100)), Some(id(3)));
    assert_eq!(scheduler.expired(heir, t(100)), Some(id(4)));
    // vCPU 3 can run nowhere else, so it waits there. vCPU 4 and a new one do not, however long the
    // other queues are.
    assert_eq!(scheduler.wake(id(3), set([1])), at(1));
    assert_eq!(scheduler.wake(id(4), set([1, 2])), at(2));
    assert_eq!(scheduler.start(id(5), set([1, 2])), at(2));
    scheduler.check();
    // A pCPU that is back goes on with the vCPUs that waited there all the time, and is like the
    // others again.
    assert_eq!(scheduler.set_back(gone), set([1]));
    scheduler.off(id(0));
    for number in [1, 3] {
        assert_eq!(scheduler.pick(gone, t(200), t(SLICE)), Some(id(number)));
        scheduler.off(id(number));
    }
    assert_eq!(
        scheduler.pick(gone, t(200), t(SLICE)),
        Some(id(2)),
        "it steals a waiting vCPU"
    );
    assert_eq!(scheduler.start(id(6), set([1, 2])), at(1));
    scheduler.check();
}

#[test]
fn a_deadline_moves_on_when_its_heir_goes_away() {
    let mut scheduler = Scheduler::new();
    let _ = scheduler.start(id(0), set(0..3));
    assert_eq!(scheduler.pick(pcpu(0), t(0), t(SLICE)), Some(id(0)));
    let _ = scheduler.block(id(0), pcpu(0), Some(t(7)));
    assert_eq!(scheduler.set_away(pcpu(0), pcpu(1)), set([1]));
    assert_eq!(scheduler.set_away(pcpu(1), pcpu(2)), set([2]));
    assert_eq!(scheduler.set_away(pcpu(1), pcpu(2)), PcpuSet::EMPTY, "once");
    assert_eq!(scheduler.next_event(pcpu(2)), Some(7));
    // A vCPU that was woken otherwise has no deadline any more.
    assert_eq!(scheduler.wake(id(0), set(0..3)), at(2));
    assert_eq!(scheduler.deadline(pcpu(2)), None);
    scheduler.check();
}

/// A machine that drives a [`Scheduler`] as the hypervisor does, and checks it.
struct Machine {
    scheduler: Scheduler,
    pcpus: usize,
    affinity: Vec<PcpuSet>,
    now: u64,
    running: Vec<Option<VcpuId>>,
    /// The pCPUs that stay in the secure world.
    away: PcpuSet,
    /// The vCPUs that can only wait for one of these.
    stranded: BTreeSet<VcpuId>,
    /// The deadlines of the vCPUs that sleep.
    deadlines: BTreeMap<VcpuId, u64>,
    /// The time by which each waiting vCPU must have run.
    must_run_by: BTreeMap<VcpuId, u64>,
}

impl Machine {
    fn new(pcpus: usize, affinity: &[u8]) -> Self {
        let affinity: Vec<_> = affinity
            .iter()
            .map(|&mask| {
                let allowed = set((0..pcpus).filter(|&index| mask >> index & 1 == 1));
                if allowed.is_empty() {
                    set(0..pcpus)
                } else {
                    allowed
                }
            })
            .collect();
        let mut machine = Self {
            scheduler: Scheduler::new(),
            pcpus,
            running: vec![None; pcpus],
            now: 0,
            away: PcpuSet::EMPTY,
            stranded: BTreeSet::new(),
            deadlines: BTreeMap::new(),
            must_run_by: BTreeMap::new(),
            affinity,
        };
        for number in 0..machine.affinity.len() {
            let placed = machine
                .scheduler
                .start(id(number), machine.affinity[number]);
            machine.placed(id(number), placed);
        }
        machine
    }

    fn affinity(&self, id: VcpuId) -> PcpuSet {
        self.affinity[id.vm.get() * MAX_VCPUS + id.vcpu.get()]
    }

    fn placed(&mut self, id: VcpuId, placed: Option<PcpuIndex>) {
        let Some(pcpu) = placed else {
            return;
        };
        self.deadlines.remove(&id);
        if self.away.contains(pcpu) {
            let others = self
                .affinity(id)
                .iter()
                .any(|other| !self.away.contains(other));
            assert!(!others, "{id:?} was put where nothing runs");
            self.stranded.insert(id);
            return;
        }
        self.waits(id, pcpu);
        if self.running[pcpu.get()].is_none() {
            self.pick(pcpu);
        }
    }

    /// Makes a pCPU stay in the secure world with the vCPU that runs there. Another pCPU, which is
    /// not away, notices.
    fn set_away(&mut self, pcpu: PcpuIndex) {
        let mut left = (0..self.pcpus).map(super::tests::pcpu);
        let heir = left.rfind(|&other| other != pcpu && !self.away.contains(other));
        let Some(heir) = heir.filter(|_| !self.away.contains(pcpu)) else {
            return;
        };
        self.away = self.away.with(pcpu);
        for id in &self.scheduler.pcpus[pcpu.get()].queue {
            self.must_run_by.remove(id);
        }
        let told = self.scheduler.set_away(pcpu, heir);
        assert!(!told.contains(pcpu));
        self.moved(told);
    }

    /// Brings a pCPU back, if it was away.
    fn set_back(&mut self, pcpu: PcpuIndex) {
        if self.away.contains(pcpu) {
            self.away = self.away.without(pcpu);
            let told = self.scheduler.set_back(pcpu);
            assert!(told.contains(pcpu));
            self.moved(told);
        }
    }

    /// Updates the vCPUs that now wait elsewhere: their turn counts from now on, or they are
    /// stranded.
    fn moved(&mut self, told: PcpuSet) {
        for pcpu in (0..self.pcpus).map(pcpu) {
            for (before, &id) in self.scheduler.pcpus[pcpu.get()].queue.iter().enumerate() {
                if self.away.contains(pcpu) {
                    self.stranded.insert(id);
                } else if !self.must_run_by.contains_key(&id) {
                    assert!(told.contains(pcpu));
                    self.stranded.remove(&id);
                    let turns = before as u64 + 1;
                    self.must_run_by.insert(id, self.now + turns * SLICE);
                }
            }
        }
        for pcpu in told.iter() {
            if self.running[pcpu.get()].is_none() {
                self.pick(pcpu);
            }
        }
    }

    /// Sets the time by which `id` must run: one slice for each vCPU before it in the queue and for
    /// the one that runs.
    fn waits(&mut self, id: VcpuId, pcpu: PcpuIndex) {
        let before = self.scheduler.pcpus[pcpu.get()].load() as u64 - 1;
        self.must_run_by.insert(id, self.now + before * SLICE);
    }

    fn pick(&mut self, pcpu: PcpuIndex) {
        let next = self.scheduler.pick(pcpu, t(self.now), t(SLICE));
        self.running[pcpu.get()] = next;
        if let Some(id) = next {
            let by = self.must_run_by.remove(&id);
            let in_time = by.is_some_and(|by| self.now <= by);
            assert!(in_time || self.stranded.remove(&id), "{id:?} starved");
        }
    }

    /// Handles that `id` ran on `pcpu` until now.
    fn leaves(&mut self, id: VcpuId, pcpu: PcpuIndex, placed: Option<PcpuIndex>) {
        self.placed(id, placed);
        if self.running[pcpu.get()].is_none() {
            self.pick(pcpu);
        }
    }

    fn wake(&mut self, id: VcpuId) {
        let placed = self.scheduler.wake(id, self.affinity(id));
        self.placed(id, placed);
    }

    fn block(&mut self, pcpu: PcpuIndex, deadline: Option<u64>) {
        if self.away.contains(pcpu) {
            return;
        }
        if let Some(id) = self.running[pcpu.get()].take() {
            if let Some(at) = deadline {
                self.deadlines.insert(id, at);
            }
            let placed = self.scheduler.block(id, pcpu, deadline.map(t));
            self.leaves(id, pcpu, placed);
        }
    }

    /// Advances the time to the next event of any pCPU, by at most `most` ticks.
    fn advance(&mut self, most: u64) {
        let away = self.away;
        let indices = (0..self.pcpus).map(pcpu);
        let indices = indices.filter(|&pcpu| !away.contains(pcpu));
        let next = indices
            .filter_map(|pcpu| self.scheduler.next_event(pcpu))
            .min();
        let end = self.now + most;
        self.now = next.map_or(end, |at| at.clamp(self.now, end));
        for pcpu in (0..self.pcpus).map(pcpu) {
            if self.away.contains(pcpu) {
                continue;
            }
            while let Some(id) = self.scheduler.expired(pcpu, t(self.now)) {
                self.wake(id);
            }
            if self.scheduler.slice_is_over(pcpu, t(self.now)) {
                let id = self.running[pcpu.get()].take().unwrap();
                let placed = self.scheduler.requeue(id, pcpu);
                self.leaves(id, pcpu, placed);
            }
        }
    }

    fn check(&self) {
        self.scheduler.check();
        for (pcpu, running) in self.running.iter().enumerate() {
            assert_eq!(self.scheduler.pcpus[pcpu].current, *running);
            if self.away.contains(super::tests::pcpu(pcpu)) {
                continue;
            }
            if running.is_none() {
                for other in &self.scheduler.pcpus {
                    let helpless =
                        |&id: &VcpuId| !self.affinity(id).contains(super::tests::pcpu(pcpu));
                    assert!(other.queue.iter().all(helpless), "{pcpu} idles");
                }
            }
        }
        for (id, &by) in &self.must_run_by {
            assert!(self.now <= by, "{id:?} starves");
        }
        for (id, &at) in &self.deadlines {
            assert!(self.now <= at, "{id:?} sleeps for too long");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Checks, whatever vCPUs do and whichever pCPUs stay in the secure world for a while: no vCPU
    /// is in two places or where it may not be. None that could run elsewhere starves or sleeps for
    /// too long. No pCPU idles while a waiting vCPU could run there.
    #[test]
    fn invariants_hold_on_a_busy_machine(
        pcpus in 1..=MAX_PCPUS,
        affinity in proptest::collection::vec(any::<u8>(), 1..=MAX_VCPUS_OF_ALL),
        steps in proptest::collection::vec((0..6_u8, any::<u8>(), 0..40_u64), 0..200),
    ) {
        let mut machine = Machine::new(pcpus, &affinity);
        machine.check();
        for (what, which, time) in steps {
            let vcpu = id(usize::from(which) % affinity.len());
            let here = pcpu(usize::from(which) % pcpus);
            match what {
                0 => machine.advance(time),
                1 => machine.wake(vcpu),
                2 => machine.block(here, Some(machine.now + time)),
                3 => machine.block(here, None),
                4 => machine.set_away(here),
                _ => machine.set_back(here),
            }
            machine.check();
        }
        for here in (0..pcpus).map(pcpu) {
            machine.set_back(here);
        }
        // Once no vCPU blocks any more, every vCPU gets its turn.
        for number in 0..affinity.len() {
            machine.wake(id(number));
        }
        for _ in 0..3 * affinity.len() {
            machine.advance(SLICE);
            machine.check();
        }
    }
}
