// SPDX-License-Identifier: Apache-2.0 OR MIT
use proptest::prelude::*;

use super::*;

/// Returns three chunks of RAM, whose order is not that of their addresses. The last two happen to
/// be adjacent.
fn memory() -> GuestMemory {
    let chunk = |start, blocks| PaRange::new(Pa::new(start), blocks * BLOCK_SIZE).unwrap();
    let list = [
        chunk(0x9000_0000, 2),
        chunk(0x5000_0000, 1),
        chunk(0x5020_0000, 1),
    ];
    GuestMemory::new(&Chunks::from_slice(&list).unwrap()).unwrap()
}

const BYTES: u64 = 4 * BLOCK_SIZE;

fn ipa(offset: u64) -> Ipa {
    Ipa::new(layout::RAM.get().wrapping_add(offset))
}

fn at(offset: u64, bytes: u64) -> IpaRange {
    IpaRange {
        start: ipa(offset),
        bytes,
    }
}

/// Returns the physical address of the byte at `offset` in [`memory`]'s chunks.
fn expected(offset: u64) -> Option<u64> {
    match offset {
        0..0x40_0000 => Some(0x9000_0000 + offset),
        0x40_0000..0x80_0000 => Some(0x5000_0000 + offset - 0x40_0000),
        _ => None,
    }
}

#[test]
fn translate_accepts_only_contiguous_ram() {
    let memory = memory();
    assert_eq!(memory.bytes(), BYTES);
    let mappings: Vec<_> = memory.mappings().collect();
    assert_eq!(
        mappings[1],
        (at(0x40_0000, BLOCK_SIZE), Pa::new(0x5000_0000))
    );
    for (offset, bytes, pa) in [
        (0, 0x40_0000, Some(0x9000_0000)),
        (0x3f_ffff, 1, Some(0x903f_ffff)),
        (0x3f_ffff, 2, None),
        (0x40_0000, BLOCK_SIZE, Some(0x5000_0000)),
        (BYTES - 1, 1, Some(0x503f_ffff)),
        (BYTES - 1, 2, None),
        (BYTES, 0, None),
        (BYTES, 1, None),
        (0, u64::MAX, None),
        (u64::MAX, 1, None),
        (u64::MAX, 2, None),
        (u64::MAX - layout::RAM.get(), 1, None),
        (u64::MAX - layout::RAM.get(), u64::MAX, None),
    ] {
        assert_eq!(
            memory.translate(ipa(offset), bytes),
            pa.map(Pa::new),
            "{offset:#x} {bytes:#x}"
        );
    }
}

#[test]
fn chunks_must_be_whole_blocks() {
    for (start, bytes) in [(0x1000, BLOCK_SIZE), (0, BLOCK_SIZE + 0x1000), (0, 0)] {
        let bad = PaRange::new(Pa::new(start), bytes).unwrap();
        let chunks = Chunks::from_slice(&[bad]).unwrap();
        assert_eq!(
            GuestMemory::new(&chunks).map(drop),
            Err(MemoryError::BadChunk(bad))
        );
    }
}

#[test]
fn pins_are_counted_per_page_up_to_a_limit() {
    let memory = memory();
    assert_eq!(memory.pin(ipa(0x40_0000)), Ok(Pa::new(0x5000_0000)));
    assert_eq!(memory.pin(ipa(0x3f_f000)), Ok(Pa::new(0x903f_f000)));
    assert_eq!((memory.pinned_pages(), memory.pinned_pages_max()), (2, 2));
    for _ in 1..MAX_PINS {
        memory.pin(ipa(0x40_0000)).unwrap();
    }
    let page = ipa(0x40_0000);
    assert_eq!(memory.pin(page), Err(PinError::TooManyPins(page)));
    assert_eq!((memory.pinned_pages(), memory.pinned_pages_max()), (2, 2));
    for _ in 0..MAX_PINS {
        assert!(memory.is_pinned(ipa(0x40_0fff)));
        memory.unpin(page);
    }
    assert!(!memory.is_pinned(page) && memory.is_pinned(ipa(0x3f_f000)));
    memory.unpin(ipa(0x3f_f000));
    assert_eq!((memory.pinned_pages(), memory.pinned_pages_max()), (0, 2));

    for offset in [
        1,
        0x1fff,
        BYTES,
        u64::MAX - 0xfff,
        0_u64.wrapping_sub(layout::RAM.get()),
    ] {
        let page = ipa(offset);
        assert_eq!(memory.pin(page), Err(PinError::NotOwnMemory(page)));
        assert!(offset < 0x2000 || !memory.is_pinned(page));
    }
}

#[test]
#[should_panic(expected = "unpinned a page that is not pinned: 0x100003000")]
fn unpin_of_an_unpinned_page_panics() {
    let memory = memory();
    memory.pin(ipa(0x3000)).unwrap();
    memory.unpin(ipa(0x3000));
    memory.unpin(ipa(0x3000));
}

#[test]
fn a_pinned_page_is_not_withdrawn_and_a_withdrawn_one_not_pinned() {
    let memory = memory();
    memory.pin(ipa(0x5000)).unwrap();
    let error = WithdrawError::Pinned(ipa(0x5000));
    assert_eq!(memory.withdraw(at(0x4000, 0x3000)), Err(error));
    // No page of the range is withdrawn.
    assert_eq!(
        memory.translate(ipa(0x4000), 0x3000),
        Some(Pa::new(0x9000_4000))
    );
    memory.pin(ipa(0x4000)).unwrap();

    memory.withdraw(at(0x6000, 0x2000)).unwrap();
    let page = ipa(0x6000);
    assert_eq!(memory.pin(page), Err(PinError::NotOwnMemory(page)));
    assert!(!memory.is_pinned(page));
    assert_eq!(
        memory.translate(ipa(0x5000), 0x1000),
        Some(Pa::new(0x9000_5000))
    );
    assert_eq!(memory.translate(ipa(0x5000), 0x1001), None);
    assert_eq!(memory.translate(ipa(0x7fff), 2), None);
    assert_eq!(memory.translate(ipa(0x8000), 1), Some(Pa::new(0x9000_8000)));
    assert!(memory.runs(at(0, 0x6001)).is_none());
    let again = at(0x7000, 0x2000);
    assert_eq!(
        memory.withdraw(again),
        Err(WithdrawError::NotOwnMemory(again))
    );
    memory.restore(at(0x5000, 0x4000));
    assert_eq!(
        memory.translate(ipa(0x6000), 0x2000),
        Some(Pa::new(0x9000_6000))
    );
    assert!(memory.is_pinned(ipa(0x5000)));
    for range in [
        at(0x1, 0x1000),
        at(0, 0x1),
        at(BYTES, 0x1000),
        at(0, u64::MAX - 0xfff),
    ] {
        assert_eq!(
            memory.withdraw(range),
            Err(WithdrawError::NotOwnMemory(range))
        );
        memory.restore(range);
    }
}

#[test]
fn vcpus_pin_and_withdraw_at_the_same_time() {
    let memory = memory();
    let pages = 8;
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let memory = &memory;
            scope.spawn(move || {
                for round in 0..3000_u64 {
                    let page = ipa((round + thread) % pages * PAGE_SIZE);
                    if memory.pin(page).is_ok() {
                        assert!(memory.is_pinned(page));
                        let all = memory.withdraw(at(0, pages * PAGE_SIZE));
                        assert!(matches!(
                            all,
                            Err(WithdrawError::Pinned(_) | WithdrawError::NotOwnMemory(_))
                        ));
                        memory.unpin(page);
                    } else if memory.withdraw(at(0, PAGE_SIZE)).is_ok() {
                        memory.restore(at(0, PAGE_SIZE));
                    }
                }
            });
        }
        for round in 0..3000 {
            let range = at(round % pages * PAGE_SIZE, PAGE_SIZE);
            if memory.withdraw(range).is_ok() {
                memory.restore(range);
            }
        }
    });
    assert_eq!(memory.pinned_pages(), 0);
    assert!((1..=3).contains(&memory.pinned_pages_max()));
    // All pages are restored.
    memory.withdraw(at(0, BYTES)).unwrap();
}

proptest! {
    #[test]
    fn runs_name_every_byte_once_and_in_order(offset in 0..BYTES + 0x2000, bytes in 0..BYTES + 0x2000) {
        let memory = memory();
        match memory.runs(at(offset, bytes)) {
            Some(runs) => {
                let mut next = offset;
                for (pa, bytes) in runs {
                    prop_assert!(bytes > 0);
                    prop_assert_eq!(Some(pa.get()), expected(next));
                    prop_assert_eq!(Some(pa.get() + bytes - 1), expected(next + bytes - 1));
                    prop_assert_eq!(memory.translate(ipa(next), bytes), Some(pa));
                    next += bytes;
                }
                prop_assert_eq!(next, offset + bytes);
            }
            None => prop_assert!(offset + bytes > BYTES),
        }
    }

    #[test]
    fn translate_and_runs_accept_any_range_without_panic(start in any::<u64>(), bytes in any::<u64>()) {
        let memory = memory();
        let range = IpaRange { start: Ipa::new(start), bytes };
        let inside = start.checked_sub(layout::RAM.get()).is_some_and(|o| o < BYTES);
        prop_assert_eq!(memory.translate(range.start, 1).is_some(), inside);
        let fits = memory.runs(range).map(|runs| runs.map(|(_, bytes)| bytes).sum::<u64>());
        prop_assert!(fits.is_none_or(|sum| sum == bytes));
    }
}

/// Checks that pins and withdrawals of one life of a VM do not reach into the next.
#[test]
fn ram_is_released_and_assigned_again() {
    let block = |start| PaRange::new(Pa::new(start), BLOCK_SIZE).unwrap();
    let memory = GuestMemory::for_bytes(layout::RAM, 2 * BLOCK_SIZE).unwrap();
    assert_eq!((memory.bytes(), memory.most_bytes()), (0, 2 * BLOCK_SIZE));
    assert_eq!(memory.pin(ipa(0)), Err(PinError::NotOwnMemory(ipa(0))));
    assert_eq!(memory.translate(ipa(0), 1), None);

    let three = Chunks::from_slice(&[0x9000_0000, 0xa000_0000, 0xb000_0000].map(block)).unwrap();
    assert_eq!(
        memory.assign(&three),
        Err(MemoryError::TooMuch(3 * BLOCK_SIZE))
    );
    let two = Chunks::from_slice(&three[1..]).unwrap();
    memory.assign(&two).unwrap();
    assert_eq!(memory.assign(&two), Err(MemoryError::Assigned));
    assert_eq!(memory.pin(ipa(BLOCK_SIZE)), Ok(Pa::new(0xb000_0000)));
    let page = IpaRange {
        start: ipa(0x1000),
        bytes: PAGE_SIZE,
    };
    memory.withdraw(page).unwrap();
    assert_eq!(memory.release(), None, "a page is pinned");
    memory.unpin(ipa(BLOCK_SIZE));
    assert_eq!(memory.release(), None, "a page is withdrawn");
    memory.restore(page);
    assert_eq!(memory.release(), Some(two));
    assert_eq!((memory.bytes(), memory.mappings().count()), (0, 0));

    // Less RAM than before, at another place.
    let one = Chunks::from_slice(&three[..1]).unwrap();
    memory.assign(&one).unwrap();
    assert_eq!(memory.pin(ipa(0x1000)), Ok(Pa::new(0x9000_1000)));
    let behind = ipa(BLOCK_SIZE);
    assert_eq!(memory.pin(behind), Err(PinError::NotOwnMemory(behind)));
    assert_eq!(memory.translate(behind, 1), None);
    let behind = IpaRange {
        start: behind,
        bytes: PAGE_SIZE,
    };
    assert_eq!(
        memory.withdraw(behind),
        Err(WithdrawError::NotOwnMemory(behind))
    );
}

/// Checks that pieces are contiguous and follow each other to the end.
#[test]
fn memory_is_cut_into_pieces() {
    let memory = memory();
    let piece = |offset, most| {
        memory
            .piece(offset, most)
            .map(|(range, pa)| (range, pa.get()))
    };
    assert_eq!(piece(0, 0x4_0000), Some((at(0, 0x4_0000), 0x9000_0000)));
    // The piece ends at the next multiple.
    assert_eq!(
        piece(0x5000, 0x4_0000),
        Some((at(0x5000, 0x3_b000), 0x9000_5000))
    );
    // The piece ends with its chunk, though the next chunk follows in memory.
    assert_eq!(
        piece(0x20_0000, 1 << 30),
        Some((at(0x20_0000, 0x20_0000), 0x9020_0000))
    );
    assert_eq!(
        piece(0x40_0000, 1 << 30),
        Some((at(0x40_0000, 0x20_0000), 0x5000_0000))
    );
    assert_eq!(piece(BYTES, 0x1000), None);
    assert_eq!(
        GuestMemory::for_bytes(layout::RAM, 0x1000)
            .unwrap()
            .piece(0, 0x1000),
        None
    );
}

/// A VM with devices has RAM that 32 bits of address reach.
#[test]
fn ram_may_begin_below_4_gib() {
    let memory = GuestMemory::for_bytes(layout::LOW_RAM, 2 * BLOCK_SIZE).unwrap();
    let chunks = [0x8000_0000, 0xc000_0000_u64]
        .map(|start| PaRange::new(Pa::new(start), BLOCK_SIZE).unwrap());
    memory
        .assign(&Chunks::from_slice(&chunks).unwrap())
        .unwrap();
    let at = |offset| Ipa::new(layout::LOW_RAM.get() + offset);
    assert_eq!(memory.start(), layout::LOW_RAM);
    assert_eq!(memory.translate(at(8), 8), Some(Pa::new(0x8000_0008)));
    assert_eq!(
        memory.translate(at(BLOCK_SIZE), 8),
        Some(Pa::new(0xc000_0000))
    );
    assert_eq!(memory.translate(at(2 * BLOCK_SIZE), 1), None);
    assert_eq!(memory.translate(layout::RAM, 1), None);
    assert_eq!(memory.pin(at(BLOCK_SIZE)), Ok(Pa::new(0xc000_0000)));
    let (range, to) = memory.piece(BLOCK_SIZE, BLOCK_SIZE).unwrap();
    assert_eq!((range.start, to), (at(BLOCK_SIZE), Pa::new(0xc000_0000)));
    let first = memory.mappings().next().unwrap();
    assert_eq!(first.0.start, layout::LOW_RAM);
}

#[test]
fn ram_around_an_address_is_known_until_some_is_withdrawn() {
    let memory = memory();
    let chunks: Vec<_> = memory.mappings().collect();
    for (offset, chunk) in [(0, 0), (0x3f_ffff, 0), (0x40_0000, 1), (BYTES - 1, 2)] {
        assert_eq!(
            memory.around(ipa(offset)),
            Some(chunks[chunk]),
            "{offset:#x}"
        );
    }
    for outside in [BYTES, u64::MAX, 1 << 63] {
        assert_eq!(memory.around(ipa(outside)), None);
    }
    let before = memory.version();
    memory.withdraw(at(0x1000, 0x1000)).unwrap();
    assert_ne!(memory.version(), before);
    assert_eq!(memory.around(ipa(0)), None);
    memory.restore(at(0x1000, 0x1000));
    assert_eq!(memory.around(ipa(0)), Some(chunks[0]));
    let before = memory.version();
    let list = memory.release().unwrap();
    assert_ne!(memory.version(), before);
    assert_eq!(memory.around(ipa(0)), None);
    let before = memory.version();
    memory.assign(&list).unwrap();
    assert_ne!(memory.version(), before);
}
