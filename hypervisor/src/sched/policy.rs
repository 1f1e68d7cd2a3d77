// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which vCPU runs where, and for how long: the policy alone.
//!
//! Each pCPU has a queue and takes its vCPUs in turn. Who wakes goes where it was, or to an idle
//! pCPU that it may use, or to the shortest queue; who finds its own queue empty takes from
//! another. So no pCPU idles while a vCPU that may run there waits, and nobody waits for more
//! slices than there were vCPUs before it in the queue.
//!
//! A pCPU that stays in the secure world keeps what runs there, and nothing else: others take over who waits for
//! it and whose deadline it watches, and nobody is put there who can run elsewhere, until it is back.
//!
//! Times are counter ticks. Nothing here knows of locks, timers or registers.

use super::deadlines::Deadlines;
use heapless::Deque;
use postern_base::ids::{
    MAX_PCPUS, MAX_VCPUS, MAX_VCPUS_OF_ALL, MAX_VMS, PcpuIndex, PcpuSet, VcpuId,
};
use postern_base::ticks::Ticks;

/// Where a vCPU is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum VcpuPlace {
    /// Nowhere: it is turned off.
    Off,
    /// It waits to be woken; this pCPU, where it ran unless that one was lost since, watches its deadline.
    Blocked(PcpuIndex),
    /// It waits for this pCPU.
    Queued(PcpuIndex),
    /// It runs. `woken`: somebody woke it since it was picked, having seen it wait before it was
    /// known here that it does.
    Running { on: PcpuIndex, woken: bool },
}

#[derive(Clone, Copy, Debug)]
struct VcpuEntry {
    place: VcpuPlace,
    affinity: PcpuSet,
}

#[derive(Debug)]
struct RunQueue {
    /// Who is next, from the front on.
    queue: Deque<VcpuId, MAX_VCPUS_OF_ALL>,
    current: Option<VcpuId>,
    /// When `current` has had its turn, if others wait.
    slice_end: Ticks,
    deadlines: Deadlines,
}

impl RunQueue {
    const fn new() -> Self {
        Self {
            queue: Deque::new(),
            current: None,
            slice_end: Ticks::ZERO,
            deadlines: Deadlines::new(),
        }
    }

    /// How many vCPUs it has to run.
    fn load(&self) -> usize {
        self.queue.len() + usize::from(self.current.is_some())
    }
}

/// All run queues.
#[derive(Debug)]
pub struct Scheduler {
    pcpus: [RunQueue; MAX_PCPUS],
    vcpus: [[VcpuEntry; MAX_VCPUS]; MAX_VMS],
    /// Those that stay in the secure world.
    away: PcpuSet,
}

impl Scheduler {
    /// Every vCPU is off.
    pub const fn new() -> Self {
        const OFF: VcpuEntry = VcpuEntry {
            place: VcpuPlace::Off,
            affinity: PcpuSet::EMPTY,
        };
        Self {
            pcpus: [const { RunQueue::new() }; MAX_PCPUS],
            vcpus: [[OFF; MAX_VCPUS]; MAX_VMS],
            away: PcpuSet::EMPTY,
        }
    }

    /// Turns a vCPU on that is off, and may run on the pCPUs of `affinity`, which all exist. Returns the pCPU in whose queue it
    /// waits; `None` where it is not off or may run nowhere.
    #[must_use = "another pCPU must be told"]
    pub fn start(&mut self, id: VcpuId, affinity: PcpuSet) -> Option<PcpuIndex> {
        match self.vcpu(id).place {
            VcpuPlace::Off => self.put(id, affinity, None),
            _ => None,
        }
    }

    /// Wakes a vCPU that waits, and may run on the pCPUs of `affinity`, which all exist. Returns the pCPU in whose queue it
    /// waits for its turn; `None` where it was not waiting: then there is nothing to do, and if it is just about to wait, it
    /// will not.
    #[must_use = "another pCPU must be told"]
    pub fn wake(&mut self, id: VcpuId, affinity: PcpuSet) -> Option<PcpuIndex> {
        match &mut self.vcpu(id).place {
            VcpuPlace::Blocked(last) => {
                let last = *last;
                self.put(id, affinity, Some(last))
            }
            VcpuPlace::Running { woken, .. } => {
                *woken = true;
                None
            }
            VcpuPlace::Queued(_) | VcpuPlace::Off => None,
        }
    }

    /// A vCPU whose deadline was set by [`Scheduler::block`] on `pcpu` and has come, to be woken;
    /// `None` where there are no more.
    pub fn expired(&mut self, pcpu: PcpuIndex, now: Ticks) -> Option<VcpuId> {
        self.pcpu(pcpu).deadlines.take_due(now)
    }

    /// The vCPU that runs on `pcpu` waits to be woken, by somebody else or when `deadline` has
    /// come, if there is one. Where it was woken since it was picked it does not wait, but for
    /// its next turn, and this says where.
    #[must_use = "another pCPU must be told"]
    pub fn block(
        &mut self,
        id: VcpuId,
        pcpu: PcpuIndex,
        deadline: Option<Ticks>,
    ) -> Option<PcpuIndex> {
        let VcpuPlace::Running { on, woken } = self.vcpu(id).place else {
            return None;
        };
        debug_assert_eq!(on, pcpu);
        if woken {
            return self.requeue(id, pcpu);
        }
        self.pcpu(on).current = None;
        self.vcpu(id).place = VcpuPlace::Blocked(on);
        if let Some(at) = deadline {
            self.pcpu(on).deadlines.set(id, at);
        }
        None
    }

    /// The vCPU that runs on `pcpu` makes room for the others, and waits for its next turn: there,
    /// or where it comes sooner.
    #[must_use = "another pCPU must be told"]
    pub fn requeue(&mut self, id: VcpuId, pcpu: PcpuIndex) -> Option<PcpuIndex> {
        let VcpuEntry { place, affinity } = *self.vcpu(id);
        let VcpuPlace::Running { on, .. } = place else {
            return None;
        };
        debug_assert_eq!(on, pcpu);
        self.pcpu(on).current = None;
        self.put(id, affinity, Some(on))
    }

    /// A vCPU is turned off, wherever it is.
    pub fn off(&mut self, id: VcpuId) {
        match core::mem::replace(&mut self.vcpu(id).place, VcpuPlace::Off) {
            VcpuPlace::Off => {}
            VcpuPlace::Blocked(on) => self.pcpu(on).deadlines.cancel(id),
            VcpuPlace::Queued(on) => self.pcpu(on).queue.retain(|&other| other != id),
            VcpuPlace::Running { on, .. } => self.pcpu(on).current = None,
        }
    }

    /// Who runs on `pcpu` now, for `slice` if others wait; `None` where there is nobody. The
    /// vCPU that ran there before was blocked, requeued or turned off.
    pub fn pick(&mut self, pcpu: PcpuIndex, now: Ticks, slice: Ticks) -> Option<VcpuId> {
        debug_assert_eq!(self.pcpu(pcpu).current, None);
        let id = match self.pcpu(pcpu).queue.pop_front() {
            Some(id) => id,
            None => self.steal(pcpu)?,
        };
        self.vcpu(id).place = VcpuPlace::Running {
            on: pcpu,
            woken: false,
        };
        let here = self.pcpu(pcpu);
        here.current = Some(id);
        here.slice_end = now.saturating_add(slice);
        Some(id)
    }

    /// Whether others wait for `pcpu`.
    #[inline]
    pub fn must_give_way(&self, pcpu: PcpuIndex) -> bool {
        !self.pcpus[pcpu.get()].queue.is_empty()
    }

    /// Whether others wait for `pcpu` and who runs there has had its turn.
    #[inline]
    pub fn slice_is_over(&self, pcpu: PcpuIndex, now: Ticks) -> bool {
        self.must_give_way(pcpu) && now >= self.pcpus[pcpu.get()].slice_end
    }

    /// When who runs on `pcpu` has had its turn, if others wait. May be past.
    #[inline]
    pub fn slice_end(&self, pcpu: PcpuIndex) -> Option<Ticks> {
        self.must_give_way(pcpu)
            .then_some(self.pcpus[pcpu.get()].slice_end)
    }

    /// The first deadline of somebody who waits that `pcpu` watches. May be past.
    #[inline]
    pub fn deadline(&self, pcpu: PcpuIndex) -> Option<Ticks> {
        self.pcpus[pcpu.get()].deadlines.earliest()
    }

    /// `pcpu` stays in the secure world: whose deadlines it watched are watched by `heir`, and who waits for it
    /// waits elsewhere, where that is possible. Returns the pCPUs where there is something new, which must be told.
    #[must_use = "other pCPUs must be told"]
    pub fn set_away(&mut self, pcpu: PcpuIndex, heir: PcpuIndex) -> PcpuSet {
        self.away = self.away.with(pcpu);
        let mut told = PcpuSet::EMPTY;
        while let Some((at, id)) = self.pcpu(pcpu).deadlines.pop() {
            self.vcpu(id).place = VcpuPlace::Blocked(heir);
            self.pcpu(heir).deadlines.set(id, at);
            told = told.with(heir);
        }
        told.union(self.spread(pcpu))
    }

    /// `pcpu` is back from the secure world. Returns the pCPUs that must be told: this one, since others may have more to
    /// run than it has, and where somebody waits now who waited for another one that is away still.
    #[must_use = "other pCPUs must be told"]
    pub fn set_back(&mut self, pcpu: PcpuIndex) -> PcpuSet {
        self.away = self.away.without(pcpu);
        let away = self.away.iter();
        away.fold(PcpuSet::EMPTY.with(pcpu), |told, other| {
            told.union(self.spread(other))
        })
    }

    /// Who waits for `pcpu`, which is away, waits elsewhere, where that is possible: where.
    fn spread(&mut self, pcpu: PcpuIndex) -> PcpuSet {
        let mut told = PcpuSet::EMPTY;
        for _ in 0..self.pcpu(pcpu).queue.len() {
            let Some(id) = self.pcpu(pcpu).queue.pop_front() else {
                break;
            };
            let affinity = self.vcpu(id).affinity;
            if let Some(pcpu) = self.put(id, affinity, Some(pcpu)) {
                told = told.with(pcpu);
            }
        }
        told.without(pcpu)
    }

    fn vcpu(&mut self, id: VcpuId) -> &mut VcpuEntry {
        &mut self.vcpus[id.vm.get()][id.vcpu.get()]
    }

    fn pcpu(&mut self, index: PcpuIndex) -> &mut RunQueue {
        &mut self.pcpus[index.get()]
    }

    /// Queues a vCPU that is in no queue where it has the least to wait for, and of such places
    /// where it was last: its caches may still be warm.
    fn put(&mut self, id: VcpuId, affinity: PcpuSet, last: Option<PcpuIndex>) -> Option<PcpuIndex> {
        let pcpu = affinity.iter().min_by_key(|&pcpu| {
            let load = self.pcpus[pcpu.get()].load();
            (self.away.contains(pcpu), load, Some(pcpu) != last)
        })?;
        if let Some(last) = last {
            self.pcpu(last).deadlines.cancel(id);
        }
        *self.vcpu(id) = VcpuEntry {
            place: VcpuPlace::Queued(pcpu),
            affinity,
        };
        // A queue has room for every vCPU, and none is in two.
        let _ = self.pcpu(pcpu).queue.push_back(id);
        Some(pcpu)
    }

    /// Takes the longest-waiting vCPU that may run on `thief` from the longest queue that has
    /// one.
    fn steal(&mut self, thief: PcpuIndex) -> Option<VcpuId> {
        let Self { pcpus, vcpus, .. } = self;
        let (queue, id) = pcpus
            .iter_mut()
            .filter_map(|pcpu| {
                let mut waiting = pcpu.queue.iter().copied();
                let id = waiting
                    .find(|id| vcpus[id.vm.get()][id.vcpu.get()].affinity.contains(thief))?;
                Some((&mut pcpu.queue, id))
            })
            .max_by_key(|(queue, _)| queue.len())?;
        queue.retain(|&other| other != id);
        Some(id)
    }
}

#[cfg(test)]
mod tests;
