// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Random guests and devices. With prompt kicks, each vCPU is signalled, at every moment, the
//! interrupt that a GIC without list registers would signal.

use super::harness::*;
use super::ideal::*;
use super::ops::{Op, op};
use super::physical::LINKED;
use crate::{IrqLine, SgiRegister, Vmcr, Window};
use postern_base::gic::GicVersion;
use postern_base::mmio::{Access, AccessSize};
use proptest::prelude::*;

/// A machine, the model of its state, and the state of its guest.
struct Run {
    machine: Machine,
    ideal: Ideal,
    /// The values of IAR that each vCPU read and has not ended, in the order of acknowledgement.
    taken: Vec<Vec<u32>>,
    /// The initial value of each vCPU's VMCR.
    vmcr: u64,
}

impl Run {
    fn new(version: GicVersion, vcpus: usize, lrs: usize, vmcr: u64, priorities: &[u8]) -> Self {
        let mut machine = Machine::configured_of(version, vcpus, lrs);
        for vcpu in 0..vcpus {
            machine.icv[vcpu].vmcr = vmcr;
            machine.update(vcpu);
        }
        let mut run = Self {
            machine,
            ideal: Ideal::configured(version, vcpus),
            taken: vec![Vec::new(); vcpus],
            vmcr,
        };
        for (index, priority) in priorities.iter().enumerate() {
            run.step(&Op::Priority(index, priority * 8));
        }
        run
    }

    fn splits(&self) -> bool {
        self.vmcr & SPLIT != 0
    }

    fn name(&self, index: usize) -> Name {
        *self
            .ideal
            .irqs
            .keys()
            .nth(index % self.ideal.irqs.len())
            .unwrap()
    }

    fn line(&self, (vcpu, intid): Name) -> Option<IrqLine> {
        IrqLine::spi(id(intid)).or(IrqLine::ppi(cpu(vcpu), id(intid)))
    }

    /// Writes one bit of a register, from any vCPU that runs.
    fn write_bit(&mut self, by: usize, (of, intid): Name, register: u64) {
        let word = intid as usize / 32;
        self.machine
            .write_word(by, of, register, word, 1 << (intid % 32));
    }

    fn runs(&self, vcpu: usize) -> bool {
        vcpu < self.taken.len() && self.machine.loaded[vcpu] && self.ideal.online[vcpu]
    }

    fn step(&mut self, op: &Op) {
        self.act(op);
        // The hypervisor takes a physical interrupt as soon as it fires.
        while let Some(spi) = self.machine.physical.take() {
            self.ideal.get((0, spi)).latch = true;
            let kick = self.machine.vgic.spi_fired(id(spi));
            self.machine.kick(kick);
        }
    }

    fn act(&mut self, op: &Op) {
        // The vCPU that makes the accesses is any vCPU that runs.
        let Some(by) = (0..self.taken.len()).rev().find(|vcpu| self.runs(*vcpu)) else {
            for vcpu in 0..self.taken.len() {
                if self.ideal.online[vcpu] {
                    self.machine.load(vcpu);
                }
            }
            if !self.ideal.online.contains(&true) {
                self.turn_on(0);
            }
            return;
        };
        match *op {
            Op::Line(index, level) => {
                let name = self.name(index);
                if let Some(line) = self.line(name) {
                    let irq = self.ideal.get(name);
                    irq.latch |= irq.edge && level && !irq.line;
                    irq.line = level;
                    let kick = self.machine.vgic.set_line(line, level);
                    self.machine.kick(kick);
                }
            }
            Op::Pulse(index) => {
                let name = self.name(index);
                if let Some(line) = self.line(name) {
                    let irq = self.ideal.get(name);
                    irq.latch |= irq.edge;
                    let kick = self.machine.vgic.pulse(line);
                    self.machine.kick(kick);
                }
            }
            Op::Sgi { from, sgi, targets } => {
                let sgi = PRIVATE[sgi as usize];
                if self.runs(from) {
                    for to in 0..self.taken.len() {
                        if targets >> to & 1 == 1 {
                            let by_source = self.ideal.has_sources((to, sgi));
                            let irq = self.ideal.get((to, sgi));
                            if by_source {
                                irq.sources |= 1 << from;
                            } else {
                                irq.latch = true;
                            }
                        }
                    }
                    match self.machine.version {
                        GicVersion::V2 => {
                            let value = u32::from(targets) << 16 | sgi;
                            self.machine.write(from, Window::Distributor, 0xf00, value);
                        }
                        GicVersion::V3 => {
                            let value = u64::from(sgi) << 24 | u64::from(targets);
                            self.machine.sgi(from, SgiRegister::Sgi1r, value);
                        }
                    }
                }
            }
            Op::Timer(vcpu) => {
                if self.runs(vcpu) && !self.machine.icv[vcpu].timer_active {
                    self.ideal.get((vcpu, TIMER)).latch = true;
                    self.machine.icv[vcpu].timer_active = true;
                    let kick = self.machine.vgic.timer_fired(cpu(vcpu));
                    assert!(kick.contains(cpu(vcpu)) || !self.machine.vgic.needs_flush(cpu(vcpu)));
                    self.machine.kick(kick);
                }
            }
            Op::TimerWithdrawn(vcpu) => {
                if self.runs(vcpu) {
                    self.ideal.get((vcpu, TIMER)).latch = false;
                    let kick = self.machine.vgic.timer_withdrawn(cpu(vcpu));
                    self.machine.kick(kick);
                }
            }
            Op::Physical(index, level) => {
                let spi = [LINKED[0], LINKED[2]][index];
                self.machine.physical.set_line(spi, level);
            }
            Op::Enable(index, on) => {
                let name = self.name(index);
                self.ideal.get(name).enabled = on;
                self.write_bit(by, name, if on { 0x100 } else { 0x180 });
            }
            Op::Pend(index, on) => {
                let name = self.name(index);
                if self.ideal.has_sources(name) {
                    return self.pend_source(name, index / self.ideal.irqs.len(), on);
                }
                self.ideal.get(name).latch = on;
                self.write_bit(by, name, if on { 0x200 } else { 0x280 });
            }
            Op::Activate(index, on) => self.activate(by, index, on),
            Op::Priority(index, priority) => {
                let name = self.name(index);
                self.ideal.get(name).priority = priority;
                let offset = 0x400 + u64::from(name.1);
                let word = name.1 as usize / 32;
                let (by, window, offset) = self.machine.locate(by, name.0, word, offset);
                let access = Access::write(offset, AccessSize::Byte, u64::from(priority));
                self.machine.access(by, window, access);
            }
            Op::Group(index, group1) => {
                let (of, intid) = self.name(index);
                self.ideal.get((of, intid)).group1 = group1;
                let word = intid as usize / 32;
                let bit = 1 << (intid % 32);
                let old = self.machine.read_word(by, of, 0x80, word);
                let new = if group1 { old | bit } else { old & !bit };
                self.machine.write_word(by, of, 0x80, word, new);
            }
            Op::Edge(index, edge) => {
                let (of, intid) = self.name(index);
                let irq = self.ideal.get((of, intid));
                // A change while the interrupt is pending is UNPREDICTABLE; the model does not
                // have the vGIC's behaviour.
                if intid >= 16 && !irq.pending() && !irq.line {
                    irq.edge = edge;
                    let offset = 0xc00 + u64::from(intid / 16 * 4);
                    let word = intid as usize / 32;
                    let (by, window, offset) = self.machine.locate(by, of, word, offset);
                    let bit = 2 << (2 * (intid % 16));
                    let old = self.machine.read(by, window, offset);
                    let new = if edge { old | bit } else { old & !bit };
                    self.machine.write(by, window, offset, new);
                }
            }
            Op::Route(index, route) => {
                let intid = SHARED[index % SHARED.len()];
                let (route, access) = match self.machine.version {
                    GicVersion::V2 => {
                        let targets = (route | route >> 16 | route >> 24) & 0xff;
                        let offset = 0x800 + u64::from(intid);
                        let access = Access::write(offset, AccessSize::Byte, targets.into());
                        (targets, access)
                    }
                    GicVersion::V3 => {
                        let offset = 0x6000 + 8 * u64::from(intid);
                        (route, Access::write(offset, AccessSize::Word, route.into()))
                    }
                };
                self.ideal.get((0, intid)).route = route;
                self.machine.access(by, Window::Distributor, access);
            }
            Op::Distributor(groups) => {
                self.ideal.groups = groups;
                self.machine.write(by, Window::Distributor, 0, groups);
            }
            Op::InterfaceState { vcpu, mask, groups } => {
                if self.runs(vcpu) {
                    let icv = &mut self.machine.icv[vcpu];
                    icv.vmcr = icv.vmcr & SPLIT | u64::from(mask | 0x80) << 24 | u64::from(groups);
                    self.machine.settle();
                }
            }
            Op::Take(vcpu) => {
                if self.runs(vcpu)
                    && let Some(iar) = self.machine.icv[vcpu].read_iar()
                {
                    self.ideal.take(vcpu, iar);
                    self.taken[vcpu].push(iar);
                    self.machine.settle();
                }
            }
            Op::End(vcpu) => {
                if self.runs(vcpu)
                    && let Some(iar) = self.taken[vcpu].pop()
                {
                    if !self.splits() {
                        self.ideal.get(named(vcpu, iar & 0x3ff)).active = None;
                    }
                    self.machine.write_eoir(vcpu, iar);
                }
            }
            Op::Deactivate { vcpu, nth } => self.deactivate(vcpu, nth),
            Op::Move(vcpu) => {
                if self.runs(vcpu) {
                    self.machine.unload(vcpu);
                    self.machine.load(vcpu);
                }
            }
            Op::Unload(vcpu) => {
                if self.runs(vcpu) {
                    self.machine.unload(vcpu);
                }
            }
            Op::Update(vcpu) => {
                if self.runs(vcpu) {
                    self.machine.update(vcpu);
                } else if vcpu < self.taken.len() && self.ideal.online[vcpu] {
                    self.machine.load(vcpu);
                }
            }
            Op::Off(vcpu) => {
                if self.runs(vcpu) {
                    self.machine.unload(vcpu);
                    self.ideal.online[vcpu] = false;
                    let kick = self.machine.vgic.vcpu_off(cpu(vcpu));
                    self.machine.kick(kick);
                }
            }
            Op::On(vcpu) => {
                if vcpu < self.taken.len() && !self.ideal.online[vcpu] {
                    self.turn_on(vcpu);
                }
            }
        }
    }

    fn activate(&mut self, by: usize, index: usize, on: bool) {
        let name = self.name(index);
        // An end of interrupt without a matching active interrupt is an error of the guest and
        // UNPREDICTABLE.
        if self.is_running(name) {
            return;
        }
        let target = self.ideal.target(name).unwrap_or(by);
        let irq = self.ideal.get(name);
        irq.active = on.then(|| irq.active.unwrap_or(target));
        self.write_bit(by, name, if on { 0x300 } else { 0x380 });
    }

    /// Returns whether an interrupt was acknowledged and not ended.
    fn is_running(&self, name: Name) -> bool {
        let mut all = self.taken.iter().enumerate();
        all.any(|(vcpu, taken)| taken.iter().any(|iar| named(vcpu, iar & 0x3ff) == name))
    }

    /// Writes a bit of GICD_SPENDSGIR or GICD_CPENDSGIR, which only the SGI's vCPU can do.
    fn pend_source(&mut self, (of, sgi): Name, source: usize, on: bool) {
        let bit = 1 << source;
        let irq = self.ideal.get((of, sgi));
        let register = if on {
            // Bits of vCPUs that the VM does not have are not implemented.
            irq.sources |= bit & (0xff >> (8 - self.taken.len()));
            0xf20
        } else {
            irq.sources &= !bit;
            0xf10
        };
        let access = Access::write(register + u64::from(sgi), AccessSize::Byte, bit.into());
        self.machine.access(of, Window::Distributor, access);
    }

    fn deactivate(&mut self, vcpu: usize, nth: usize) {
        if !self.splits() || !self.runs(vcpu) {
            return;
        }
        // The active interrupts whose priority was dropped: the vCPU's own, and all shared ones.
        let dropped: Vec<Name> = self
            .ideal
            .irqs
            .iter()
            .filter(|(name, irq)| {
                irq.active.is_some() && (name.1 >= 32 || name.0 == vcpu) && !self.is_running(**name)
            })
            .map(|(name, _)| *name)
            .collect();
        if let Some(name) = dropped.get(nth % dropped.len().max(1)) {
            let irq = self.ideal.get(*name);
            irq.active = None;
            let iar = irq.source << 10 | name.1;
            self.machine.write_dir(vcpu, iar);
        }
    }

    fn turn_on(&mut self, vcpu: usize) {
        self.ideal.reset_private(vcpu);
        self.ideal.online[vcpu] = true;
        self.taken[vcpu].clear();
        self.machine.icv[vcpu].running.clear();
        self.machine.icv[vcpu].vmcr = self.vmcr;
        let kick = self.machine.vgic.vcpu_on(cpu(vcpu));
        self.machine.kick(kick.without(cpu(vcpu)));
        self.machine.load(vcpu);
    }

    /// Checks that the machine agrees with the model.
    fn check(&mut self) {
        for vcpu in 0..self.taken.len() {
            let deliverable = self.ideal.deliverable(vcpu);
            let icv = &self.machine.icv[vcpu];
            let vmcr = Vmcr::from_bits(icv.vmcr);
            let running = icv.running.last().map_or(u8::MAX, |running| running.0);
            let best = deliverable
                .iter()
                .filter(|(_, _, group1)| vmcr.enables(*group1))
                .map(|(_, priority, _)| *priority)
                .min();
            let awake = best.is_some_and(|best| best < vmcr.priority_mask());
            if !self.runs(vcpu) {
                let vgic = &self.machine.vgic;
                if self.ideal.online[vcpu] {
                    assert_eq!(vgic.has_deliverable(cpu(vcpu)), !deliverable.is_empty());
                    assert_eq!(vgic.has_deliverable_through(cpu(vcpu), vmcr), awake);
                }
                continue;
            }
            let signalled = icv.signalled();
            assert_eq!(
                signalled.map(|lr| lr.priority()),
                best.filter(|best| awake && *best < running),
                "vCPU {vcpu} should have one of {deliverable:?}, has {:?}",
                icv.lrs
            );
            if let Some(lr) = signalled {
                let found = (lr.vintid().unwrap().get(), lr.priority(), lr.is_group1());
                assert!(deliverable.contains(&found), "{found:?}");
                if self.ideal.has_sources((vcpu, found.0)) {
                    let source = lr.source().unwrap().get();
                    let sources = self.ideal.irqs[&(vcpu, found.0)].sources;
                    assert!(sources >> source & 1 == 1, "{found:?} from {source}");
                }
            }
            let timer = &self.ideal.irqs[&(vcpu, TIMER)];
            if !timer.pending() && timer.active.is_none() {
                assert!(!icv.timer_active, "the physical timer interrupt is stuck");
            }
            assert!(!self.machine.vgic.needs_flush(cpu(vcpu)));
        }
        for spi in [LINKED[0], LINKED[2]] {
            let irq = &self.ideal.irqs[&(0, spi)];
            let physical = self.machine.physical;
            assert_eq!(physical.is_enabled(spi), irq.enabled);
            let is_idle = !irq.pending() && irq.active.is_none();
            assert!(
                !is_idle || !physical.is_active(id(spi)),
                "SPI {spi} is stuck"
            );
        }
        let Some(by) = (0..self.taken.len()).find(|vcpu| self.runs(*vcpu)) else {
            return;
        };
        let private = (0..self.taken.len()).map(|of| (of, 0));
        for (of, word) in private.chain([1, 2, 3, 8].map(|word| (0, word))) {
            let active = self.ideal.word(of, word, |irq| irq.active.is_some());
            assert_eq!(self.machine.read_word(by, of, 0x300, word), active);
            let pending = self.ideal.word(of, word, Irq::pending);
            assert_eq!(self.machine.read_word(by, of, 0x200, word), pending);
        }
        if self.machine.version == GicVersion::V2 {
            self.check_sources();
        }
        let fixed = match self.machine.version {
            GicVersion::V2 => 0,
            GicVersion::V3 => 0x50,
        };
        assert_eq!(
            self.machine.read(by, Window::Distributor, 0),
            fixed | self.ideal.groups
        );
    }

    /// Checks what each vCPU reads of the sources of its SGIs.
    fn check_sources(&mut self) {
        for of in 0..self.taken.len() {
            for sgi in PRIVATE.into_iter().filter(|intid| *intid < 16) {
                let sources = u64::from(self.ideal.irqs[&(of, sgi)].sources);
                for register in [0xf10, 0xf20] {
                    let access = Access::read(register + u64::from(sgi), AccessSize::Byte);
                    let read = self.machine.access(of, Window::Distributor, access);
                    assert_eq!(read, sources, "SGI {sgi} of vCPU {of}");
                }
            }
        }
    }

    /// Checks that all pending interrupts are delivered in the end.
    fn drain(&mut self) {
        for (vcpu, taken) in self.taken.clone().iter().enumerate() {
            if self.ideal.online[vcpu] {
                self.machine.load(vcpu);
                for _ in taken {
                    self.step(&Op::End(vcpu));
                }
            }
        }
        for index in 0..2 {
            self.step(&Op::Physical(index, false));
        }
        for index in 0..self.ideal.irqs.len() {
            self.step(&Op::Line(index, false));
        }
        for vcpu in 0..self.taken.len() {
            for _ in 0..100 {
                self.step(&Op::Take(vcpu));
                self.step(&Op::End(vcpu));
                self.step(&Op::Deactivate { vcpu, nth: 0 });
            }
            if self.runs(vcpu) {
                assert!(self.machine.icv[vcpu].signalled().is_none());
            }
        }
        self.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn vgic_matches_the_model_without_list_registers(
        version in prop::sample::select(&BOTH_VERSIONS[..]),
        vcpus in 1_usize..=3,
        lrs in 1_usize..=4,
        split: bool,
        groups in 2_u64..4,
        priorities in prop::collection::vec(0_u8..30, 24),
        ops in prop::collection::vec(op(), 1..120),
    ) {
        // The group that guests use is enabled, and perhaps the other.
        let groups = match version {
            GicVersion::V2 => groups >> 1 | (groups & 1) << 1,
            GicVersion::V3 => groups,
        };
        let vmcr = 0xf0 << 24 | groups | if split { SPLIT } else { 0 };
        let mut run = Run::new(version, vcpus, lrs, vmcr, &priorities);
        run.check();
        for op in &ops {
            run.step(op);
            run.check();
        }
        run.drain();
    }
}
