// SPDX-License-Identifier: Apache-2.0 OR MIT
//! VMs start and end, map and unmap in random orders, while devices use all streams at all addresses: none reaches memory
//! that is nobody's, or another VM's.

use super::model::{Model, Outcome, to};
use super::{started, vm};
use crate::{Hardware, Smmu};
use mediator::addr::{Ipa, Pa};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Streams: each VM has some, and the rest nobody.
const STREAMS: [(usize, u32, u32); 4] = [(0, 5, 1), (1, 6, 60), (2, 0x100, 0x100), (0, 128, 64)];
/// Streams that devices use, and whose they are.
const USED: [(u32, Option<usize>); 9] = [
    (0, None),
    (5, Some(0)),
    (6, Some(1)),
    (64, Some(1)),
    (65, Some(1)),
    (66, None),
    (130, Some(0)),
    (0x1ff, Some(2)),
    (0x200, None),
];
/// Guest pages.
const PAGES: u64 = 3;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Starts a VM that is off, or ends it.
    Turn(usize),
    /// Maps a page of a VM that runs, or unmaps it.
    Page(usize, u64),
    /// Unmaps all pages of a VM at once.
    Clear(usize),
    /// Looks for events.
    Events,
}

struct World {
    model: Model,
    smmu: Smmu<Model>,
    /// The root of each VM that runs.
    roots: BTreeMap<usize, Pa>,
    /// Whose each page of memory is.
    owners: BTreeMap<u64, usize>,
    /// The page of memory behind each page of a guest.
    mapped: BTreeMap<(usize, u64), u64>,
    next: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let model = Model::new(seed);
        let mut smmu = started(&model);
        for (owner, first, count) in STREAMS {
            smmu.reserve(vm(owner), first, count).unwrap();
        }
        Self {
            model,
            smmu,
            roots: BTreeMap::new(),
            owners: BTreeMap::new(),
            mapped: BTreeMap::new(),
            next: 0,
        }
    }

    /// A page of memory that a VM gets: often one that another has had.
    fn take(&mut self, owner: usize) -> u64 {
        let free = (0..).find(|page| !self.owners.contains_key(page)).unwrap();
        self.owners.insert(free, owner);
        free
    }

    fn map(&mut self, owner: usize, page: u64) {
        let target = self.take(owner);
        self.model.map(self.roots[&owner], page, target);
        self.mapped.insert((owner, page), target);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Turn(owner) => {
                if self.roots.contains_key(&owner) {
                    self.smmu.detach(vm(owner)).unwrap();
                    // Tables and memory have another use from here on.
                    let root = self.roots.remove(&owner).unwrap();
                    self.model.state.borrow_mut().tables.remove(&root.get());
                    self.mapped.retain(|(of, _), _| *of != owner);
                    self.owners.retain(|_, of| *of != owner);
                } else {
                    // Tables are where another VM's were.
                    self.next = (self.next + 1) % 4;
                    let used = |root: u64| self.roots.values().any(|other| other.get() == root);
                    let mut roots = (0..8).map(|place| 0x8000_0000 + 0x2000 * (self.next + place));
                    let root = roots.find(|root| !used(*root)).unwrap();
                    self.roots.insert(owner, Pa::new(root));
                    self.map(owner, 0);
                    self.smmu.attach(vm(owner), to(root)).unwrap();
                    assert_eq!(
                        self.own_access(owner),
                        Outcome::Page(self.mapped[&(owner, 0)])
                    );
                }
            }
            Step::Page(owner, page) if self.roots.contains_key(&owner) => {
                match self.mapped.remove(&(owner, page)) {
                    None => self.map(owner, page),
                    Some(target) => {
                        self.model.unmap(self.roots[&owner], page);
                        let ipa = Ipa::new(page << 12);
                        self.smmu.invalidate_ipa(vm(owner), ipa).unwrap();
                        self.owners.remove(&target);
                    }
                }
            }
            Step::Clear(owner) if self.roots.contains_key(&owner) => {
                for page in 0..PAGES {
                    self.model.unmap(self.roots[&owner], page);
                }
                self.smmu.invalidate_all(vm(owner)).unwrap();
                self.mapped.retain(|(of, _), _| *of != owner);
                self.owners.retain(|_, of| *of != owner);
            }
            Step::Events => _ = self.smmu.take_events(|_| ()),
            Step::Page(..) | Step::Clear(_) => {}
        }
    }

    fn own_access(&self, owner: usize) -> Outcome {
        let stream = USED.iter().find(|(_, of)| *of == Some(owner)).unwrap().0;
        self.model.access(stream, 0)
    }

    /// Devices use everything.
    fn check(&self) {
        for (stream, owner) in USED {
            for page in 0..PAGES {
                let Outcome::Page(target) = self.model.access(stream, page) else {
                    continue;
                };
                let of = self.owners.get(&target).copied();
                assert!(of.is_some(), "stream {stream:#x}: memory of nobody");
                assert_eq!(of, owner, "stream {stream:#x}");
            }
        }
        // The SMMU reads ahead.
        self.model.order();
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..3_usize).prop_map(Step::Turn),
        4 => (0..3_usize, 0..PAGES).prop_map(|(vm, page)| Step::Page(vm, page)),
        1 => (0..3_usize).prop_map(Step::Clear),
        1 => Just(Step::Events),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_stream_leads_to_memory_that_is_nobodys(steps in steps(), seed in any::<u64>()) {
        let mut world = World::new(seed);
        world.check();
        for step in steps {
            world.step(step);
            world.check();
        }
    }
}
