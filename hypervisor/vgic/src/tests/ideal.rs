// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A model of a GIC without list registers, with which a [`super::Vgic`] must agree at any moment.

use postern_base::gic::GicVersion;
use std::collections::BTreeMap;

/// The name of an interrupt: the vCPU to which it is private (0 for a shared one), and its INTID.
pub type Name = (usize, u32);

/// The SPIs of the model, in several words. [`PRIVATE`] has its SGIs, its PPI and the timer.
/// 35 and 100 are linked to physical SPIs ([`super::physical::LINKED`]).
pub const SHARED: [u32; 7] = [32, 33, 35, 63, 64, 100, 287];
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
    /// The lower half of GICD_IROUTER, or the byte of GICD_ITARGETSR.
    pub route: u32,
    /// The vCPUs from which a GICv2's SGI is pending, one bit each.
    pub sources: u8,
    /// The source with which it was last acknowledged.
    pub source: u32,
}

impl Irq {
    pub fn pending(&self) -> bool {
        self.latch || self.sources != 0 || self.line && !self.edge
    }
}

pub struct Ideal {
    pub version: GicVersion,
    pub irqs: BTreeMap<Name, Irq>,
    /// The group enables of GICD_CTLR.
    pub groups: u32,
    pub online: Vec<bool>,
}

impl Ideal {
    /// Returns the model of [`super::harness::Machine::configured_of`].
    pub fn configured(version: GicVersion, vcpus: usize) -> Self {
        let mut irqs = BTreeMap::new();
        for vcpu in 0..vcpus {
            for intid in PRIVATE {
                irqs.insert((vcpu, intid), Self::irq(version, intid));
            }
        }
        for intid in SHARED {
            irqs.insert((0, intid), Self::irq(version, intid));
        }
        Self {
            version,
            irqs,
            groups: 3,
            online: vec![true; vcpus],
        }
    }

    fn irq(version: GicVersion, intid: u32) -> Irq {
        Irq {
            enabled: true,
            group1: version == GicVersion::V3,
            edge: intid < 16,
            latch: false,
            line: false,
            active: None,
            priority: 0xa0,
            route: u32::from(version == GicVersion::V2),
            sources: 0,
            source: 0,
        }
    }

    /// Resets a vCPU's private interrupts, for a vCPU that is turned on.
    pub fn reset_private(&mut self, vcpu: usize) {
        let version = self.version;
        for intid in PRIVATE {
            let irq = self.irqs.get_mut(&(vcpu, intid)).unwrap();
            *irq = Irq {
                enabled: false,
                group1: false,
                priority: 0,
                ..Self::irq(version, intid)
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
        let route = self.irqs[&(0, intid)].route;
        if self.version == GicVersion::V2 {
            let vcpus = self.online.len();
            // All SPIs go to the only vCPU.
            let targets = if vcpus == 1 { 1 } else { route };
            let mut candidates = (0..vcpus).filter(|vcpu| targets >> vcpu & 1 == 1);
            let on = candidates.clone().find(|vcpu| self.online[*vcpu]);
            return on.or(candidates.next());
        }
        match route {
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

    /// Returns whether an interrupt has sources.
    pub fn has_sources(&self, (_, intid): Name) -> bool {
        self.version == GicVersion::V2 && intid < 16
    }

    /// Acknowledges an interrupt on `vcpu`, which read `iar`.
    pub fn take(&mut self, vcpu: usize, iar: u32) {
        let (intid, source) = (iar & 0x3ff, iar >> 10);
        let has_sources = self.has_sources((vcpu, intid));
        let irq = self.get(named(vcpu, intid));
        assert!(irq.active.is_none(), "{intid} is taken while active");
        if has_sources {
            assert!(irq.sources >> source & 1 == 1, "{intid} from {source}");
            irq.sources &= !(1 << source);
            irq.source = source;
        } else {
            assert_eq!(source, 0, "{intid} has a source");
        }
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

/// Returns the name of the interrupt `intid` of `vcpu`. An SGI may have a source, as in GICV_IAR.
pub fn named(vcpu: usize, intid: u32) -> Name {
    if intid & 0x3ff < 32 {
        (vcpu, intid)
    } else {
        (0, intid)
    }
}
