// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The times at which waiting vCPUs want to be woken.

use heapless::Vec;
use postern_base::ids::{MAX_VCPUS_OF_ALL, VcpuId};
use postern_base::ticks::Ticks;

/// Returns when a timer fires, in physical ticks, from its CTL and CVAL registers and from the
/// ticks by which its counter lags behind the physical one (CNTVOFF_EL2). Returns `None` where the
/// timer does not fire: it is off or masked, or it would fire only after the physical counter has
/// wrapped, which takes at least 40 years (DDI 0487, D12.2).
pub const fn due_at(control: u64, compare: Ticks, offset: Ticks) -> Option<Ticks> {
    const ENABLE: u64 = 1;
    const IMASK: u64 = 1 << 1;
    if control & (ENABLE | IMASK) != ENABLE {
        return None;
    }
    compare.checked_add(offset)
}

/// The deadlines of vCPUs that wait, at most one each.
#[derive(Debug)]
pub struct Deadlines {
    /// The latest comes first, so that the earliest is removed without moving the others.
    list: Vec<(Ticks, VcpuId), MAX_VCPUS_OF_ALL>,
}

impl Deadlines {
    /// Returns an empty list.
    pub const fn new() -> Self {
        Self { list: Vec::new() }
    }

    /// Sets the deadline of `id` to `at`. It replaces any earlier setting.
    pub fn set(&mut self, id: VcpuId, at: Ticks) {
        self.cancel(id);
        let place = self.list.partition_point(|&(other, _)| other > at);
        // With one entry per vCPU, the list has room for every vCPU that exists.
        let _ = self.list.insert(place, (at, id));
    }

    /// Removes the deadline of `id`.
    pub fn cancel(&mut self, id: VcpuId) {
        self.list.retain(|&(_, other)| other != id);
    }

    /// Returns the earliest deadline.
    #[inline]
    pub fn earliest(&self) -> Option<Ticks> {
        self.list.last().map(|&(at, _)| at)
    }

    /// Removes the earliest deadline, if it is not after `now`, and returns its vCPU.
    pub fn take_due(&mut self, now: Ticks) -> Option<VcpuId> {
        if self.earliest()? > now {
            return None;
        }
        self.pop().map(|(_, id)| id)
    }

    /// Removes the earliest deadline, and returns it and its vCPU.
    pub fn pop(&mut self) -> Option<(Ticks, VcpuId)> {
        self.list.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_base::ids::{MAX_VCPUS, VcpuIndex, VmIndex};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn id(number: usize) -> VcpuId {
        VcpuId {
            vm: VmIndex::new(number / MAX_VCPUS).unwrap(),
            vcpu: VcpuIndex::new(number % MAX_VCPUS).unwrap(),
        }
    }

    proptest! {
        /// The list behaves like a map from vCPU to time that is searched for its least value.
        #[test]
        fn behaves_like_a_map(steps in proptest::collection::vec((0..64_usize, 0..100_u64, 0..4_u8), 0..300)) {
            let mut deadlines = Deadlines::new();
            let mut model = BTreeMap::new();
            for (number, time, what) in steps {
                match what {
                    0 | 1 => {
                        deadlines.set(id(number), Ticks::new(time));
                        model.insert(id(number), time);
                    }
                    2 => {
                        deadlines.cancel(id(number));
                        model.remove(&id(number));
                    }
                    _ => match deadlines.take_due(Ticks::new(time)) {
                        Some(due) => {
                            let at = model.remove(&due);
                            prop_assert!(at.is_some_and(|at| at <= time));
                            prop_assert!(model.values().all(|&other| Some(other) >= at));
                        }
                        None => prop_assert!(model.values().all(|&at| at > time)),
                    },
                }
                prop_assert_eq!(deadlines.earliest().map(Ticks::get), model.values().min().copied());
            }
        }
    }

    #[test]
    fn a_timer_that_is_set_beyond_the_end_of_time_is_not_due() {
        for (control, compare, offset, due) in [
            (1, 100, 7, Some(107)),
            (5, 100, 7, Some(107)),
            (0, 100, 7, None),
            (3, 100, 7, None),
            (1, u64::MAX - 7, 7, Some(u64::MAX)),
            // It would wrap to a time long past, and wake its vCPU without end.
            (1, u64::MAX - 6, 7, None),
            (1, u64::MAX, 1 << 40, None),
        ] {
            assert_eq!(
                due_at(control, Ticks::new(compare), Ticks::new(offset)),
                due.map(Ticks::new),
                "{control} {compare:#x}"
            );
        }
    }

    #[test]
    fn every_vcpu_has_room() {
        let mut deadlines = Deadlines::new();
        for time in [7, 3] {
            for number in 0..MAX_VCPUS_OF_ALL {
                deadlines.set(id(number), Ticks::new(time));
            }
        }
        let due = core::iter::from_fn(|| deadlines.take_due(Ticks::new(3))).count();
        assert_eq!(due, MAX_VCPUS_OF_ALL);
    }
}
