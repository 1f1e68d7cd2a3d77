// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The physical SPIs to which some of a VM's are linked. Each thread has its own.

use postern_vgic::{IntId, PhysicalSpis};
use std::cell::RefCell;
use std::collections::BTreeSet;

/// The SPIs that are linked, in two words.
pub(super) const LINKED: [u32; 3] = [35, 36, 100];

/// The physical SPIs of this thread's machine.
pub(super) struct Physical;

#[derive(Default)]
struct Spis {
    enabled: BTreeSet<IntId>,
    active: BTreeSet<IntId>,
}

thread_local! {
    static SPIS: RefCell<Spis> = RefCell::default();
}

impl Physical {
    pub(super) fn reset() {
        SPIS.take();
    }

    /// Takes an SPI, if it is enabled and inactive.
    pub(super) fn take(intid: u32) -> Option<IntId> {
        let spi = IntId::new(intid)?;
        let took = |spis: &mut Spis| spis.enabled.contains(&spi) && spis.active.insert(spi);
        SPIS.with_borrow_mut(took).then_some(spi)
    }

    pub(super) fn is_active(spi: IntId) -> bool {
        SPIS.with_borrow(|spis| spis.active.contains(&spi))
    }

    /// Deactivates an SPI for the end of a linked interrupt.
    pub(super) fn end(spi: IntId) {
        let was_active = SPIS.with_borrow_mut(|spis| spis.active.remove(&spi));
        assert!(was_active, "{spi:?} is inactive");
    }

    pub(super) fn is_quiet() -> bool {
        SPIS.with_borrow(|spis| spis.enabled.is_empty() && spis.active.is_empty())
    }
}

impl PhysicalSpis for Physical {
    fn set_enabled(&self, spi: IntId, enabled: bool) {
        let changed = SPIS.with_borrow_mut(|spis| {
            if enabled {
                spis.enabled.insert(spi)
            } else {
                spis.enabled.remove(&spi)
            }
        });
        assert!(changed, "{spi:?} is enabled or disabled twice");
    }

    fn deactivate(&self, spi: IntId) {
        Self::end(spi);
    }

    fn clear_pending(&self, spi: IntId) {
        let is_enabled = SPIS.with_borrow(|spis| spis.enabled.contains(&spi));
        assert!(!is_enabled, "{spi:?} may be taken before");
    }
}
