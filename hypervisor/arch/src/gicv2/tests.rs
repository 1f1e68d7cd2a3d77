// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A GICv2 of two pCPUs as the normal world sees it: private registers are banked, some interrupts belong to the secure
//! world, firmware has left all kinds of things, and reserved places read zero.

use super::*;
use postern_base::ticks::Ticks;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

const D: Pa = Pa::new(0xf901_0000);
/// A region of 128 KiB in which each page is repeated through 64 KiB, and the place in it that is used.
const REGION: u64 = 0xf902_0000;
const C: Pa = Pa::new(REGION + 0xf000);
const WORDS: u32 = 4;
const OWN: u32 = 1 << KICK_INTID | 1 << 25 | 1 << 26 | 1 << 27;
/// An SPI and an SGI of the secure world, in Group 0.
const SECURE: [u32; 2] = [40, 8];
const SPURIOUS: u32 = 1023;

#[derive(Clone, Copy, Default)]
struct Line {
    enabled: bool,
    pending: bool,
    active: bool,
    /// As the hardware keeps it: the normal world's priorities are in the lower half.
    priority: u8,
    edge: bool,
    /// The interfaces, of an SPI.
    targets: u8,
    /// The senders, of an SGI.
    senders: u8,
}

#[derive(Clone)]
struct Cpu {
    private: [Line; 32],
    control: u32,
    mask: u8,
    binary_point: u32,
    /// GICC_NSAPR0, which is GICC_APR0 in the normal world.
    priorities: [u32; 4],
    /// The priorities of acknowledged interrupts that were not dropped, the last one first.
    running: Vec<u8>,
}

struct State {
    control: u32,
    shared: Vec<Line>,
    cpus: Vec<Cpu>,
}

struct Model {
    /// The pCPU that accesses the registers.
    cpu: Cell<usize>,
    pcpus: usize,
    /// Whether the region is there once, in its first two pages.
    aliased: bool,
    state: RefCell<State>,
}

impl Model {
    fn of(pcpus: usize, aliased: bool) -> Self {
        let left = Line {
            enabled: true,
            active: true,
            priority: 0xff,
            ..Line::default()
        };
        let cpu = Cpu {
            private: [left; 32],
            // Bypasses are off, and the other group is on.
            control: 0b11 << 5,
            mask: 0,
            binary_point: 3,
            priorities: [1 << 20, 0, 0, 0],
            running: vec![],
        };
        Self {
            cpu: Cell::new(0),
            pcpus,
            aliased,
            state: RefCell::new(State {
                control: 0,
                shared: vec![left; 32 * (WORDS as usize - 1)],
                cpus: vec![cpu; pcpus],
            }),
        }
    }

    fn on(&self, cpu: usize) -> &Self {
        self.cpu.set(cpu);
        self
    }

    /// Lets `act` see an interrupt as the accessing pCPU does.
    fn with<R>(&self, intid: u32, act: impl FnOnce(&mut Line) -> R) -> R {
        let mut state = self.state.borrow_mut();
        let cpu = self.cpu.get();
        match intid {
            0..32 => act(&mut state.cpus[cpu].private[intid as usize]),
            _ => act(&mut state.shared[intid as usize - 32]),
        }
    }

    fn line(&self, intid: u32) -> Line {
        self.with(intid, |line| *line)
    }

    fn intids() -> impl Iterator<Item = u32> {
        0..32 * WORDS
    }

    /// Registers with a bit for each interrupt ignore those of the secure world, and those that are not there.
    fn set_word(&self, number: u64, value: u32, act: impl Fn(&mut Line)) {
        let first = number as u32 * 32;
        for intid in (0..32)
            .filter(|bit| value & 1 << bit != 0)
            .map(|bit| first + bit)
        {
            if !SECURE.contains(&intid) && intid < 32 * WORDS {
                self.with(intid, &act);
            }
        }
    }

    fn interface(&self) -> u8 {
        if self.pcpus == 1 {
            0
        } else {
            1 << self.cpu.get()
        }
    }

    /// The interrupt of the normal world that the accessing pCPU would take.
    fn best(&self) -> Option<u32> {
        let me = 1 << self.cpu.get();
        let (control, cpu) = {
            let state = self.state.borrow();
            (state.control, state.cpus[self.cpu.get()].clone())
        };
        if control & 1 == 0 || cpu.control & 1 == 0 {
            return None;
        }
        let running = cpu.running.first().copied().unwrap_or(0xff);
        // What firmware left active holds interrupts of its priority and lower ones back.
        let left = cpu.priorities[0].trailing_zeros() as u8;
        let left = if left == 32 { 0xff } else { left << 3 };
        Self::intids()
            .filter(|intid| !SECURE.contains(intid))
            .map(|intid| (self.line(intid), intid))
            .filter(|(line, _)| line.enabled && (line.pending || line.senders != 0) && !line.active)
            .filter(|(line, intid)| *intid < 32 || line.targets & me != 0 || self.pcpus == 1)
            .filter(|(line, _)| line.priority < cpu.mask.min(running).min(left))
            .min_by_key(|(line, intid)| (line.priority, *intid))
            .map(|(_, intid)| intid)
    }

    fn read_interface(&self, offset: u64) -> u32 {
        let cpu = self.state.borrow().cpus[self.cpu.get()].clone();
        match offset {
            GICC_CTLR => cpu.control,
            GICC_IIDR => 0x0202_143b,
            GICC_IAR => match self.best() {
                None => SPURIOUS,
                Some(intid) => {
                    let (word, priority) = self.with(intid, |line| {
                        line.active = true;
                        let sender = line.senders.trailing_zeros() & 7;
                        line.senders &= line.senders.wrapping_sub(1);
                        line.pending = false;
                        let sender = if intid < 16 { sender << 10 } else { 0 };
                        (intid | sender, line.priority)
                    });
                    let running = &mut self.state.borrow_mut().cpus[self.cpu.get()].running;
                    running.insert(0, priority);
                    word
                }
            },
            _ => panic!("read of GICC + {offset:#x}"),
        }
    }

    fn write_interface(&self, offset: u64, value: u32) {
        let splits = self.state.borrow().cpus[self.cpu.get()].control & 1 << 9 != 0;
        let mut state = self.state.borrow_mut();
        let cpu = &mut state.cpus[self.cpu.get()];
        match offset {
            // EnableGrp1, the bypasses, EOImodeNS.
            GICC_CTLR => cpu.control = value & 0x261,
            // The normal world's half.
            GICC_PMR => cpu.mask = 0x80 | (value >> 1) as u8,
            GICC_BPR => cpu.binary_point = value & 7,
            GICC_APR..=0xdc => cpu.priorities[(offset - GICC_APR) as usize / 4] = value,
            GICC_EOIR => {
                assert!(splits, "the end must not deactivate");
                let line = cpu.private.get(value as usize & 0x3ff);
                let expected = line.map_or(0xd0, |line| line.priority);
                assert_eq!(cpu.running.first(), Some(&expected), "another is running");
                cpu.running.remove(0);
            }
            GICC_DIR => {
                drop(state);
                self.with(value & 0x3ff, |line| {
                    assert!(line.active);
                    line.active = false;
                });
            }
            _ => panic!("write of GICC + {offset:#x}"),
        }
    }
}

impl Bus for Model {
    fn read(&self, at: Pa) -> u32 {
        if let Some(offset) = interface_offset(self, at) {
            return offset.map_or(0, |offset| self.read_interface(offset));
        }
        let offset = at.get() - D.get();
        match offset {
            GICD_CTLR => self.state.borrow().control,
            GICD_TYPER => (WORDS - 1) | ((self.pcpus as u32 - 1) << 5) | 1 << 10,
            GICD_ICFGR..0xd00 => {
                let first = (offset - GICD_ICFGR) as u32 * 4;
                (0..16)
                    .filter(|field| self.line(first + field).edge)
                    .fold(0, |word, field| word | 0b10 << (2 * field))
            }
            // As for SGIs that a GIC does not have.
            GICD_ITARGETSR => 0,
            0x804..0x820 => u32::from_le_bytes([self.interface(); 4]),
            _ => panic!("read of GICD + {offset:#x}"),
        }
    }

    fn write(&self, at: Pa, value: u32) {
        if let Some(offset) = interface_offset(self, at) {
            let offset = offset.unwrap_or_else(|| panic!("write of {:#x}", at.get()));
            return self.write_interface(offset, value);
        }
        let offset = at.get() - D.get();
        let number = offset % 0x80 / 4;
        match offset {
            // EnableGrp1, by the normal world's name.
            GICD_CTLR => self.state.borrow_mut().control = value & 1,
            0x100..0x180 => self.set_word(number, value, |line| line.enabled = true),
            0x180..0x200 => self.set_word(number, value, |line| line.enabled = false),
            0x300..0x380 => self.set_word(number, value, |line| line.active = true),
            0x380..0x400 => self.set_word(number, value, |line| line.active = false),
            GICD_ICFGR..0xd00 => {
                let first = (offset - GICD_ICFGR) as u32 * 4;
                for field in 0..16 {
                    self.with(first + field, |line| {
                        let edge = value >> (2 * field) & 0b10 != 0;
                        // A change while it is enabled is UNPREDICTABLE (4.3.13).
                        assert!(edge == line.edge || !line.enabled, "{}", first + field);
                        line.edge = edge;
                    });
                }
            }
            GICD_SGIR => {
                assert_eq!(value >> 24, 0, "the list is used");
                let (targets, intid) = (value >> 16 & 0xff, value & 0xf);
                let sender = 1 << self.cpu.get();
                for cpu in (0..self.pcpus).filter(|cpu| targets & 1 << cpu != 0) {
                    let mut state = self.state.borrow_mut();
                    state.cpus[cpu].private[intid as usize].senders |= sender;
                }
            }
            _ => panic!("write of GICD + {offset:#x}"),
        }
    }

    fn write_byte(&self, at: Pa, value: u8) {
        let offset = at.get() - D.get();
        match offset {
            GICD_IPRIORITYR..0x800 => {
                let intid = (offset - GICD_IPRIORITYR) as u32;
                if !SECURE.contains(&intid) {
                    self.with(intid, |line| line.priority = 0x80 | value >> 1);
                }
            }
            0x820..0xc00 => {
                let intid = (offset - GICD_ITARGETSR) as u32;
                if !SECURE.contains(&intid) {
                    self.with(intid, |line| line.targets = value);
                }
            }
            _ => panic!("write of a byte of GICD + {offset:#x}"),
        }
    }

    fn read_double(&self, at: Pa) -> u64 {
        panic!("a GICv2 has no register of 64 bits: {:#x}", at.get())
    }

    fn write_double(&self, at: Pa, _value: u64) {
        panic!("a GICv2 has no register of 64 bits: {:#x}", at.get())
    }

    fn now(&self) -> Ticks {
        Ticks::ZERO
    }

    fn second(&self) -> Ticks {
        Ticks::ZERO
    }
}

/// The register of the CPU interface at an address in its region; `Some(None)` where there is none.
fn interface_offset(model: &Model, at: Pa) -> Option<Option<u64>> {
    let offset = at.get().checked_sub(REGION)?;
    Some(if model.aliased {
        Some(offset >> 16 << 12 | offset & 0xfff)
    } else {
        (offset < 0x2000).then_some(offset)
    })
}

/// A GIC after boot.
fn ready() -> Model {
    let model = Model::of(2, true);
    init_distributor(model.on(0), D);
    for cpu in 0..2 {
        let mask = init_cpu_interface(model.on(cpu), D, C, OWN);
        assert_eq!(mask, Ok(InterfaceMask::new(1 << cpu)));
    }
    model
}

#[test]
fn boot_leaves_nothing_enabled_but_what_is_ours() {
    let model = ready();
    for cpu in 0..2 {
        model.on(cpu);
        for intid in Model::intids() {
            let line = model.line(intid);
            let is_own = intid < 32 && OWN & 1 << intid != 0;
            let is_secure = SECURE.contains(&intid);
            assert_eq!(line.enabled, is_own || is_secure, "{intid}");
            assert_eq!(line.active, is_secure, "{intid}");
        }
        assert!((1..32).all(|intid| SECURE.contains(&intid)
            || model.line(intid).priority < model.line(KICK_INTID).priority));
        let state = model.state.borrow();
        let interface = &state.cpus[cpu];
        assert_eq!(interface.priorities, [0; 4]);
        assert_eq!(
            interface.control,
            1 | 1 << 9 | 0b11 << 5,
            "the bypasses stay"
        );
        assert_eq!((interface.mask, interface.binary_point), (0xff, 0));
        assert_eq!(state.control, 1);
    }
}

#[test]
fn an_interface_at_the_wrong_place_is_named() {
    let model = Model::of(2, false);
    let error = init_cpu_interface(&model, D, C, OWN).unwrap_err();
    assert_eq!(error, InterfaceError { at: C, iidr: 0 });
    assert_eq!(
        error.to_string(),
        "no GICv2 CPU interface at 0xf902f000 (GICC_IIDR is 0x0): \
         check the second range of the GIC node's reg"
    );
    let first = Pa::new(REGION);
    assert!(init_cpu_interface(&model, D, first, OWN).is_ok());
}

#[test]
fn a_gic_of_one_pcpu_has_no_interface_bits() {
    let model = Model::of(1, true);
    init_distributor(&model, D);
    let mask = init_cpu_interface(&model, D, C, OWN).unwrap();
    assert_eq!(mask.bits(), 0);
    assert!(!mask.is_one());
    for (bits, is_one) in [
        (0, false),
        (1, true),
        (0x80, true),
        (3, false),
        (0xff, false),
    ] {
        assert_eq!(InterfaceMask::new(bits).is_one(), is_one, "{bits:#x}");
    }
}

#[test]
fn an_spi_is_what_the_tree_says() {
    for intid in [33, 34, 47, 48, 127] {
        for before in [false, true] {
            for (trigger, after) in [
                (Some(Trigger::Edge), true),
                (Some(Trigger::Level), false),
                (None, before),
            ] {
                let model = ready();
                for line in Model::intids() {
                    model.with(line, |line| line.edge = before);
                }
                configure_spi(&model, D, intid, trigger, InterfaceMask::new(2));
                assert!(!model.line(intid).enabled);
                set_spi_enabled(&model, D, intid, true);
                let line = model.line(intid);
                assert_eq!(line.edge, after, "{intid} {before} {trigger:?}");
                assert!(line.enabled && line.targets == 2);
                assert_eq!(line.priority, 0x80 | PRIORITY >> 1);
                let neighbour = model.line(intid ^ 1);
                assert!(neighbour.edge == before && !neighbour.enabled);
                assert_eq!(neighbour.targets, 0);
            }
        }
    }
}

#[test]
fn an_spi_comes_to_the_pcpu_that_it_is_routed_to() {
    let model = ready();
    configure_spi(&model, D, 33, None, InterfaceMask::new(1));
    set_spi_enabled(&model, D, 33, true);
    model.with(33, |line| line.pending = true);
    assert_eq!(acknowledge(model.on(1), C), None);
    route_spi(&model, D, 33, InterfaceMask::new(2));
    assert_eq!(acknowledge(model.on(0), C), None);
    let interrupt = acknowledge(model.on(1), C).unwrap();
    assert_eq!((interrupt.intid(), interrupt.word()), (33, 33));
    drop_priority(&model, C, interrupt);
    assert!(model.line(33).active, "only its priority was dropped");
    deactivate(&model, C, interrupt);
    assert!(!model.line(33).active);
    // By the distributor, and no more of it once it is disabled.
    model.with(33, |line| line.pending = true);
    let interrupt = acknowledge(model.on(1), C).unwrap();
    drop_priority(&model, C, interrupt);
    deactivate_spi(&model, D, 33);
    assert!(!model.line(33).active);
    set_spi_enabled(&model, D, 33, false);
    assert!(!model.line(33).enabled);
}

#[test]
fn a_kick_reaches_its_target_with_its_sender() {
    let model = ready();
    kick(model.on(1), D, InterfaceMask::new(1));
    assert_eq!(acknowledge(model.on(1), C), None);
    let interrupt = acknowledge(model.on(0), C).unwrap();
    assert_eq!(interrupt.intid(), KICK_INTID);
    // Both registers want the sender again (4.4.5, 4.4.15).
    assert_eq!(interrupt.word(), KICK_INTID | 1 << 10);
    // A second one waits until the first is deactivated.
    kick(model.on(0), D, InterfaceMask::new(1));
    assert_eq!(acknowledge(&model, C), None);
    drop_priority(&model, C, interrupt);
    assert_eq!(acknowledge(&model, C), None);
    deactivate(&model, C, interrupt);
    let second = acknowledge(&model, C).unwrap();
    assert_eq!(second.word(), KICK_INTID);
}

#[test]
fn private_active_states_are_the_accessing_pcpus_own() {
    let model = ready();
    set_private_active(model.on(1), D, 27, true);
    let active = |cpu| {
        let lines = (0..32).filter(|intid| !SECURE.contains(intid));
        let active = lines.filter(|intid| model.on(cpu).line(*intid).active);
        active.collect::<BTreeSet<_>>()
    };
    assert_eq!(active(0), BTreeSet::new());
    assert_eq!(active(1), BTreeSet::from([27]));
    set_private_active(model.on(1), D, 27, false);
    assert_eq!(active(1), BTreeSet::new());
}

/// Whatever came, it does not come again, and all others do.
#[test]
fn any_kind_is_disabled_alone() {
    for intid in [0, 31, 32, 127] {
        let model = Model::of(2, true);
        // A GICv2 has the registers of a GICv3 for these, private ones in the distributor.
        crate::gicv3::disable(model.on(1), D, D, intid);
        for other in Model::intids() {
            assert_eq!(model.line(other).enabled, other != intid, "{intid} {other}");
        }
        assert_eq!(model.on(0).line(intid).enabled, intid < 32, "it is banked");
    }
}
