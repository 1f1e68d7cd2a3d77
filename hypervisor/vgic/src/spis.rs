// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Keeps linked SPIs ([`super::linked`]) and the physical ones in step.

use super::bank::{each_bit, each_word, place};
use super::intid::IntId;
use super::linked::PhysicalSpis;
use super::state::VgicState;
use postern_base::ids::VcpuIndex;

impl VgicState {
    /// Makes a linked interrupt pending, whose physical interrupt was taken and is active.
    pub fn spi_fired(&mut self, spi: IntId) {
        let (word, bit) = place(spi);
        let linked = &mut self.linked;
        if linked.spis[word] & bit == 0 {
            return;
        }
        let bank = self.banks.get_mut(VcpuIndex::BOOT, word);
        linked.active[word] |= bit;
        linked.again[word] |= bank.loaded & bit;
        bank.latch |= bit;
        self.touch(VcpuIndex::BOOT, word, bit);
    }

    /// Brings the physical interrupts up to date: enabled as the guest has enabled the virtual ones, and inactive where
    /// nothing of the virtual one is left that the guest could end.
    #[inline]
    pub fn settle_linked(&mut self, physical: Option<&'static dyn PhysicalSpis>) {
        if let Some(physical) = physical {
            self.settle_words(physical);
        }
    }

    #[inline(never)]
    fn settle_words(&mut self, physical: &dyn PhysicalSpis) {
        let linked = &mut self.linked;
        for word in each_word(linked.words) {
            let bank = self.banks.get(VcpuIndex::BOOT, word);
            let enabled = bank.enabled & linked.spis[word];
            let changed = enabled ^ linked.enabled[word];
            let idle = linked.active[word] & !(bank.latch | bank.active | bank.loaded);
            // Most calls change nothing here.
            if changed | idle == 0 {
                continue;
            }
            linked.enabled[word] = enabled;
            linked.active[word] &= !idle;
            // An SPI that is disabled does not fire when it is made inactive.
            for bit in each_bit(changed & !enabled) {
                physical.set_enabled(IntId::at(word, bit), false);
            }
            for bit in each_bit(idle) {
                physical.deactivate(IntId::at(word, bit));
            }
            for bit in each_bit(changed & enabled) {
                physical.set_enabled(IntId::at(word, bit), true);
            }
        }
    }
}
