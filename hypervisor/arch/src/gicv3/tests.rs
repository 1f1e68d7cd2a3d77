// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A GIC of two pCPUs with the extended ranges, in which firmware has left all kinds of things, whose registers take their
//! time, or for ever.

use super::*;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

const D: Pa = Pa::new(0x0800_0000);
const R: Pa = Pa::new(0x080a_0000);
const SECOND: u64 = 1000;
/// What the registers take, in ticks.
const DELAY: u64 = 20;
const SPI_WORDS: u32 = 3;

/// What does not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stuck {
    Nothing,
    /// GICD_CTLR.RWP after so many writes that raise it.
    Distributor(u32),
    Redistributor,
    Sleep,
}

struct Model {
    stuck: Stuck,
    clock: Cell<u64>,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    /// Registers without effects, by address.
    plain: BTreeMap<u64, u32>,
    /// Bits that one register sets and another clears, by the address of the one that sets.
    bits: BTreeMap<u64, u32>,
    bytes: BTreeMap<u64, u8>,
    doubles: BTreeMap<u64, u64>,
    /// Until when writes are under way: in the distributor, and in the redistributor.
    writes: [u64; 2],
    raised: u32,
    awake_at: Option<u64>,
}

/// The frame that an address is in, and the offset in it.
fn frame(at: u64) -> (u64, u64) {
    if at < R.get() {
        (D.get(), at - D.get())
    } else {
        let frame = at & !0xffff;
        (frame, at - frame)
    }
}

/// Where the register is that sets what is cleared at this offset, and whether clearing takes time.
fn set_by(offset: u64) -> Option<(u64, bool)> {
    match offset {
        0x180..0x200 => Some((offset - 0x80, true)),
        0x380..0x400 => Some((offset - 0x80, false)),
        0x1400..0x1480 => Some((offset - 0x200, true)),
        0x1c00..0x1c80 => Some((offset - 0x200, false)),
        _ => None,
    }
}

impl Model {
    fn new(stuck: Stuck) -> Self {
        let mut state = State::default();
        let kind = SPI_WORDS | GICD_TYPER_ESPI | 1 << 27;
        state.plain.insert(D.get() + GICD_TYPER, kind);
        for word in 0..=SPI_WORDS {
            state
                .bits
                .insert(D.get() + 0x100 + u64::from(4 * word), u32::MAX);
            state
                .bits
                .insert(D.get() + 0x300 + u64::from(4 * word), u32::MAX);
        }
        for word in 0..2 {
            state.bits.insert(D.get() + 0x1200 + 4 * word, u32::MAX);
        }
        for cpu in 0..2 {
            let base = R.get() + cpu * REDISTRIBUTOR_STRIDE;
            // Affinity, Last, and two words of extended PPIs.
            let kind = cpu << 32 | (cpu & 1) << 4 | 2 << 27;
            state.doubles.insert(base + GICR_TYPER, kind);
            state.plain.insert(base + GICR_WAKER, 0b110);
            state.plain.insert(base + GICR_CTLR, GICR_CTLR_ENABLE_LPIS);
            for word in 0..3 {
                state
                    .bits
                    .insert(base + SGI_FRAME + 0x100 + 4 * word, u32::MAX);
            }
        }
        Self {
            stuck,
            clock: Cell::new(0),
            state: RefCell::new(state),
        }
    }

    fn tick(&self) -> u64 {
        self.clock.set(self.clock.get() + 1);
        self.clock.get()
    }

    /// What the register that sets bits reads as.
    fn bits(&self, base: Pa, offset: u64) -> u32 {
        let at = base.get() + offset;
        self.state.borrow().bits.get(&at).copied().unwrap_or(0)
    }

    /// All that is enabled: frame and INTID, numbered from zero in each range.
    fn enabled(&self) -> BTreeSet<(u64, u64)> {
        let state = self.state.borrow();
        let words = state.bits.iter().filter(|(at, _)| {
            let (_, offset) = frame(**at);
            (0x100..0x180).contains(&offset) || (0x1200..0x1280).contains(&offset)
        });
        words
            .flat_map(|(at, word)| {
                let set = (0..32).filter(move |bit| word & 1 << bit != 0);
                set.map(move |bit| {
                    let (frame, offset) = frame(*at);
                    (frame, offset * 8 + bit)
                })
            })
            .collect()
    }

    fn is_enabled(&self, base: Pa, offset: u64, number: u32) -> bool {
        self.bits(base, offset + word(number)) & bit(number) != 0
    }

    fn edge(&self, intid: u32) -> bool {
        let at = D.get() + GICD_ICFGR + u64::from(intid / 16 * 4);
        let word = self.state.borrow().plain.get(&at).copied().unwrap_or(0);
        word >> (intid % 16 * 2 + 1) & 1 != 0
    }
}

impl Bus for Model {
    fn read(&self, at: Pa) -> u32 {
        let now = self.tick();
        let at = at.get();
        let (frame, offset) = frame(at);
        let state = &mut *self.state.borrow_mut();
        let plain = state.plain.get(&at).copied().unwrap_or(0);
        match offset {
            GICD_CTLR if frame == D.get() => {
                let stuck = matches!(self.stuck, Stuck::Distributor(from) if state.raised > from);
                let busy = now < state.writes[0] || stuck;
                plain | if busy { GICD_CTLR_RWP } else { 0 }
            }
            GICR_CTLR => {
                let busy = now < state.writes[1]
                    || self.stuck == Stuck::Redistributor && state.writes[1] > 0;
                plain | if busy { GICR_CTLR_RWP } else { 0 }
            }
            GICR_WAKER if frame != D.get() => {
                let awake = state.awake_at.is_some_and(|at| now >= at);
                let asleep = !awake || self.stuck == Stuck::Sleep;
                plain & !0b100 | u32::from(asleep) << 2
            }
            _ => plain,
        }
    }

    fn write(&self, at: Pa, value: u32) {
        let now = self.tick();
        let at = at.get();
        let (frame, offset) = frame(at);
        let state = &mut *self.state.borrow_mut();
        let which = usize::from(frame != D.get());
        if let Some((setter, takes_time)) = set_by(offset) {
            *state.bits.entry(frame + setter).or_default() &= !value;
            if takes_time {
                state.writes[which] = now + DELAY;
                state.raised += u32::from(which == 0);
            }
            return;
        }
        match offset {
            GICD_CTLR if which == 0 => {
                state.writes[0] = now + DELAY;
                state.raised += 1;
            }
            GICR_WAKER if which == 1 && value & 0b10 == 0 => state.awake_at = Some(now + DELAY),
            // ISENABLER and ISACTIVER.
            0x100..0x180 | 0x300..0x380 => {
                *state.bits.entry(at).or_default() |= value;
                return;
            }
            GICD_ICFGR..0xd00 => {
                // What changes while it is enabled is UNPREDICTABLE (12.9.9).
                let changed = state.plain.get(&at).copied().unwrap_or(0) ^ value;
                for field in (0..16).filter(|field| changed & 0b11 << (2 * field) != 0) {
                    let intid = ((offset - GICD_ICFGR) * 4) as u32 + field;
                    let enabled = state.bits.get(&(frame + 0x100 + word(intid)));
                    assert_eq!(enabled.copied().unwrap_or(0) & bit(intid), 0, "{intid}");
                    assert!(now >= state.writes[0], "it may not be disabled yet");
                }
            }
            _ => {}
        }
        state.plain.insert(at, value);
    }

    fn write_byte(&self, at: Pa, value: u8) {
        self.tick();
        self.state.borrow_mut().bytes.insert(at.get(), value);
    }

    fn read_double(&self, at: Pa) -> u64 {
        self.tick();
        self.state.borrow().doubles[&at.get()]
    }

    fn write_double(&self, at: Pa, value: u64) {
        self.tick();
        self.state.borrow_mut().doubles.insert(at.get(), value);
    }

    fn now(&self) -> Ticks {
        Ticks::new(self.tick())
    }

    fn second(&self) -> Ticks {
        Ticks::new(SECOND)
    }
}

const OWN: u32 = 1 << KICK_INTID | 1 << 25 | 1 << 26 | 1 << 27;

/// A GIC after boot.
fn ready() -> Model {
    let model = Model::new(Stuck::Nothing);
    assert_eq!(init_distributor(&model, D), Ok(()));
    for cpu in 0..2 {
        let regions = [(R, Pa::new(R.get() + 2 * REDISTRIBUTOR_STRIDE))];
        let found = find_redistributor(&model, regions.into_iter(), 0, Mpidr::new(1 << 31 | cpu));
        assert_eq!(found, Some(Pa::new(R.get() + cpu * REDISTRIBUTOR_STRIDE)));
        assert_eq!(init_redistributor(&model, found.unwrap(), OWN), Ok(()));
    }
    model
}

/// Firmware's interrupts are off, those of the extended ranges too, so that none comes that nobody handles.
#[test]
fn after_boot_nothing_is_enabled_but_what_is_ours() {
    let model = ready();
    let mut own = BTreeSet::new();
    for cpu in 0..2 {
        let frame = R.get() + cpu * REDISTRIBUTOR_STRIDE + SGI_FRAME;
        own.extend([0, 25, 26, 27].map(|intid| (frame, 0x100 * 8 + intid)));
    }
    let enabled = model.enabled();
    // Word 0 of the distributor is the redistributors'.
    let enabled: BTreeSet<_> = enabled
        .into_iter()
        .filter(|(frame, at)| *frame != D.get() || *at >= 0x104 * 8)
        .collect();
    assert_eq!(enabled, own);
    for word in 1..=SPI_WORDS {
        assert_eq!(model.bits(D, GICD_ISACTIVER + u64::from(4 * word)), 0);
    }
    assert_eq!(model.read(R) & GICR_CTLR_ENABLE_LPIS, 0);
    let state = model.state.borrow();
    let priority = |intid: u64| state.bytes[&(R.get() + SGI_FRAME + GICD_IPRIORITYR + intid)];
    assert!((1..32).all(|intid| priority(intid) < priority(0)));
}

/// A register that does not change ends the boot in time, and is named.
#[test]
fn what_does_not_get_ready_is_named() {
    for (stuck, register, field, at) in [
        (Stuck::Distributor(0), "GICD_CTLR", "RWP", 0x0800_0000),
        (Stuck::Distributor(1), "GICD_CTLR", "RWP", 0x0800_0000),
        (Stuck::Redistributor, "GICR_CTLR", "RWP", 0x080a_0000),
        (Stuck::Sleep, "GICR_WAKER", "ChildrenAsleep", 0x080a_0014),
    ] {
        let model = Model::new(stuck);
        let done = init_distributor(&model, D).and_then(|()| init_redistributor(&model, R, OWN));
        let at = Pa::new(at);
        let error = GicError {
            register,
            field,
            at,
        };
        assert_eq!(done, Err(error), "{stuck:?}");
        let text = error.to_string();
        assert!(
            text.contains(&format!("{field} of {register} at {:#x}", at.get())),
            "{text}"
        );
        let time = model.clock.get();
        assert!((SECOND..2 * SECOND).contains(&time), "{stuck:?}: {time}");
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
                let at = D.get() + GICD_ICFGR + u64::from(intid / 16 * 4);
                let word = if before { 0xaaaa_aaaa } else { 0 };
                model.state.borrow_mut().plain.insert(at, word);
                configure_spi(
                    &model,
                    D,
                    intid,
                    trigger,
                    Mpidr::new(1 << 31 | 0x2_0000_0103),
                );
                assert!(!model.is_enabled(D, GICD_ISENABLER, intid));
                set_spi_enabled(&model, D, intid, true);
                assert_eq!(model.edge(intid), after, "{intid} {before} {trigger:?}");
                // Its neighbours stay.
                assert_eq!(model.edge(intid ^ 1), before);
                assert!(model.is_enabled(D, GICD_ISENABLER, intid));
                assert!(!model.is_enabled(D, GICD_ISENABLER, intid ^ 1));
                let state = model.state.borrow();
                let route = D.get() + GICD_IROUTER + 8 * u64::from(intid);
                assert_eq!(state.doubles[&route], 0x2_0000_0103);
                let priority = D.get() + GICD_IPRIORITYR + u64::from(intid);
                assert_eq!(state.bytes[&priority], PRIORITY);
            }
        }
    }
}

/// Whatever came, it does not come again, and all others do.
#[test]
fn any_kind_is_disabled_alone() {
    let own = Pa::new(R.get() + REDISTRIBUTOR_STRIDE);
    let private = R.get() + REDISTRIBUTOR_STRIDE + SGI_FRAME;
    for (intid, frame, at) in [
        (0, private, 0x100 * 8),
        (31, private, 0x100 * 8 + 31),
        (32, D.get(), 0x104 * 8),
        (127, D.get(), 0x100 * 8 + 127),
        (1056, private, 0x104 * 8),
        (1119, private, 0x108 * 8 + 31),
        (4096, D.get(), 0x1200 * 8),
        (4159, D.get(), 0x1200 * 8 + 63),
    ] {
        // As firmware left it.
        let model = Model::new(Stuck::Nothing);
        let mut expected = model.enabled();
        disable(&model, D, private_frame(own), intid);
        assert!(expected.remove(&(frame, at)), "{intid}");
        assert_eq!(model.enabled(), expected, "{intid}");
    }
    for intid in [1020, 1023, 1024, 1120, 5120, 8192, u32::MAX] {
        let model = Model::new(Stuck::Nothing);
        let expected = model.enabled();
        disable(&model, D, private_frame(own), intid);
        assert_eq!(model.enabled(), expected, "{intid}");
    }
}

#[test]
fn a_wait_ends_with_what_is_so_at_the_end() {
    let clock = Cell::new(0_u64);
    let now = || Ticks::new(clock.replace(clock.get() + 1));
    assert!(wait_until(now, Ticks::new(0), || true));
    assert!(!wait_until(now, Ticks::new(100), || false));
    assert!((100..=103).contains(&clock.get()), "{}", clock.get());
    assert!(wait_until(now, Ticks::new(100), || clock.get() >= 150));
    // Away for an hour, and it has come meanwhile.
    let looks = Cell::new(0);
    let away = || Ticks::new(clock.replace(clock.get() + 1_000_000));
    assert!(wait_until(away, Ticks::new(100), || looks
        .replace(looks.get() + 1)
        > 0));
    // A clock that stands still, or goes back, is no reason to give up.
    let still = || Ticks::new(7);
    assert!(wait_until(still, Ticks::new(0), || looks
        .replace(looks.get() + 1)
        > 50));
}
