// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A model of a GIC without list registers, with which a [`super::Vgic`] must agree at any moment.

use std::collections::BTreeMap;

/// The name of an interrupt: the vCPU to which it is private (0 for a shared one), and its INTID.
pub type Name = (usize, u32);

/// The SPIs of the model, in several words. [`PRIVATE`] has its SGIs, its PPI and the timer.
pub const SHARED: [u32; 6] = [32, 33, 63, 64, 100, 287];
pub const PRIVATE: [u32; 5] = [0, 1, 15, 20, 27];
pub const TIMER: u32 = 27;

#[derive(Clone, Debug)]
pub struct Irq {
    pub enabled: bool,
    pub group1: bool,
    pub edge: bool,
    pub latch: bool,
    pub line: bool,
    /// The vCPU on which the interrupt is active.
    pub active: Option<usize>,
    pub priority: u8,
    /// The lower half of GICD_IROUTER.
    pub route: u32,
}

impl Irq {
    pub fn pending(&self) -> bool {
        self.latch || self.line && !self.edge
    }
}

pub struct Ideal {
    pub irqs: BTreeMap<Name, Irq>,
    /// The group enables of GICD_CTLR.
    pub groups: u32,
    pub online: Vec<bool>,
}

impl Ideal {
    /// Returns the model of [`super::harness::Machine::configured`].
    pub fn configured(vcpus: usize) -> Self {
        let mut irqs = BTreeMap::new();
        for vcpu in 0..vcpus {
            for intid in PRIVATE {
                irqs.insert((vcpu, intid), Self::irq(intid));
            }
        }
        for intid in SHARED {
            irqs.insert((0, intid), Self::irq(intid));
        }
        Self {
            irqs,
            groups: 3,
            online: vec![true; vcpus],
        }
    }

    fn irq(intid: u32) -> Irq {
        Irq {
            enabled: true,
            group1: true,
            edge: intid < 16,
            latch: false,
            line: false,
            active: None,
            priority: 0xa0,
            route: 0,
        }
    }

    /// Resets a vCPU's private interrupts, for a vCPU that is turned on.
    pub fn reset_private(&mut self, vcpu: usize) {
        for intid in PRIVATE {
            let irq = self.irqs.get_mut(&(vcpu, intid)).unwrap();
            *irq = Irq {
                enabled: false,
                group1: false,
                priority: 0,
                ..Self::irq(intid)
            };
        }
    }

    pub fn get(&mut self, name: Name) -> &mut Irq {
        self.irqs.get_mut(&name).unwrap()
    }

    /// Returns the vCPU that takes an interrupt.
    pub fn target(&self, (vcpu, intid): Name) -> Option<usize> {
        if intid < 32 {
            return Some(vcpu);
        }
        match self.irqs[&(0, intid)].route {
            any if any >> 31 == 1 => self.online.iter().position(|online| *online),
            route => Some(route as usize).filter(|vcpu| *vcpu < self.online.len()),
        }
    }

    /// Returns the interrupts that `vcpu` could take, regardless of its CPU interface: INTID,
    /// priority, and whether it is in Group 1.
    pub fn deliverable(&self, vcpu: usize) -> Vec<(u32, u8, bool)> {
        self.irqs
            .iter()
            .filter(|(name, irq)| {
                let group = if irq.group1 { 2 } else { 1 };
                irq.pending()
                    && irq.enabled
                    && irq.active.is_none()
                    && self.groups & group != 0
                    && self.target(**name) == Some(vcpu)
            })
            .map(|(name, irq)| (name.1, irq.priority, irq.group1))
            .collect()
    }

    /// Acknowledges an interrupt on `vcpu`.
    pub fn take(&mut self, vcpu: usize, intid: u32) {
        let irq = self.get(named(vcpu, intid));
        assert!(irq.active.is_none(), "{intid} is taken while active");
        irq.latch = false;
        irq.active = Some(vcpu);
    }

    /// Returns the bits of a word, as `of` sees it, of the model's interrupts for which `bit` is
    /// true.
    pub fn word(&self, of: usize, word: usize, bit: impl Fn(&Irq) -> bool) -> u32 {
        self.irqs
            .iter()
            .filter(|((vcpu, intid), irq)| {
                *intid as usize / 32 == word && (word > 0 || *vcpu == of) && bit(irq)
            })
            .fold(0, |bits, ((_, intid), _)| bits | 1 << (intid % 32))
    }
}

/// Returns the name of the interrupt `intid` of `vcpu`.
pub fn named(vcpu: usize, intid: u32) -> Name {
    if intid < 32 {
        (vcpu, intid)
    } else {
        (0, intid)
    }
}
