// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The state of the interrupts, 32 in a word.

use super::intid::IntId;
use postern_base::ids::{MAX_VCPUS, VcpuIndex};

/// Words of 32 interrupts: word 0 is a vCPU's own, the others are shared.
pub(super) const WORDS: usize = super::intid::INTIDS as usize / 32;

/// The SGIs of word 0.
pub(super) const SGIS: u32 = 0xffff;

/// 32 interrupts, one bit each: either the SGIs and PPIs of a vCPU or 32 SPIs.
///
/// What a list register holds is out of date here until it is read back: `active` is what it was
/// at the last synchronisation, and a pending latch that was put into a list register is kept by
/// the vCPU ([`super::state::VcpuLrState::moved`]).
#[derive(Clone, Copy)]
pub(super) struct Bank {
    pub enabled: u32,
    pub group1: u32,
    pub edge: u32,
    /// Pending by an edge, an SGI, the timer or a write to ISPENDR, until taken.
    pub latch: u32,
    /// The level of the input.
    pub line: u32,
    pub active: u32,
    /// Active by a write to ISACTIVER: no priority was raised for it, so no end of interrupt
    /// that was counted can mean it.
    pub forced: u32,
    /// In a list register of some vCPU.
    pub loaded: u32,
    /// Loaded, and `active` was written since: the list register's active bit does not count.
    pub overridden: u32,
    pub priority: [u8; 32],
    /// The priority at which an active interrupt was taken. A later write to IPRIORITYR must not
    /// change it, or its end would match no running priority.
    pub running: [u8; 32],
    /// The group in which it was taken, likewise.
    pub running_group1: u32,
}

impl Bank {
    const fn new(edge: u32) -> Self {
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
        }
    }

    /// Whether any of the interrupts needs a look.
    pub const fn is_busy(&self) -> bool {
        self.latch | self.line | self.active | self.loaded != 0
    }

    /// Pending by latch or by level.
    pub const fn pending(&self) -> u32 {
        self.latch | self.line & !self.edge
    }

    /// Enabled, in a group that `groups` (GICD_CTLR bits 1 and 0) enables.
    pub const fn forwarded(&self, groups: u32) -> u32 {
        let of_group1 = if groups & 2 != 0 { self.group1 } else { 0 };
        let of_group0 = if groups & 1 != 0 { !self.group1 } else { 0 };
        self.enabled & (of_group1 | of_group0)
    }

    /// Sets or clears `bits` of `active`.
    pub const fn set_active(&mut self, bits: u32, active: bool) {
        if active {
            self.active |= bits;
        } else {
            self.active &= !bits;
            self.forced &= !bits;
        }
    }

    /// The priority that counts for the interrupt at the lowest bit of `bit`.
    pub const fn priority_of(&self, bit: u32) -> u8 {
        if self.active & !self.forced & bit != 0 {
            self.running[Self::index(bit)]
        } else {
            self.priority[Self::index(bit)]
        }
    }

    /// Whether the interrupt at the lowest bit of `bit` counts as one of Group 1.
    pub const fn is_group1(&self, bit: u32) -> bool {
        if self.active & !self.forced & bit != 0 {
            self.running_group1 & bit != 0
        } else {
            self.group1 & bit != 0
        }
    }

    /// Whether an active interrupt would be pending with another priority or group than it runs.
    pub const fn was_changed(&self, bit: u32) -> bool {
        self.priority_of(bit) != self.priority[Self::index(bit)]
            || self.is_group1(bit) != (self.group1 & bit != 0)
    }

    /// The interrupt was taken with this priority and group.
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
    /// Bit w: word w may hold a shared interrupt that needs a look.
    busy: u16,
}

impl Banks {
    pub const fn new() -> Self {
        Self {
            private: [Bank::new(SGIS); MAX_VCPUS],
            shared: [Bank::new(0); WORDS - 1],
            busy: 0,
        }
    }

    /// Word `word` as `vcpu` sees it.
    #[inline]
    pub fn get(&self, vcpu: VcpuIndex, word: usize) -> &Bank {
        if word == 0 {
            &self.private[vcpu.get()]
        } else {
            &self.shared[word - 1]
        }
    }

    /// Word `word` as `vcpu` sees it. Ends with [`Banks::note`] where it may become busy or idle.
    #[inline]
    pub fn get_mut(&mut self, vcpu: VcpuIndex, word: usize) -> &mut Bank {
        if word == 0 {
            &mut self.private[vcpu.get()]
        } else {
            &mut self.shared[word - 1]
        }
    }

    /// Puts a vCPU's own interrupts back into their reset state.
    pub fn reset_private(&mut self, vcpu: VcpuIndex) {
        self.private[vcpu.get()] = Bank::new(SGIS);
    }

    /// Brings the summary of word `word` up to date.
    #[inline]
    pub fn note(&mut self, word: usize) {
        if word > 0 {
            let busy = u16::from(self.shared[word - 1].is_busy()) << word;
            self.busy = self.busy & !(1 << word) | busy;
        }
    }

    /// The words that may hold anything for `vcpu`, one bit each.
    #[inline]
    pub fn busy_words(&self, vcpu: VcpuIndex) -> u16 {
        self.busy | u16::from(self.private[vcpu.get()].is_busy())
    }
}

/// The bits that are set in `bits`, one at a time.
pub(super) fn each_bit(mut bits: u32) -> impl Iterator<Item = u32> {
    core::iter::from_fn(move || {
        let lowest = bits & bits.wrapping_neg();
        bits ^= lowest;
        (lowest != 0).then_some(lowest)
    })
}

/// The words at the bits that are set in `words`.
pub(super) fn each_word(words: u16) -> impl Iterator<Item = usize> {
    each_bit(u32::from(words)).map(|bit| bit.trailing_zeros() as usize)
}

/// Where an interrupt's bit is.
pub(super) const fn place(intid: IntId) -> (usize, u32) {
    (intid.word(), intid.bit())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What nothing is pending or active in is not looked at: each exit of the vGIC would pay for it.
    #[test]
    fn only_a_word_with_something_in_it_is_busy() {
        let mut banks = Banks::new();
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
        // What is only configured is not busy.
        let bank = banks.get_mut(vcpu, 1);
        (bank.enabled, bank.group1, bank.edge) = (!0, !0, !0);
        banks.note(1);
        assert_eq!(banks.busy_words(vcpu), 0);
    }

    /// An active interrupt keeps the group and priority that it was taken with, whatever it has now; one taken anew has
    /// the new ones, and no other interrupt is concerned.
    #[test]
    fn an_active_interrupt_has_the_group_and_priority_that_it_was_taken_with() {
        let (bit, other) = (1 << 3, 1 << 4);
        let mut bank = Bank::new(0);
        bank.took(bit, 0x80, true);
        bank.took(other, 0x40, true);
        bank.active = bit | other;
        assert!(bank.is_group1(bit) && bank.is_group1(other));
        assert_eq!(
            (bank.priority_of(bit), bank.priority_of(other)),
            (0x80, 0x40)
        );
        assert!(bank.was_changed(bit));
        // As Group 0, the next time.
        bank.took(bit, 0x20, false);
        bank.group1 = bit;
        assert!(!bank.is_group1(bit) && bank.is_group1(other));
        assert_eq!(
            (bank.priority_of(bit), bank.priority_of(other)),
            (0x20, 0x40)
        );
        // What was made active by hand was not taken.
        bank.forced = bit;
        assert!(bank.is_group1(bit));
        assert_eq!(bank.priority_of(bit), 0);
        assert!(!bank.was_changed(bit));
    }
}
