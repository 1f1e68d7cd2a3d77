// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Random guests whose kicks arrive late: no interrupt is lost or delivered twice.

use super::harness::*;
use super::ideal::{SHARED, named};
use crate::{IrqLine, SgiRegister, Window};
use postern_base::gic::GicVersion;
use postern_base::mmio::{Access, AccessSize};
use proptest::prelude::*;
use std::collections::BTreeMap;

const VCPUS: usize = 3;
const SGIS: u32 = 3;
/// The edge-triggered interrupts of [`SHARED`]. The others are level-sensitive.
const EDGES: [u32; 3] = [32, 63, 100];

#[derive(Clone, Debug)]
enum Op {
    Sgi { from: usize, sgi: u32, targets: u8 },
    Pulse(usize),
    Line(usize, bool),
    Enable(usize, bool),
    Priority(usize, u8),
    Route(usize, u32),
    Take(usize),
    End(usize),
    Update(usize),
    Move(usize),
    Park(usize),
    Read { by: usize, of: usize, word: usize },
}

fn op() -> impl Strategy<Value = Op> {
    let vcpu = 0..VCPUS;
    let shared = 0..SHARED.len();
    prop_oneof![
        4 => (vcpu.clone(), 0..SGIS, any::<u8>())
            .prop_map(|(from, sgi, targets)| Op::Sgi { from, sgi, targets }),
        4 => shared.clone().prop_map(Op::Pulse),
        4 => (shared.clone(), any::<bool>()).prop_map(|(i, level)| Op::Line(i, level)),
        2 => (shared.clone(), any::<bool>()).prop_map(|(i, on)| Op::Enable(i, on)),
        2 => (shared.clone(), 0_u8..30).prop_map(|(i, priority)| Op::Priority(i, priority * 8)),
        3 => (shared, 0_u32..3).prop_map(|(i, route)| Op::Route(i, route)),
        10 => vcpu.clone().prop_map(Op::Take),
        8 => vcpu.clone().prop_map(Op::End),
        6 => vcpu.clone().prop_map(Op::Update),
        1 => vcpu.clone().prop_map(Op::Move),
        1 => vcpu.clone().prop_map(Op::Park),
        4 => (vcpu.clone(), vcpu, prop_oneof![Just(0_usize), Just(1), Just(2), Just(3), Just(8)])
            .prop_map(|(by, of, word)| Op::Read { by, of, word }),
    ]
}

#[derive(Clone, Copy, Default)]
struct Irq {
    /// The number of edges, or of requests for an SGI.
    events: usize,
    taken: usize,
    /// Whether an event came after the interrupt was last acknowledged.
    awaited: bool,
    active: Option<usize>,
    line: bool,
}

struct Run {
    machine: Machine,
    /// The interrupts by vCPU (0 for a shared one) and by what IAR reads: a GICv2's SGIs from
    /// different vCPUs are different interrupts.
    irqs: BTreeMap<(usize, u32), Irq>,
    taken: Vec<Vec<u32>>,
}

impl Run {
    fn new(version: GicVersion, lrs: usize) -> Self {
        let mut machine = Machine::configured_of(version, VCPUS, lrs);
        for intid in EDGES {
            let offset = 0xc00 + u64::from(intid / 16 * 4);
            machine.write(0, Window::Distributor, offset, 2 << (2 * (intid % 16)));
        }
        machine.prompt = false;
        let mut irqs = BTreeMap::new();
        for vcpu in 0..VCPUS {
            for from in 0..VCPUS {
                irqs.extend((0..SGIS).map(|sgi| ((vcpu, iar(version, from, sgi)), Irq::default())));
            }
        }
        irqs.extend(SHARED.map(|intid| ((0, intid), Irq::default())));
        Self {
            machine,
            irqs,
            taken: vec![Vec::new(); VCPUS],
        }
    }

    fn event(&mut self, name: (usize, u32)) {
        let irq = self.irqs.get_mut(&name).unwrap();
        irq.events += 1;
        irq.awaited = true;
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Sgi { from, sgi, targets } => {
                for to in 0..VCPUS {
                    if targets >> to & 1 == 1 {
                        self.event((to, iar(self.machine.version, from, sgi)));
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
            Op::Pulse(index) => {
                let intid = SHARED[index];
                if EDGES.contains(&intid) {
                    self.event((0, intid));
                    let line = IrqLine::spi(id(intid)).unwrap();
                    let kick = self.machine.vgic.pulse(line);
                    self.machine.kick(kick);
                }
            }
            Op::Line(index, level) => {
                let intid = SHARED[index];
                if !EDGES.contains(&intid) {
                    self.irqs.get_mut(&(0, intid)).unwrap().line = level;
                    let line = IrqLine::spi(id(intid)).unwrap();
                    let kick = self.machine.vgic.set_line(line, level);
                    self.machine.kick(kick);
                }
            }
            Op::Enable(index, on) => {
                let intid = SHARED[index];
                let register = if on { 0x100 } else { 0x180 };
                self.machine
                    .write_word(0, 0, register, intid as usize / 32, 1 << (intid % 32));
            }
            Op::Priority(index, priority) => {
                let offset = 0x400 + u64::from(SHARED[index]);
                let access = Access::write(offset, AccessSize::Byte, u64::from(priority));
                self.machine.access(0, Window::Distributor, access);
            }
            Op::Route(index, route) => {
                let intid = u64::from(SHARED[index]);
                let access = match self.machine.version {
                    GicVersion::V2 => Access::write(0x800 + intid, AccessSize::Byte, 1 << route),
                    GicVersion::V3 => {
                        Access::write(0x6000 + 8 * intid, AccessSize::Word, route.into())
                    }
                };
                self.machine.access(0, Window::Distributor, access);
            }
            Op::Take(vcpu) => {
                if self.machine.loaded[vcpu]
                    && let Some(iar) = self.machine.icv[vcpu].read_iar()
                {
                    let name = named(vcpu, iar);
                    let mut same = self.irqs.iter().filter(|(other, _)| is_same(**other, name));
                    assert!(
                        same.all(|(_, irq)| irq.active.is_none()),
                        "{iar:#x} is taken while active"
                    );
                    let irq = self.irqs.get_mut(&name).unwrap();
                    irq.active = Some(vcpu);
                    irq.taken += 1;
                    irq.awaited = false;
                    self.taken[vcpu].push(iar);
                }
            }
            Op::End(vcpu) => {
                if self.machine.loaded[vcpu]
                    && let Some(iar) = self.taken[vcpu].pop()
                {
                    self.irqs.get_mut(&named(vcpu, iar)).unwrap().active = None;
                    self.machine.icv[vcpu].write_eoir(iar);
                }
            }
            Op::Update(vcpu) => {
                self.machine.load(vcpu);
                self.machine.update(vcpu);
            }
            Op::Move(vcpu) => {
                self.machine.unload(vcpu);
                self.machine.load(vcpu);
            }
            Op::Park(vcpu) => {
                self.machine.unload(vcpu);
                // The vCPU sleeps only if no interrupt is deliverable to it.
                if self.machine.vgic.has_deliverable(cpu(vcpu)) {
                    self.machine.load(vcpu);
                    assert!(self.machine.icv[vcpu].lrs.iter().any(|lr| lr.is_pending()));
                }
            }
            Op::Read { by, of, word } => self.read(by, of, word),
        }
    }

    /// Checks that reads of active states are exact, and that reads of pending states are as exact
    /// as edges permit.
    fn read(&mut self, by: usize, of: usize, word: usize) {
        let pending = self.machine.read_word(by, of, 0x200, word);
        let active = self.machine.read_word(by, of, 0x300, word);
        for (name @ (vcpu, iar), irq) in &self.irqs {
            let intid = iar & 0x3ff;
            if intid as usize / 32 != word || word == 0 && *vcpu != of {
                continue;
            }
            let is = |bits: u32| bits >> (intid % 32) & 1 == 1;
            let same = || {
                let all = self.irqs.iter();
                all.filter(|(other, _)| is_same(**other, *name))
                    .map(|(_, irq)| irq)
            };
            let is_active = same().any(|irq| irq.active.is_some());
            assert_eq!(is(active), is_active, "{intid} active");
            if intid < 16 || EDGES.contains(&intid) {
                assert!(is(pending) || !irq.awaited, "{iar:#x} is lost");
                assert!(
                    !is(pending) || same().any(|irq| irq.taken < irq.events),
                    "{intid} is pending without an event"
                );
            } else {
                assert_eq!(is(pending), irq.line, "{intid} pending");
            }
        }
    }

    fn check(&self) {
        let mut held: Vec<_> = (0..VCPUS)
            .filter(|vcpu| self.machine.loaded[*vcpu])
            .flat_map(|vcpu| self.machine.icv[vcpu].lrs.iter().map(move |lr| (vcpu, lr)))
            .filter(|(_, lr)| lr.is_valid())
            .map(|(vcpu, lr)| named(vcpu, lr.vintid().unwrap().get()))
            .collect();
        let count = held.len();
        held.sort_unstable();
        held.dedup();
        assert_eq!(held.len(), count, "an INTID in two list registers");
        for (name, irq) in &self.irqs {
            if name.1 & 0x3ff < 16 || EDGES.contains(&name.1) {
                assert!(irq.taken <= irq.events, "{name:?} is delivered twice");
            }
        }
    }

    /// Lets all vCPUs handle all interrupts.
    fn drain(&mut self) {
        self.machine.prompt = true;
        for vcpu in 0..VCPUS {
            self.step(&Op::Update(vcpu));
        }
        for vcpu in 0..VCPUS {
            while !self.taken[vcpu].is_empty() {
                self.step(&Op::End(vcpu));
                self.machine.settle();
            }
        }
        for _ in 0..20 {
            for vcpu in 0..VCPUS {
                self.step(&Op::Take(vcpu));
                self.machine.settle();
                self.step(&Op::End(vcpu));
                self.machine.settle();
            }
        }
    }

    fn finish(&mut self) {
        for index in 0..SHARED.len() {
            self.step(&Op::Enable(index, true));
        }
        // An interrupt whose level is high is delivered repeatedly, and does not hide others of the
        // same priority permanently.
        for (index, intid) in SHARED.iter().enumerate() {
            if self.irqs[&(0, *intid)].line {
                let before = self.irqs[&(0, *intid)].taken;
                self.step(&Op::Priority(index, 0));
                self.drain();
                assert!(
                    self.irqs[&(0, *intid)].taken >= before + 2,
                    "{intid} is lost"
                );
                self.step(&Op::Line(index, false));
            }
        }
        self.drain();
        for (name, irq) in &self.irqs {
            assert!(!irq.awaited, "{name:?} is lost");
        }
        for vcpu in 0..VCPUS {
            assert!(self.machine.icv[vcpu].signalled().is_none());
        }
        self.check();
    }
}

/// Returns the value of IAR for an SGI.
const fn iar(version: GicVersion, from: usize, sgi: u32) -> u32 {
    match version {
        GicVersion::V2 => sgi | (from as u32) << 10,
        GicVersion::V3 => sgi,
    }
}

/// Returns whether two names differ at most in the source of an SGI.
const fn is_same(one: (usize, u32), other: (usize, u32)) -> bool {
    one.0 == other.0 && one.1 & 0x3ff == other.1 & 0x3ff
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn late_kicks_lose_no_interrupt(
        version in prop::sample::select(&BOTH_VERSIONS[..]),
        lrs in 1_usize..=4,
        ops in prop::collection::vec(op(), 1..150),
    ) {
        let mut run = Run::new(version, lrs);
        for op in &ops {
            run.step(op);
            run.check();
        }
        run.finish();
    }
}
