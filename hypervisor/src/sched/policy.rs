// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The scheduling policy: which vCPU runs on which pCPU, and for how long.
//!
//! Each pCPU has a queue and takes its vCPUs in turn. A vCPU that wakes goes to the pCPU where it
//! was, or to an idle pCPU that it may use, or to the shortest queue. A pCPU that finds its own
//! queue empty takes a vCPU from another. So no pCPU idles while a vCPU that may run there waits,
//! and no vCPU waits for more slices than there were vCPUs before it in the queue.
//!
//! A pCPU that stays in the secure world keeps the vCPU that runs there, and nothing else. Other
//! pCPUs take over the vCPUs that wait for it and the deadlines that it watches. Until it is back,
//! it gets no vCPU that can run elsewhere.
//!
//! Times are counter ticks. This module uses no locks, timers or registers.

use super::deadlines::Deadlines;
use heapless::Deque;
use postern_base::ids::{
    MAX_PCPUS, MAX_VCPUS, MAX_VCPUS_OF_ALL, MAX_VMS, PcpuIndex, PcpuSet, VcpuId,
};
use postern_base::ticks::Ticks;

/// The place of a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum VcpuPlace {
    /// No place: the vCPU is off.
    Off,
    /// The vCPU waits to be woken. This pCPU watches its deadline: the one where the vCPU ran, or
    /// the heir of that one if it has gone away.
    Blocked(PcpuIndex),
    /// The vCPU waits for its turn on this pCPU.
    Queued(PcpuIndex),
    /// The vCPU runs. `woken`: it was woken since it was picked, by a pCPU that saw it wait before
    /// the queues knew that it waits.
    Running { on: PcpuIndex, woken: bool },
}

#[derive(Clone, Copy, Debug)]
struct VcpuEntry {
    place: VcpuPlace,
    affinity: PcpuSet,
}

#[derive(Debug)]
struct RunQueue {
    /// The waiting vCPUs, the next one at the front.
    queue: Deque<VcpuId, MAX_VCPUS_OF_ALL>,
    current: Option<VcpuId>,
    /// When the slice of `current` ends, if others wait.
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

    /// Returns the number of vCPUs that run or wait here.
    fn load(&self) -> usize {
        self.queue.len() + usize::from(self.current.is_some())
    }
}

/// The run queues of all pCPUs.
#[derive(Debug)]
pub struct Scheduler {
    pcpus: [RunQueue; MAX_PCPUS],
    vcpus: [[VcpuEntry; MAX_VCPUS]; MAX_VMS],
    /// The pCPUs that stay in the secure world.
    away: PcpuSet,
}

impl Scheduler {
    /// Returns a scheduler with every vCPU off.
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

    /// Turns on a vCPU that is off and may run on the pCPUs of `affinity`, which all exist. Returns
    /// the pCPU in whose queue it waits; `None` where it is not off or may run nowhere.
    #[must_use = "another pCPU must be told"]
    pub fn start(&mut self, id: VcpuId, affinity: PcpuSet) -> Option<PcpuIndex> {
        match self.vcpu(id).place {
            VcpuPlace::Off => self.put(id, affinity, None),
            _ => None,
        }
    }

    /// Wakes a vCPU that waits to be woken and may run on the pCPUs of `affinity`, which all exist.
    /// Returns the pCPU in whose queue it waits for its turn; `None` where it was not waiting. If a
    /// running vCPU is about to block, it then does not.
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

    /// Removes and returns a vCPU to be woken, whose deadline [`Scheduler::block`] set on `pcpu`
    /// and which has come; `None` where no more deadlines have come.
    pub fn expired(&mut self, pcpu: PcpuIndex, now: Ticks) -> Option<VcpuId> {
        self.pcpu(pcpu).deadlines.take_due(now)
    }

    /// Makes the vCPU that runs on `pcpu` wait until another party wakes it or `deadline` comes, if
    /// it has one. A vCPU that was woken since it was picked only waits for its next turn; returns
    /// the pCPU of that turn.
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

    /// Makes the vCPU that runs on `pcpu` give way to the others, and wait for its next turn:
    /// there, or where it comes sooner. Returns the pCPU of that turn.
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

    /// Turns a vCPU off, wherever it is.
    pub fn off(&mut self, id: VcpuId) {
        match core::mem::replace(&mut self.vcpu(id).place, VcpuPlace::Off) {
            VcpuPlace::Off => {}
            VcpuPlace::Blocked(on) => self.pcpu(on).deadlines.cancel(id),
            VcpuPlace::Queued(on) => self.pcpu(on).queue.retain(|&other| other != id),
            VcpuPlace::Running { on, .. } => self.pcpu(on).current = None,
        }
    }

    /// Picks the vCPU that runs on `pcpu` from now on, for `slice` if others wait; `None` where no
    /// vCPU waits. The vCPU that ran there before was blocked, requeued or turned off.
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

    /// Returns whether other vCPUs wait for `pcpu`.
    #[inline]
    pub fn must_give_way(&self, pcpu: PcpuIndex) -> bool {
        !self.pcpus[pcpu.get()].queue.is_empty()
    }

    /// Returns whether other vCPUs wait for `pcpu` and the slice of the one that runs there is
    /// over.
    #[inline]
    pub fn slice_is_over(&self, pcpu: PcpuIndex, now: Ticks) -> bool {
        self.must_give_way(pcpu) && now >= self.pcpus[pcpu.get()].slice_end
    }

    /// Returns when the slice of the vCPU that runs on `pcpu` ends, if others wait. May be past.
    #[inline]
    pub fn slice_end(&self, pcpu: PcpuIndex) -> Option<Ticks> {
        self.must_give_way(pcpu)
            .then_some(self.pcpus[pcpu.get()].slice_end)
    }

    /// Returns the earliest deadline that `pcpu` watches. May be past.
    #[inline]
    pub fn deadline(&self, pcpu: PcpuIndex) -> Option<Ticks> {
        self.pcpus[pcpu.get()].deadlines.earliest()
    }

    /// Marks `pcpu` as staying in the secure world. `heir` takes over the deadlines that `pcpu`
    /// watched. The vCPUs that wait for `pcpu` wait elsewhere, where that is possible. Returns the
    /// pCPUs that got deadlines or vCPUs, which must be told.
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

    /// Marks `pcpu` as back from the secure world. Returns the pCPUs that must be told: this one,
    /// since others may have more to run than it has, and those to which vCPUs moved that waited
    /// for another pCPU that is still away.
    #[must_use = "other pCPUs must be told"]
    pub fn set_back(&mut self, pcpu: PcpuIndex) -> PcpuSet {
        self.away = self.away.without(pcpu);
        let away = self.away.iter();
        away.fold(PcpuSet::EMPTY.with(pcpu), |told, other| {
            told.union(self.spread(other))
        })
    }

    /// Moves the vCPUs that wait for `pcpu`, which is away, elsewhere, where that is possible.
    /// Returns the pCPUs that got one.
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

    /// Queues a vCPU that is in no queue where it has the least to wait for; among equal places
    /// where it was last, since its caches may still be warm there.
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

    /// Takes the longest-waiting vCPU that may run on `thief` from the longest queue that has one.
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
