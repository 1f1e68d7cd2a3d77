// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A GIC whose level-sensitive lines stay high until their source is quiet.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const KICK: u32 = 0;
const MAINTENANCE: u32 = 25;
const TIMER: u32 = 26;
const VIRTUAL_TIMER: u32 = 27;
const CONSOLE: u32 = 33;
const NOTIFICATION: u32 = 34;
/// An interrupt without an owner.
const STRANGER: u32 = 77;

/// The parts of the model are shared: a handler's access to its device lowers a line of the GIC.
#[derive(Default)]
struct Model {
    /// Lines that are high. A level-sensitive interrupt is pending while its line is.
    lines: BTreeSet<u32>,
    /// Edges and SGIs that were not taken yet.
    latches: BTreeSet<u32>,
    active: BTreeSet<u32>,
    disabled: BTreeSet<u32>,
    /// The priorities of interrupts that were taken and whose priority was not dropped.
    running: Vec<u8>,
    /// The number of SGIs that each other pCPU still sends: one whenever none is pending.
    senders: Vec<u64>,
    /// The interrupts that were taken, in order.
    taken: Vec<u32>,
    unexpected: Vec<u32>,
    /// Whether a vCPU is loaded.
    occupied: bool,
    /// The number of interrupts until EL2's timer is due, once.
    timer_in: Option<usize>,
}

type Shared = std::rc::Rc<std::cell::RefCell<Model>>;

struct Gic(Shared);
struct Devices(Shared);

fn priority(intid: u32) -> u8 {
    if intid == KICK { 0xc0 } else { 0xa0 }
}

/// Returns what a GICv2 wants to hear again: the kick has a sender.
fn word_of(intid: u32) -> u32 {
    if intid == KICK { 3 << 10 } else { intid }
}

impl Model {
    fn best(&self) -> Option<u32> {
        let pending = self.lines.union(&self.latches);
        pending
            .copied()
            .filter(|intid| !self.active.contains(intid) && !self.disabled.contains(intid))
            .min_by_key(|&intid| (priority(intid), intid))
    }

    /// Lets the other pCPUs proceed while this pCPU acts.
    fn time_passes(&mut self) {
        if let Some(sender) = self.senders.iter_mut().find(|left| **left > 0)
            && self.latches.insert(KICK)
        {
            *sender -= 1;
        }
    }
}

impl PhysicalGic for Gic {
    fn acknowledge(&mut self) -> Option<Acknowledged> {
        let mut gic = self.0.borrow_mut();
        gic.time_passes();
        if let Some(left) = gic.timer_in {
            gic.timer_in = left.checked_sub(1);
            if left == 0 {
                gic.lines.insert(TIMER);
            }
        }
        let intid = gic.best()?;
        gic.latches.remove(&intid);
        gic.active.insert(intid);
        gic.running.push(priority(intid));
        gic.taken.push(intid);
        Some(Acknowledged::new(intid, word_of(intid)))
    }

    fn drop_priority(&mut self, interrupt: Acknowledged) {
        let intid = interrupt.intid();
        assert_eq!(interrupt.word(), word_of(intid));
        let dropped = self.0.borrow_mut().running.pop();
        assert_eq!(dropped, Some(priority(intid)), "dropped in another order");
    }

    fn deactivate(&mut self, interrupt: Acknowledged) {
        let intid = interrupt.intid();
        assert_eq!(interrupt.word(), word_of(intid));
        let mut gic = self.0.borrow_mut();
        gic.time_passes();
        assert!(gic.active.remove(&intid), "{intid} is not active");
        assert!(
            !gic.lines.contains(&intid) || gic.disabled.contains(&intid),
            "{intid} is deactivated with its line high: it would be taken again and again"
        );
    }

    fn disable(&mut self, intid: u32) {
        self.0.borrow_mut().disabled.insert(intid);
    }
}

impl Handlers for Devices {
    fn handle(&mut self, intid: u32) -> Option<Handled> {
        let owned = [
            KICK,
            TIMER,
            MAINTENANCE,
            VIRTUAL_TIMER,
            CONSOLE,
            NOTIFICATION,
        ];
        if !owned.contains(&intid) {
            return None;
        }
        let mut gic = self.0.borrow_mut();
        gic.time_passes();
        match intid {
            KICK | NOTIFICATION => {}
            VIRTUAL_TIMER if gic.occupied => return Some(Handled::Linked),
            line => {
                gic.lines.remove(&line);
            }
        }
        Some(Handled::Quiet)
    }

    fn unexpected(&mut self, intid: u32) {
        self.0.borrow_mut().unexpected.push(intid);
    }
}

fn taking(model: Model) -> Model {
    let shared = Shared::new(model.into());
    take(&mut Gic(shared.clone()), &mut Devices(shared.clone()));
    shared.replace(Model::default())
}

#[test]
fn each_pending_source_is_handled_once() {
    let after = taking(Model {
        lines: [MAINTENANCE, TIMER, VIRTUAL_TIMER, CONSOLE].into(),
        latches: [KICK, NOTIFICATION].into(),
        occupied: true,
        ..Model::default()
    });
    let mut taken = BTreeMap::new();
    for intid in &after.taken {
        *taken.entry(*intid).or_insert(0) += 1;
    }
    let all = [
        KICK,
        MAINTENANCE,
        TIMER,
        VIRTUAL_TIMER,
        CONSOLE,
        NOTIFICATION,
    ];
    assert_eq!(taken, all.map(|intid| (intid, 1)).into());
    assert_eq!(after.active, [VIRTUAL_TIMER].into(), "the guest's to end");
    assert!(after.running.is_empty());
}

#[test]
fn virtual_timer_without_vcpu_is_silenced() {
    let after = taking(Model {
        lines: [VIRTUAL_TIMER].into(),
        ..Model::default()
    });
    assert_eq!(after.taken, [VIRTUAL_TIMER]);
    assert!(after.active.is_empty() && after.lines.is_empty());
}

#[test]
fn interrupt_without_owner_is_disabled_and_taken_once() {
    let after = taking(Model {
        lines: [STRANGER, CONSOLE].into(),
        latches: [3].into(),
        ..Model::default()
    });
    assert_eq!(after.disabled, [3, STRANGER].into());
    assert_eq!(after.unexpected, [3, STRANGER]);
    assert_eq!(after.taken, [3, CONSOLE, STRANGER]);
    assert!(after.active.is_empty());
}

#[test]
fn sgi_storm_is_bounded_and_timer_is_taken_first() {
    for timer_in in 0..MOST {
        let after = taking(Model {
            senders: vec![u64::MAX; 7],
            timer_in: Some(timer_in),
            occupied: true,
            ..Model::default()
        });
        assert_eq!(after.taken.len(), MOST, "it ends while the storm goes on");
        assert_eq!(
            after.taken[timer_in], TIMER,
            "the first that is taken after it is due"
        );
        assert_eq!(after.latches, [KICK].into(), "the rest waits");
    }
}

proptest! {
    /// For every set of pending and arriving interrupts: the call ends within its bound, each
    /// active interrupt has a vCPU that ends it, and the timer is taken before kicks.
    #[test]
    fn take_ends_within_its_bound(
        lines in proptest::collection::btree_set(16..120_u32, 0..20),
        latches in proptest::collection::btree_set(0..120_u32, 0..20),
        senders in proptest::collection::vec(0..10_u64, 7),
        occupied: bool,
    ) {
        let level = |intid: &u32| *intid != NOTIFICATION;
        let lines: BTreeSet<u32> = lines.into_iter().filter(level).collect();
        let timer = lines.contains(&TIMER);
        let pending = lines.union(&latches).count() as u64 + senders.iter().sum::<u64>();
        let after = taking(Model { lines, latches, senders, occupied, ..Model::default() });
        prop_assert!(after.taken.len() <= MOST);
        prop_assert!(after.taken.len() as u64 <= pending);
        prop_assert!(after.active.iter().all(|&intid| intid == VIRTUAL_TIMER && occupied));
        prop_assert!(after.running.is_empty());
        let before_timer = after.taken.iter().take_while(|intid| **intid != TIMER);
        prop_assert!(!timer || !before_timer.copied().any(|intid| intid == KICK));
    }
}
