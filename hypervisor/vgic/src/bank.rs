// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The state of the interrupts, 32 per word.

use super::intid::IntId;
use postern_base::ids::{MAX_VCPUS, VcpuIndex};

/// The number of words of 32 interrupts. Word 0 is private to a vCPU, the others are shared.
pub(super) const WORDS: usize = super::intid::INTIDS as usize / 32;

/// The bits of the SGIs in word 0.
pub(super) const SGIS: u32 = 0xffff;

/// The state of 32 interrupts, one bit each: either the SGIs and PPIs of a vCPU or 32 SPIs.
///
/// For an interrupt in a list register, this state is out of date until the list register is read
/// back. `active` has the value of the last synchronisation. A pending latch that moved into a list
/// register is in the vCPU's state ([`super::state::VcpuLrState::moved`]).
#[derive(Clone, Copy)]
pub(super) struct Bank {
    pub enabled: u32,
    pub group1: u32,
    pub edge: u32,
    /// Pending by an edge, an SGI, the timer or a write to ISPENDR, until acknowledged.
    pub latch: u32,
    /// The level of the input.
    pub line: u32,
    pub active: u32,
    /// Active by a write to ISACTIVER. No running priority belongs to it, so no end of interrupt
    /// that EOIcount counts can refer to it.
    pub forced: u32,
    /// In a list register of some vCPU.
    pub loaded: u32,
    /// Loaded, and `active` was written since. The active bit of the list register is ignored.
    pub overridden: u32,
    pub priority: [u8; 32],
    /// The priority with which an active interrupt was acknowledged. A later write to IPRIORITYR
    /// must not change it: otherwise the end of the interrupt would match no running priority.
    pub running: [u8; 32],
    /// The group in which an active interrupt was acknowledged, likewise.
    pub running_group1: u32,
    /// The interrupts that have sources ([`super::sgi::SgiSources`]): a GICv2's SGIs. Constant.
    pub sourced: u32,
}

impl Bank {
    const fn new(edge: u32, sourced: u32) -> Self {
        Self {
            enabled: 0,
            group1: 0,
            edge,
            latch: 0,
            line: 0,
            active: 0,
            forced: 0,
            loaded: 0,
            overridden: 0,
            priority: [0; 32],
            running: [0; 32],
            running_group1: 0,
            sourced,
        }
    }

    /// Returns whether any interrupt is pending, active or in a list register, or has a high input.
    pub const fn is_busy(&self) -> bool {
        self.latch | self.line | self.active | self.loaded != 0
    }

    /// Returns the interrupts that are pending by latch or by level.
    pub const fn pending(&self) -> u32 {
        self.latch | self.line & !self.edge
    }

    /// Returns the interrupts that are enabled, in a group that `groups` (GICD_CTLR bits 1 and 0)
    /// enables.
    pub const fn forwarded(&self, groups: u32) -> u32 {
        let of_group1 = if groups & 2 != 0 { self.group1 } else { 0 };
        let of_group0 = if groups & 1 != 0 { !self.group1 } else { 0 };
        self.enabled & (of_group1 | of_group0)
    }

    /// Sets or clears `bits` of `active`. Clearing them also clears them in `forced`.
    pub const fn set_active(&mut self, bits: u32, active: bool) {
        if active {
            self.active |= bits;
        } else {
            self.active &= !bits;
            self.forced &= !bits;
        }
    }

    /// Returns the priority that applies to the interrupt at the lowest bit of `bit`.
    pub const fn priority_of(&self, bit: u32) -> u8 {
        if self.active & !self.forced & bit != 0 {
            self.running[Self::index(bit)]
        } else {
            self.priority[Self::index(bit)]
        }
    }

    /// Returns whether the interrupt at the lowest bit of `bit` counts as a Group 1 interrupt.
    pub const fn is_group1(&self, bit: u32) -> bool {
        if self.active & !self.forced & bit != 0 {
            self.running_group1 & bit != 0
        } else {
            self.group1 & bit != 0
        }
    }

    /// Returns whether the priority or group of an active interrupt was changed since it was
    /// acknowledged.
    pub const fn was_changed(&self, bit: u32) -> bool {
        self.priority_of(bit) != self.priority[Self::index(bit)]
            || self.is_group1(bit) != (self.group1 & bit != 0)
    }

    /// Records the priority and group with which an interrupt was acknowledged.
    pub const fn took(&mut self, bit: u32, priority: u8, group1: bool) {
        self.running[Self::index(bit)] = priority;
        self.running_group1 = if group1 {
            self.running_group1 | bit
        } else {
            self.running_group1 & !bit
        };
    }

    const fn index(bit: u32) -> usize {
        bit.trailing_zeros() as usize % 32
    }
}

/// All interrupts of a VM.
pub(super) struct Banks {
    private: [Bank; MAX_VCPUS],
    shared: [Bank; WORDS - 1],
    /// Bit w: [`Bank::is_busy`] of the shared word w, as of the last [`Banks::note`].
    busy: u16,
}

impl Banks {
    /// Returns idle interrupts, of which those in `sourced` are private and have sources.
    pub const fn new(sourced: u32) -> Self {
        // Zeroes first: the compiler sets them by one call, and would write other values word by word.
        let mut banks = Self {
            private: [Bank::new(0, 0); MAX_VCPUS],
            shared: [Bank::new(0, 0); WORDS - 1],
            busy: 0,
        };
        let mut vcpu = 0;
        while vcpu < MAX_VCPUS {
            banks.private[vcpu].edge = SGIS;
            banks.private[vcpu].sourced = sourced;
            vcpu += 1;
        }
        banks
    }

    /// Returns word `word` as `vcpu` sees it.
    #[inline]
    pub fn get(&self, vcpu: VcpuIndex, word: usize) -> &Bank {
        if word == 0 {
            &self.private[vcpu.get()]
        } else {
            &self.shared[word - 1]
        }
    }

    /// Returns word `word` as `vcpu` sees it. The caller calls [`Banks::note`] after a change that
    /// may make the word busy or idle.
    #[inline]
    pub fn get_mut(&mut self, vcpu: VcpuIndex, word: usize) -> &mut Bank {
        if word == 0 {
            &mut self.private[vcpu.get()]
        } else {
            &mut self.shared[word - 1]
        }
    }

    /// Resets a vCPU's private interrupts.
    pub fn reset_private(&mut self, vcpu: VcpuIndex) {
        let bank = &mut self.private[vcpu.get()];
        *bank = Bank::new(SGIS, bank.sourced);
    }

    /// Brings the summary of word `word` up to date.
    #[inline]
    pub fn note(&mut self, word: usize) {
        if word > 0 {
            let busy = u16::from(self.shared[word - 1].is_busy()) << word;
            self.busy = self.busy & !(1 << word) | busy;
        }
    }

    /// Returns the words that may hold a busy interrupt for `vcpu`, one bit each.
    #[inline]
    pub fn busy_words(&self, vcpu: VcpuIndex) -> u16 {
        self.busy | u16::from(self.private[vcpu.get()].is_busy())
    }
}

/// Iterates over the bits that are set in `bits`, the lowest first.
pub(super) fn each_bit(mut bits: u32) -> impl Iterator<Item = u32> {
    core::iter::from_fn(move || {
        let lowest = bits & bits.wrapping_neg();
        bits ^= lowest;
        (lowest != 0).then_some(lowest)
    })
}

/// Iterates over the indices of the bits that are set in `words`.
pub(super) fn each_word(words: u16) -> impl Iterator<Item = usize> {
    each_bit(u32::from(words)).map(|bit| bit.trailing_zeros() as usize)
}

/// Returns an interrupt's word and its bit in that word.
pub(super) const fn place(intid: IntId) -> (usize, u32) {
    (intid.word(), intid.bit())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A word that is idle is skipped; otherwise each exit of the vGIC would cost more.
    #[test]
    fn busy_words_are_those_with_pending_active_or_loaded_interrupts() {
        let mut banks = Banks::new(0);
        let vcpu = VcpuIndex::default();
        assert_eq!(banks.busy_words(vcpu), 0);
        let fields: [fn(&mut Bank) -> &mut u32; 4] = [
            |bank| &mut bank.latch,
            |bank| &mut bank.line,
            |bank| &mut bank.active,
            |bank| &mut bank.loaded,
        ];
        for field in fields {
            for word in [0, 1, WORDS - 1] {
                *field(banks.get_mut(vcpu, word)) = 1 << 31;
                banks.note(word);
                assert_eq!(banks.busy_words(vcpu), 1 << word);
                *field(banks.get_mut(vcpu, word)) = 0;
                banks.note(word);
                assert_eq!(banks.busy_words(vcpu), 0);
            }
        }
        // A word whose interrupts are only configured is not busy.
        let bank = banks.get_mut(vcpu, 1);
        (bank.enabled, bank.group1, bank.edge) = (!0, !0, !0);
        banks.note(1);
        assert_eq!(banks.busy_words(vcpu), 0);
    }

    /// An active interrupt keeps the group and priority with which it was acknowledged, whatever
    /// the registers hold now. When it is acknowledged again, it has the new ones. Other interrupts
    /// do not change.
    #[test]
    fn active_interrupt_keeps_its_group_and_priority_when_they_are_rewritten() {
        let (bit, other) = (1 << 3, 1 << 4);
        let mut bank = Bank::new(0, 0);
        bank.took(bit, 0x80, true);
        bank.took(other, 0x40, true);
        bank.active = bit | other;
        assert!(bank.is_group1(bit) && bank.is_group1(other));
        assert_eq!(
            (bank.priority_of(bit), bank.priority_of(other)),
            (0x80, 0x40)
        );
        assert!(bank.was_changed(bit));
        // The next time it is acknowledged as a Group 0 interrupt.
        bank.took(bit, 0x20, false);
        bank.group1 = bit;
        assert!(!bank.is_group1(bit) && bank.is_group1(other));
        assert_eq!(
            (bank.priority_of(bit), bank.priority_of(other)),
            (0x20, 0x40)
        );
        // An interrupt made active by a write to ISACTIVER was not acknowledged.
        bank.forced = bit;
        assert!(bank.is_group1(bit));
        assert_eq!(bank.priority_of(bit), 0);
        assert!(!bank.was_changed(bit));
    }
}
