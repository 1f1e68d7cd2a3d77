// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The shared interrupts that are linked to physical SPIs of the same number: those of the devices that a VM has for
//! itself.
//!
//! The hypervisor takes the physical interrupt, drops its priority, leaves it active and calls
//! [`super::Vgic::spi_fired`]. It stays active until the guest has ended the virtual interrupt, so that an input that
//! stays high interrupts once for each end. The list register that holds the virtual interrupt is linked: the guest's
//! end deactivates both. Where no linked list register does, because the interrupt was withdrawn, ended without a list
//! register or cleared by a register, [`super::spis`] deactivates the physical one.

use super::bank::{WORDS, each_bit, each_word, place};
use super::intid::IntId;

/// The physical SPIs to which interrupts of a VM are linked. The methods are called under the lock of the vGIC: they are
/// short, and take no lock.
pub trait PhysicalSpis: Sync {
    /// Enables or disables an SPI.
    fn set_enabled(&self, spi: IntId, enabled: bool);
    /// Makes an SPI inactive.
    fn deactivate(&self, spi: IntId);
    /// Takes back that an SPI is pending, as far as its input is not high.
    fn clear_pending(&self, spi: IntId);
}

/// The state of the links.
pub(super) struct LinkedSpis {
    /// The words of [`Self::spis`] that are not empty, one bit each.
    pub words: u16,
    /// The interrupts that are linked.
    pub spis: [u32; WORDS],
    /// The physical interrupts that are active on behalf of the VM.
    pub active: [u32; WORDS],
    /// The physical interrupts that fired while a list register held the virtual one.
    pub again: [u32; WORDS],
    /// The physical interrupts that are enabled.
    pub enabled: [u32; WORDS],
}

impl LinkedSpis {
    pub const fn none() -> Self {
        Self {
            words: 0,
            spis: [0; WORDS],
            active: [0; WORDS],
            again: [0; WORDS],
            enabled: [0; WORDS],
        }
    }

    /// Links an SPI, whose physical interrupt is disabled and inactive.
    pub fn link(&mut self, spi: IntId) {
        let (word, bit) = place(spi);
        // The private ones are no SPIs.
        if word > 0 {
            self.words |= 1 << word;
            self.spis[word] |= bit;
        }
    }

    /// Records that a list register with the interrupt was read back. If the list register was linked and is invalid,
    /// the guest's end has deactivated the physical interrupt, which may have fired again since.
    #[inline]
    pub fn unloaded(&mut self, word: usize, bit: u32, is_ended: bool) {
        if is_ended {
            self.active[word] &= !bit | self.again[word];
        }
        self.again[word] &= !bit;
    }

    /// Disables all physical interrupts, makes them inactive and takes back what is pending. Returns the links in this
    /// state.
    pub fn reset(&self, physical: &dyn PhysicalSpis) -> Self {
        for word in each_word(self.words) {
            for bit in each_bit(self.spis[word]) {
                let spi = IntId::at(word, bit);
                if self.enabled[word] & bit != 0 {
                    physical.set_enabled(spi, false);
                }
                if self.active[word] & bit != 0 {
                    physical.deactivate(spi);
                }
                // An edge that came after the guest disabled the interrupt, too.
                physical.clear_pending(spi);
            }
        }
        Self {
            words: self.words,
            spis: self.spis,
            ..Self::none()
        }
    }
}
