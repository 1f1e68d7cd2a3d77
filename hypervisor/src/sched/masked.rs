// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The longest time for which EL2 keeps interrupts masked, per pCPU, with its cause.
//!
//! Such a time is a section. It begins with the exit from a guest, with the last time that EL2 took
//! interrupts, or with the return from the secure world. It ends with the entry to a guest or to
//! the secure world, or when EL2 takes interrupts again. The time in the secure world does not
//! count as EL2's.
//!
//! The way of a short call is not measured, since reading the clock would cost as much as the rest
//! of it: see `docs/performance.md`. A part of it that may take long opens a section of its own.

use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering};
use postern_base::ids::{MAX_PCPUS, PcpuIndex};
use postern_base::ticks::Ticks;

/// The activity of EL2 in a part of a section.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Cause {
    /// An activity without a name of its own.
    Other,
    /// A guest's trapped access or instruction, with the work of the emulated device.
    Trap,
    /// The handling of physical interrupts.
    Interrupt,
    /// A guest's call that is not for OP-TEE: PSCI, or memory given back.
    Call,
    /// The import of a guest's page list, whose pages are pinned.
    TakeIn,
    /// The unpinning of pages that OP-TEE has released.
    Unpin,
    /// A switch of vCPUs, or a flush of the list registers.
    Switch,
    /// A command of the monitor.
    Monitor,
    /// The allocation of a VM's memory, and of what EL2 needs for its calls.
    Prepare,
    /// The mapping of a VM's memory.
    Map,
    /// The clearing of memory.
    Clear,
    /// The copying of a VM's images.
    Load,
    /// The reset of EL2's state of a VM.
    Reset,
    /// The freeing of stage-2 tables.
    Unmap,
}

impl Cause {
    const ALL: [Self; 14] = [
        Self::Other,
        Self::Trap,
        Self::Interrupt,
        Self::Call,
        Self::TakeIn,
        Self::Unpin,
        Self::Switch,
        Self::Monitor,
        Self::Prepare,
        Self::Map,
        Self::Clear,
        Self::Load,
        Self::Reset,
        Self::Unmap,
    ];

    /// Returns the cause's name, as users see it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Trap => "trap",
            Self::Interrupt => "interrupt",
            Self::Call => "call",
            Self::TakeIn => "take-in",
            Self::Unpin => "unpin",
            Self::Switch => "switch",
            Self::Monitor => "monitor",
            Self::Prepare => "prepare",
            Self::Map => "map",
            Self::Clear => "clear",
            Self::Load => "load",
            Self::Reset => "reset",
            Self::Unmap => "unmap",
        }
    }
}

/// The number of bits of a [`LongestSection`] that hold the cause.
const CAUSE_BITS: u32 = 8;

/// The longest section of a pCPU. Only that pCPU writes it; all read it.
#[derive(Debug)]
#[repr(align(64))]
pub struct LongestSection(AtomicU64);

static LONGEST: [LongestSection; MAX_PCPUS] = [const { LongestSection::new() }; MAX_PCPUS];

/// Returns the longest section of `pcpu`.
pub fn longest(pcpu: PcpuIndex) -> &'static LongestSection {
    &LONGEST[pcpu.get()]
}

impl LongestSection {
    const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Records a section of `ticks` ticks, most of them spent on `cause`, if it is the longest so
    /// far.
    #[inline]
    pub fn note(&self, ticks: Ticks, cause: Cause) {
        if ticks.get() > self.0.load(Ordering::Relaxed) >> CAUSE_BITS {
            self.0
                .store(ticks.get() << CAUSE_BITS | cause as u64, Ordering::Relaxed);
        }
    }

    /// Returns the longest section's ticks, and its cause.
    pub fn get(&self) -> (Ticks, Cause) {
        let value = self.0.load(Ordering::Relaxed);
        let cause = (value & ((1 << CAUSE_BITS) - 1)) as usize;
        let cause = Cause::ALL.get(cause).copied().unwrap_or(Cause::Other);
        (Ticks::new(value >> CAUSE_BITS), cause)
    }
}

/// The section that a pCPU is in. The caller gives the times, in ticks. It has a cache line of its
/// own, since its pCPU writes it at every trap.
#[derive(Debug)]
#[repr(align(64))]
pub struct Section {
    /// When the section began; zero where none is measured.
    since: Cell<Ticks>,
    /// When the last part ended.
    last: Cell<Ticks>,
    /// The longest part so far, and its cause.
    part: Cell<(Ticks, Cause)>,
}

impl Section {
    /// Returns a state in which no section is measured.
    pub const fn closed() -> Self {
        Self {
            since: Cell::new(Ticks::ZERO),
            last: Cell::new(Ticks::ZERO),
            part: Cell::new((Ticks::ZERO, Cause::Other)),
        }
    }

    /// Returns whether a section is measured.
    pub fn is_open(&self) -> bool {
        self.since.get() != Ticks::ZERO
    }

    /// Begins a section, unless one has begun already.
    pub fn open(&self, now: Ticks) {
        if !self.is_open() {
            self.since.set(now);
            self.last.set(now);
            self.part.set((Ticks::ZERO, Cause::Other));
        }
    }

    /// Ends a part of the section, which began with the section or where the previous part ended,
    /// and was spent on `cause`.
    pub fn end_part(&self, cause: Cause, now: Ticks) {
        let took = now.since(self.last.replace(now));
        if self.is_open() && took >= self.part.get().0 {
            self.part.set((took, cause));
        }
    }

    /// Ends the section. Returns its ticks and the cause of its longest part; `None` where none was
    /// measured.
    pub fn close(&self, now: Ticks) -> Option<(Ticks, Cause)> {
        let since = self.since.replace(Ticks::ZERO);
        (since != Ticks::ZERO).then(|| (now.since(since), self.part.get().1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn t(ticks: u64) -> Ticks {
        Ticks::new(ticks)
    }

    #[test]
    fn the_longest_counts_and_only_it() {
        let longest = LongestSection::new();
        assert_eq!(longest.get(), (t(0), Cause::Other));
        longest.note(t(5), Cause::Trap);
        longest.note(t(5), Cause::Switch);
        assert_eq!(longest.get(), (t(5), Cause::Trap));
        longest.note(t(1 << 40), Cause::Unmap);
        longest.note(t(6), Cause::Load);
        assert_eq!(longest.get(), (t(1 << 40), Cause::Unmap));
    }

    #[test]
    fn causes_have_names_of_their_own_and_come_back() {
        let mut names: Vec<_> = Cause::ALL.map(Cause::name).into();
        for cause in Cause::ALL {
            let longest = LongestSection::new();
            longest.note(t(1), cause);
            assert_eq!(longest.get(), (t(1), cause));
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Cause::ALL.len());
    }

    #[test]
    fn a_section_is_all_of_its_parts_and_named_after_the_longest() {
        let section = Section::closed();
        section.end_part(Cause::Trap, t(50));
        assert_eq!(section.close(t(60)), None);
        section.open(t(100));
        // The section began with the guest's exit, so this has no effect.
        section.end_part(Cause::Trap, t(110));
        section.open(t(115));
        section.end_part(Cause::Switch, t(140));
        section.end_part(Cause::Monitor, t(150));
        assert_eq!(section.close(t(151)), Some((t(51), Cause::Switch)));
        assert_eq!(section.close(t(160)), None);
        // The next section starts without parts.
        section.open(t(200));
        assert_eq!(section.close(t(201)), Some((t(1), Cause::Other)));
    }

    #[test]
    fn a_clock_that_goes_back_does_no_harm() {
        let section = Section::closed();
        section.open(t(100));
        section.end_part(Cause::Trap, t(90));
        assert_eq!(section.close(t(95)), Some((t(0), Cause::Trap)));
    }
}
