// SPDX-License-Identifier: Apache-2.0 OR MIT
mod identity;
mod machine;

use aarch64_paging::descriptor::{PhysicalAddress, Stage2Attributes};
use aarch64_paging::paging::{Constraints, MemoryRegion, RootTable};
use aarch64_paging::target::TargetAllocator;
use proptest::prelude::*;

use self::machine::{Machine, walk};
use super::*;

const PAGE: u64 = 0x1000;
const BLOCK: u64 = 0x20_0000;
const GIGABYTE: u64 = 0x4000_0000;
/// A number of tables that is enough for each test.
const PLENTY: usize = 2000;

fn at(start: u64, bytes: u64) -> IpaRange {
    IpaRange {
        start: Ipa::new(start),
        bytes,
    }
}

/// Returns the attribute bits as in the Arm ARM, without the entry's type.
fn bits(attributes: Attributes) -> u64 {
    match (attributes.memory, attributes.write, attributes.execute) {
        (MemoryType::Normal, true, true) => 0x7fc,
        (MemoryType::Normal, false, false) => 0x0040_0000_0000_077c,
        (MemoryType::Device, true, false) => 0x0040_0000_0000_04c4,
        other => panic!("no test uses {other:?}"),
    }
}

#[test]
fn large_ranges_use_large_blocks() {
    let mut host = Machine::new(100);
    let mut tables = Stage2::new(&mut host).unwrap();
    assert_eq!(tables.root().get() % 0x2000, 0);
    tables
        .map(
            &mut host,
            at(4 * GIGABYTE, 2 * GIGABYTE),
            Pa::new(GIGABYTE),
            Attributes::RAM,
        )
        .unwrap();
    assert_eq!(host.in_use(), 2);
    // The last 2 MiB of a 40-bit address space, in the second table of the root.
    let end = 1 << IPA_BITS;
    tables
        .map(
            &mut host,
            at(end - BLOCK, BLOCK),
            Pa::new(BLOCK),
            Attributes::RAM,
        )
        .unwrap();
    assert_eq!(host.in_use(), 3);
    let (pa, _) = tables.translate(&host, Ipa::new(end - 1)).unwrap();
    assert_eq!(pa, Pa::new(2 * BLOCK - 1));
    // To unmap a page in a 1 GiB block takes a table of 2 MiB blocks and a table of pages.
    tables
        .unmap(&mut host, at(4 * GIGABYTE + 5 * PAGE, PAGE))
        .unwrap();
    assert_eq!(host.in_use(), 5);
    free(tables, &mut host);
    assert_eq!(host.in_use(), 0);
}

/// Frees all tables, one after the other.
fn free(tables: Stage2, host: &mut Machine) {
    let mut left = Some(tables.retire(host));
    while let Some(retired) = left {
        left = retired.free_some(host, 1);
    }
}

/// If a guest gives back one page of each block, all blocks are split. No step reads all tables.
#[test]
fn tables_are_freed_in_steps() {
    const BLOCKS: u64 = 448;
    let mut host = Machine::new(600);
    let mut tables = Stage2::new(&mut host).unwrap();
    tables
        .map(
            &mut host,
            at(4 * GIGABYTE, BLOCKS * BLOCK),
            Pa::new(BLOCK),
            Attributes::RAM,
        )
        .unwrap();
    for block in 0..BLOCKS {
        let page = at(4 * GIGABYTE + block * BLOCK + 5 * PAGE, PAGE);
        tables.unmap(&mut host, page).unwrap();
    }
    let all = host.in_use();
    assert_eq!(all as u64, BLOCKS + 1 + ROOT_PAGES as u64);
    let mut left = Some(tables.retire(&mut host));
    let mut steps = 0;
    while let Some(retired) = left {
        let before = host.in_use();
        host.reads.set(0);
        left = retired.free_some(&mut host, 64);
        assert!(before - host.in_use() <= 64 + ROOT_PAGES);
        // The reads of the root and of a table of blocks.
        assert!(host.reads.get() <= 3 * 512 + 1, "{}", host.reads.get());
        steps += 1;
    }
    assert_eq!((host.in_use(), steps), (0, 8));
}

/// Mappings that are far apart have many tables without a child table. Each must be read, and a
/// step reads only a few.
#[test]
fn tables_without_child_tables_are_freed_in_steps() {
    const TABLES: u64 = 40;
    let mut host = Machine::new(100);
    let mut tables = Stage2::new(&mut host).unwrap();
    for table in 1..=TABLES {
        let block = at(table * GIGABYTE, BLOCK);
        tables
            .map(&mut host, block, Pa::new(BLOCK), Attributes::RAM)
            .unwrap();
    }
    let mut left = Some(tables.retire(&mut host));
    let mut steps = 0;
    while let Some(retired) = left {
        host.reads.set(0);
        left = retired.free_some(&mut host, 64);
        // The reads of the root and of eight tables.
        let most = ROOT_PAGES * 512 + 8 * 512 + 8;
        assert!(host.reads.get() <= most, "{}", host.reads.get());
        steps += 1;
    }
    assert_eq!((host.in_use(), steps), (0, TABLES.div_ceil(8)));
}

/// VTCR_EL2.T0SZ is 64 minus the number of address bits (Arm ARM DDI 0487 D8.2).
#[test]
fn ipa_size_matches_t0sz() {
    assert_eq!((IPA_BITS, T0SZ), (40, 24));
}

#[test]
fn last_page_of_the_48_bit_pa_space_can_be_mapped() {
    let mut host = Machine::new(100);
    let mut tables = Stage2::new(&mut host).unwrap();
    let last = Pa::new((1 << 48) - PAGE);
    let map = tables.map(&mut host, at(BLOCK, PAGE), last, Attributes::RAM);
    assert_eq!(map, Ok(()));
    let found = tables.translate(&host, Ipa::new(BLOCK));
    assert_eq!(found, Ok((last, Attributes::RAM)));
    free(tables, &mut host);
}

/// Other vCPUs keep their TLB entries of other pages: a guest that gives back page after page does
/// not cause new table walks on all its vCPUs each time.
#[test]
fn unmap_of_one_page_does_not_invalidate_the_whole_tlb() {
    let mut host = Machine::new(100);
    let mut tables = Stage2::new(&mut host).unwrap();
    let ram = Attributes::RAM;
    tables
        .map(&mut host, at(0, 16 * PAGE), Pa::new(BLOCK), ram)
        .unwrap();
    // To unmap an address that is not mapped invalidates nothing.
    tables.unmap(&mut host, at(32 * PAGE, PAGE)).unwrap();
    tables.unmap(&mut host, at(3 * PAGE, PAGE)).unwrap();
    assert_eq!(host.forgot_all, 0);
    tables.unmap(&mut host, at(0, 8 * PAGE)).unwrap();
    assert_eq!(host.forgot_all, 1);
    host.assert_quiet();
    free(tables, &mut host);
}

#[test]
fn bad_requests_change_nothing() {
    let mut host = Machine::new(100);
    let mut tables = Stage2::new(&mut host).unwrap();
    let ram = Attributes::RAM;
    for range in [
        at(0, 0),
        at(1, PAGE),
        at(0, PAGE + 1),
        at((1 << IPA_BITS) - PAGE, 2 * PAGE),
        at(1 << IPA_BITS, PAGE),
        at(u64::MAX - PAGE + 1, PAGE),
        at(0x1000, u64::MAX - 0xfff),
    ] {
        let error = Err(Stage2Error::BadRange(range));
        assert_eq!(tables.map(&mut host, range, Pa::new(0), ram), error);
        assert_eq!(tables.unmap(&mut host, range), error);
        assert_eq!(tables.protect(&mut host, range, ram), error);
    }
    for target in [1, 1 << PA_BITS, (1 << PA_BITS) - PAGE, u64::MAX - 0xfff] {
        let target = Pa::new(target);
        let answer = tables.map(&mut host, at(0, 2 * PAGE), target, ram);
        assert_eq!(answer, Err(Stage2Error::BadTarget(target)));
    }
    tables
        .map(&mut host, at(BLOCK, BLOCK), Pa::new(BLOCK), ram)
        .unwrap();
    let answer = tables.map(&mut host, at(0, BLOCK + PAGE), Pa::new(0), ram);
    assert_eq!(answer, Err(Stage2Error::AlreadyMapped(Ipa::new(BLOCK))));
    let answer = tables.protect(&mut host, at(BLOCK, BLOCK + PAGE), Attributes::READ_ONLY);
    assert_eq!(answer, Err(Stage2Error::NotMapped(Ipa::new(2 * BLOCK))));
    assert_eq!(
        tables.translate(&host, Ipa::new(BLOCK)),
        Ok((Pa::new(BLOCK), ram))
    );
    for ipa in [
        0,
        2 * BLOCK,
        1 << IPA_BITS,
        (1 << IPA_BITS) + BLOCK,
        u64::MAX,
    ] {
        let ipa = Ipa::new(ipa);
        assert_eq!(
            tables.translate(&host, ipa),
            Err(Stage2Error::NotMapped(ipa))
        );
    }
    free(tables, &mut host);
}

#[derive(Clone, Debug)]
enum Step {
    Map(IpaRange, Pa, Attributes),
    Unmap(IpaRange),
    Protect(IpaRange, Attributes),
}

/// The mappings, as intervals that do not overlap: start, end, physical address, attributes.
#[derive(Default)]
struct Model(Vec<(u64, u64, u64, Attributes)>);

impl Model {
    fn lookup(&self, ipa: u64) -> Option<(u64, Attributes)> {
        let hit = self.0.iter().find(|m| (m.0..m.1).contains(&ipa))?;
        Some((hit.2 + (ipa - hit.0), hit.3))
    }

    /// Removes a range and returns the mappings that were in it.
    fn take(&mut self, start: u64, end: u64) -> Vec<(u64, u64, u64, Attributes)> {
        let mut taken = Vec::new();
        for (from, to, pa, how) in std::mem::take(&mut self.0) {
            let cut = (from.max(start).min(to), to.min(end).max(from));
            for (a, b, inside) in [
                (from, cut.0, false),
                (cut.0, cut.1, true),
                (cut.1, to, false),
            ] {
                if a < b && !(inside && cut.0 >= cut.1) {
                    let list = if inside { &mut taken } else { &mut self.0 };
                    list.push((a, b, pa + (a - from), how));
                }
            }
        }
        taken
    }
}

fn attributes() -> impl Strategy<Value = Attributes> {
    prop_oneof![
        Just(Attributes::RAM),
        Just(Attributes::READ_ONLY),
        Just(Attributes::DEVICE)
    ]
}

/// Returns ranges around 4 GiB whose ends are likely to coincide, and are often on block
/// boundaries.
fn range() -> impl Strategy<Value = IpaRange> {
    let edge = || {
        prop_oneof![
            (0_u64..3).prop_map(|n| n * GIGABYTE),
            (0_u64..6).prop_map(|n| GIGABYTE + n * BLOCK),
            (0_u64..1030).prop_map(|n| GIGABYTE - BLOCK + n * PAGE),
        ]
    };
    (edge(), edge()).prop_filter_map("empty", |(a, b)| {
        (a != b).then(|| at(3 * GIGABYTE + a.min(b), a.abs_diff(b)))
    })
}

fn step() -> impl Strategy<Value = Step> {
    let map = |(range, pages, blocks, attributes): (IpaRange, u64, u64, _)| {
        // Only a short range is moved by single pages: a long one would need thousands of tables.
        let by_pages = range.bytes <= 4 * BLOCK;
        let to = GIGABYTE + blocks * BLOCK + if by_pages { pages * PAGE } else { 0 };
        // The target has the alignment of the range, or less because of `pages` and `blocks`.
        let own = range.start.get() % if by_pages { BLOCK } else { GIGABYTE };
        Step::Map(range, Pa::new(to + own), attributes)
    };
    let moves = (
        prop_oneof![Just(0), 0_u64..8],
        prop_oneof![Just(0), 0_u64..8],
    );
    prop_oneof![
        3 => (range(), moves, attributes()).prop_map(move |(r, (p, b), a)| map((r, p, b, a))),
        2 => range().prop_map(Step::Unmap),
        1 => (range(), attributes()).prop_map(|(r, a)| Step::Protect(r, a)),
    ]
}

/// The same tables by another implementation. They are never live, so it need not follow
/// break-before-make.
struct Oracle(RootTable<aarch64_paging::paging::Stage2, TargetAllocator<Stage2Attributes>>);

impl Oracle {
    const BASE: u64 = 0x10_0000;

    fn new() -> Self {
        let pages = TargetAllocator::new(Self::BASE);
        Self(RootTable::new(pages, 1, aarch64_paging::paging::Stage2))
    }

    fn set(&mut self, start: u64, end: u64, to: u64, how: Option<Attributes>) {
        type A = Stage2Attributes;
        let flags = how.map_or(A::empty(), |how| {
            let memory = match how.memory {
                MemoryType::Normal => {
                    A::MEMATTR_NORMAL_INNER_WB | A::MEMATTR_NORMAL_OUTER_WB | A::SH_INNER
                }
                MemoryType::Device => A::MEMATTR_DEVICE_nGnRE,
            };
            let access = if how.write {
                A::S2AP_ACCESS_RW
            } else {
                A::S2AP_ACCESS_RO
            };
            let execute = if how.execute { A::empty() } else { A::XN };
            A::VALID | A::ACCESS_FLAG | memory | access | execute
        });
        let region = MemoryRegion::new(start as usize, end as usize);
        let to = PhysicalAddress(to as usize);
        self.0
            .map_range(&region, to, flags, Constraints::empty())
            .unwrap();
    }

    fn look(&self, ipas: &[u64]) -> Vec<Option<(u64, u64)>> {
        let bytes = self.0.translation().as_bytes();
        let read = |table: u64, index: usize| {
            let at = (table - Self::BASE) as usize + index * 8;
            u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
        };
        let root = self.0.to_physical().0 as u64;
        ipas.iter().map(|&ipa| walk(read, root, ipa)).collect()
    }
}

fn run(steps: Vec<Step>, budget: usize) {
    let mut host = Machine::new(budget);
    let mut tables = Stage2::new(&mut host).unwrap();
    let mut model = Model::default();
    let mut oracle = Oracle::new();
    // Addresses on both sides of every range's ends.
    let mut ipas: Vec<u64> = steps
        .iter()
        .flat_map(|step| {
            let (Step::Map(r, ..) | Step::Unmap(r) | Step::Protect(r, _)) = step;
            let (start, end) = (r.start.get(), r.end().unwrap().get());
            [
                start - 1,
                start,
                start + 0x123,
                end - 1,
                end,
                (start + end) / 2,
            ]
        })
        .collect();
    ipas.sort_unstable();
    ipas.dedup();
    for step in steps {
        match step {
            Step::Map(r, to, how) => {
                let (start, end) = (r.start.get(), r.end().unwrap().get());
                let taken: Option<u64> = model
                    .0
                    .iter()
                    .filter(|m| m.0 < end && start < m.1)
                    .map(|m| m.0.max(start))
                    .min();
                match (tables.map(&mut host, r, to, how), taken) {
                    (Ok(()), None) => {
                        model.0.push((start, end, to.get(), how));
                        oracle.set(start, end, to.get(), Some(how));
                    }
                    (Err(Stage2Error::AlreadyMapped(ipa)), Some(taken)) => {
                        assert_eq!(ipa.get(), taken);
                    }
                    (Err(Stage2Error::OutOfTables), None) => assert!(budget < PLENTY),
                    other => panic!("{other:?}"),
                }
            }
            Step::Unmap(r) => match tables.unmap(&mut host, r) {
                Ok(()) => {
                    let (start, end) = (r.start.get(), r.end().unwrap().get());
                    model.take(start, end);
                    // The other implementation needs an aligned address even to unmap.
                    oracle.set(start, end, start, None);
                }
                Err(error) => assert!(error == Stage2Error::OutOfTables && budget < PLENTY),
            },
            Step::Protect(r, how) => {
                let (start, end) = (r.start.get(), r.end().unwrap().get());
                let held: u64 = model
                    .0
                    .iter()
                    .map(|m| m.1.min(end).saturating_sub(m.0.max(start)))
                    .sum();
                match tables.protect(&mut host, r, how) {
                    Ok(()) => {
                        assert_eq!(held, r.bytes);
                        for (start, end, to, _) in model.take(start, end) {
                            model.0.push((start, end, to, how));
                            oracle.set(start, end, to, Some(how));
                        }
                    }
                    Err(Stage2Error::NotMapped(ipa)) => {
                        assert!((start..end).contains(&ipa.get()));
                        assert_eq!(model.lookup(ipa.get()), None);
                    }
                    Err(error) => assert!(error == Stage2Error::OutOfTables && budget < PLENTY),
                }
            }
        }
        host.assert_quiet();
        let others = oracle.look(&ipas);
        for (&ipa, other) in ipas.iter().zip(others) {
            let model = model.lookup(ipa);
            let ours = tables.translate(&host, Ipa::new(ipa)).ok();
            assert_eq!(ours.map(|(pa, how)| (pa.get(), how)), model, "{ipa:#x}");
            let hardware = host.access(tables.root(), ipa);
            assert_eq!(hardware, model.map(|(pa, how)| (pa, bits(how))), "{ipa:#x}");
            assert_eq!(hardware, other, "{ipa:#x}");
        }
    }
    // With nothing mapped, only the root is left, and then its memory is freed.
    tables.unmap(&mut host, at(0, 1 << IPA_BITS)).unwrap();
    assert_eq!(host.in_use(), ROOT_PAGES);
    free(tables, &mut host);
    assert_eq!((host.in_use(), host.budget), (0, budget));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn tables_match_the_model_and_another_library(
        steps in prop::collection::vec(step(), 1..16)
    ) {
        run(steps, PLENTY);
    }

    #[test]
    fn tables_match_the_model_when_memory_runs_out(
        steps in prop::collection::vec(step(), 1..16), budget in 2_usize..8
    ) {
        run(steps, budget);
    }
}
