// SPDX-License-Identifier: Apache-2.0 OR MIT
use proptest::prelude::*;
use std::collections::BTreeSet;

use super::*;

const GIGABYTE: u64 = 0x4000_0000;
const RAM: Ipa = Ipa::new(4 * GIGABYTE);

fn range(start: u64, end: u64) -> PaRange {
    PaRange::between(Pa::new(start), Pa::new(end))
}

fn frames(ranges: &[PaRange]) -> Frames {
    let mut memory = postern_boot_tree::Memory::new();
    ranges
        .iter()
        .for_each(|range| memory.insert(*range).unwrap());
    Frames::new(&memory).unwrap()
}

#[test]
fn allocate_takes_one_piece_where_it_fits_and_several_otherwise() {
    let low = range(GIGABYTE + 1, GIGABYTE + 4 * BLOCK_SIZE);
    let high = range(2 * GIGABYTE, 2 * GIGABYTE + 8 * BLOCK_SIZE);
    let mut frames = frames(&[low, high]);
    assert_eq!(frames.free_bytes(), 11 * BLOCK_SIZE);
    let one = frames.allocate(5 * BLOCK_SIZE, RAM).unwrap();
    assert_eq!(
        one.as_slice(),
        [range(2 * GIGABYTE, 2 * GIGABYTE + 5 * BLOCK_SIZE)]
    );
    let two = frames.allocate(4 * BLOCK_SIZE, RAM).unwrap();
    let rest = 2 * GIGABYTE + 5 * BLOCK_SIZE;
    assert_eq!(
        two.as_slice(),
        [
            low.aligned_inward(BLOCK_SIZE),
            range(rest, rest + BLOCK_SIZE)
        ]
    );
    let wanted = 3 * BLOCK_SIZE;
    let error = FramesError::NotEnough {
        wanted,
        free: 2 * BLOCK_SIZE,
    };
    assert_eq!(frames.allocate(wanted, RAM), Err(error));
    assert_eq!(frames.free_bytes(), 2 * BLOCK_SIZE);
}

#[test]
fn no_block_has_equal_guest_and_physical_addresses() {
    let memory = range(RAM.get(), RAM.get() + 8 * BLOCK_SIZE);
    let mut frames = frames(&[memory]);
    let chunks = frames.allocate(4 * BLOCK_SIZE, RAM).unwrap();
    assert_eq!(chunks[0].start().get(), RAM.get() + BLOCK_SIZE);
    // The whole range fits only at the address where the guest would see it.
    frames.free(chunks[0]).unwrap();
    let wanted = 8 * BLOCK_SIZE;
    let error = FramesError::NotEnough {
        wanted,
        free: wanted,
    };
    assert_eq!(frames.allocate(wanted, RAM), Err(error));
}

#[test]
fn memory_at_its_physical_addresses_is_taken_for_good() {
    let low = range(0, 4 * BLOCK_SIZE);
    let middle = range(GIGABYTE - BLOCK_SIZE, GIGABYTE + 3 * BLOCK_SIZE + 1);
    let high = range(8 * GIGABYTE, 8 * GIGABYTE + 8 * BLOCK_SIZE);
    let mut frames = frames(&[low, middle, high]);
    let (from, end) = (Pa::new(GIGABYTE), Pa::new(8 * GIGABYTE + 6 * BLOCK_SIZE));
    let take =
        |frames: &mut Frames, blocks: u64| frames.take_direct(blocks * BLOCK_SIZE, from, end);
    let first = take(&mut frames, 2).unwrap();
    assert_eq!(first, range(GIGABYTE, GIGABYTE + 2 * BLOCK_SIZE));
    assert!(!frames.is_clear(first), "nothing is known of its content");
    // One block is left there, and six are low enough above.
    let second = take(&mut frames, 2).unwrap();
    assert_eq!(second, range(8 * GIGABYTE, 8 * GIGABYTE + 2 * BLOCK_SIZE));
    assert_eq!(
        take(&mut frames, 5),
        Err(FramesError::NotContiguous(5 * BLOCK_SIZE))
    );
    assert_eq!(
        frames.take_direct(1, from, end),
        Err(FramesError::BadSize(1))
    );
    assert_eq!(take(&mut frames, 4).unwrap().start(), second.end());
    // Nobody else gets any of it.
    let rest = frames.free_bytes();
    let chunks = frames.allocate(rest, RAM).unwrap();
    assert!(
        chunks
            .iter()
            .all(|chunk| !chunk.overlaps(first) && !chunk.overlaps(second))
    );
    frames.mark_clear(first);
    assert!(frames.is_clear(first));
}

#[test]
fn allocate_of_too_many_pieces_fails_and_changes_nothing() {
    let islands = (0..20).map(|n| range(n * 2 * BLOCK_SIZE, (n * 2 + 1) * BLOCK_SIZE));
    let mut frames = frames(&islands.collect::<Vec<_>>());
    let wanted = 17 * BLOCK_SIZE;
    assert_eq!(
        frames.allocate(wanted, RAM),
        Err(FramesError::Fragmented(wanted))
    );
    assert_eq!(frames.free_bytes(), 20 * BLOCK_SIZE);
    assert_eq!(
        frames.allocate(16 * BLOCK_SIZE, RAM).unwrap().len(),
        MAX_CHUNKS
    );
}

#[test]
fn whole_piece_is_one_or_nothing() {
    let piece = |index: u64| {
        let start = GIGABYTE + 8 * index * BLOCK_SIZE;
        range(start, start + 3 * BLOCK_SIZE)
    };
    let mut frames = frames(&[piece(0), piece(1)]);
    let wanted = 4 * BLOCK_SIZE;
    assert_eq!(
        frames.allocate_whole(wanted, RAM),
        Err(FramesError::NotContiguous(wanted))
    );
    assert_eq!(frames.free_bytes(), 6 * BLOCK_SIZE);
    let whole = frames.allocate_whole(3 * BLOCK_SIZE, RAM).unwrap();
    assert_eq!(whole, piece(0));
    assert_eq!(frames.free_bytes(), 3 * BLOCK_SIZE);
}

#[test]
fn free_rejects_unallocated_ranges() {
    let mut frames = frames(&[range(GIGABYTE, GIGABYTE + 4 * BLOCK_SIZE)]);
    let chunk = frames.allocate(2 * BLOCK_SIZE, RAM).unwrap()[0];
    for wrong in [
        range(0, BLOCK_SIZE),
        range(chunk.start().get(), chunk.end().get() + BLOCK_SIZE),
        range(chunk.start().get() + 0x1000, chunk.end().get()),
    ] {
        assert_eq!(frames.free(wrong), Err(FramesError::NotAllocated(wrong)));
    }
    frames.free(chunk).unwrap();
    assert_eq!(frames.free(chunk), Err(FramesError::NotAllocated(chunk)));
    for bytes in [0, 1, BLOCK_SIZE + 1, !(BLOCK_SIZE - 1)] {
        assert_eq!(
            frames.allocate(bytes, RAM),
            Err(FramesError::BadSize(bytes))
        );
    }
}

proptest! {
    #[test]
    fn no_block_has_two_owners(
        ranges in prop::collection::vec((2000_u64..2100, 1_u64..20), 1..8),
        steps in prop::collection::vec((1_u64..24, any::<prop::sample::Index>(), any::<bool>()), 1..40),
    ) {
        // Free memory lies on both sides of the guest's RAM addresses.
        let ranges: Vec<_> = ranges
            .into_iter()
            .map(|(start, blocks)| range(start * BLOCK_SIZE, (start + blocks) * BLOCK_SIZE))
            .collect();
        let mut frames = frames(&ranges);
        let total = frames.free_bytes();
        let mut held: Vec<Chunks> = Vec::new();
        for (blocks, place, give_back) in steps {
            if give_back && !held.is_empty() {
                let chunks = held.swap_remove(place.index(held.len()));
                chunks.iter().for_each(|chunk| frames.free(*chunk).unwrap());
            } else if let Ok(chunks) = frames.allocate(blocks * BLOCK_SIZE, RAM) {
                let mut ipa = RAM.get();
                for chunk in &chunks {
                    prop_assert!(chunk.start().get() != ipa);
                    ipa += chunk.bytes();
                }
                prop_assert_eq!(ipa - RAM.get(), blocks * BLOCK_SIZE);
                held.push(chunks);
            } else {
                // Too little is free, or all that is left would be where the guest sees it.
                prop_assert!(frames.free_bytes() < (blocks + 1) * BLOCK_SIZE);
            }
            let used: Vec<_> = held.iter().flatten().collect();
            prop_assert!(used.iter().all(|chunk| ranges.iter().any(|range| range.overlaps(**chunk))));
            for (index, one) in used.iter().enumerate() {
                prop_assert!(used[..index].iter().all(|other| !other.overlaps(**one)));
            }
            let used: u64 = used.iter().map(|chunk| chunk.bytes()).sum();
            prop_assert_eq!(used + frames.free_bytes(), total);
        }
    }
}

#[test]
fn the_pool_gives_every_page_once() {
    let pool = SharedPool::new(range(0x8000_0000, 0x8000_0000 + 130 * PAGE_SIZE)).unwrap();
    assert_eq!((pool.len(), pool.in_use()), (130, 0));
    let pages: BTreeSet<u64> = std::iter::from_fn(|| pool.allocate())
        .map(Pa::get)
        .collect();
    let all: BTreeSet<u64> = (0..130).map(|n| 0x8000_0000 + n * PAGE_SIZE).collect();
    assert_eq!(pages, all);
    assert_eq!(pool.in_use(), 130);
    pool.free(Pa::new(0x8004_1000)).unwrap();
    assert_eq!(pool.allocate(), Some(Pa::new(0x8004_1000)));

    for wrong in [
        0,
        0x7fff_f000,
        0x8000_0001,
        0x8000_0000 + 130 * PAGE_SIZE,
        u64::MAX,
    ] {
        let wrong = Pa::new(wrong);
        assert_eq!(pool.free(wrong), Err(PoolError::NotAllocated(wrong)));
    }
    let page = Pa::new(0x8000_0000);
    pool.free(page).unwrap();
    assert_eq!(pool.free(page), Err(PoolError::NotAllocated(page)));
    let odd = range(0x1000, 0x1800);
    assert_eq!(
        SharedPool::new(odd).map(drop),
        Err(PoolError::BadRange(odd))
    );
    assert_eq!(
        SharedPool::new(range(0x1000, 0x1000)).unwrap().allocate(),
        None
    );
}

#[test]
fn threads_never_get_the_same_page() {
    let pool = SharedPool::new(range(0, 70 * PAGE_SIZE)).unwrap();
    let owners: Vec<_> = (0..70).map(|_| AtomicUsize::new(0)).collect();
    std::thread::scope(|scope| {
        for thread in 1..=4_usize {
            let (pool, owners) = (&pool, &owners);
            scope.spawn(move || {
                for round in 0..2000 {
                    let mine: Vec<_> = (0..1 + (thread + round) % 30)
                        .filter_map(|_| pool.allocate())
                        .collect();
                    for page in &mine {
                        let owner = &owners[(page.get() / PAGE_SIZE) as usize];
                        assert_eq!(owner.swap(thread, Ordering::Relaxed), 0);
                    }
                    for page in mine {
                        let owner = &owners[(page.get() / PAGE_SIZE) as usize];
                        assert_eq!(owner.swap(0, Ordering::Relaxed), thread);
                        pool.free(page).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(pool.in_use(), 0);
}
