// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::machine::{Machine, walk};
use super::{BLOCK, GIGABYTE, PAGE, PLENTY};
use crate::TablePages;
use crate::identity::{ADDRESS_LIMIT, IdentityError, IdentityMap};
use mediator::addr::Pa;
use proptest::prelude::*;

const READ_WRITE: u64 = 0x0040_0000_0000_0745;
const EXECUTE: u64 = 0x07c5;
/// A valid entry, and a page.
const KIND: u64 = 3;

/// Returns the attributes of an address; `None` where it is not mapped. All that is mapped is mapped to itself.
fn attributes(host: &Machine, map: &IdentityMap, address: u64) -> Option<u64> {
    let read = |table, index| host.read(Pa::new(table), index);
    let (to, bits) = walk(read, map.root().get(), address)?;
    assert_eq!(to, address);
    Some(bits & !KIND)
}

fn map(host: &mut Machine, map: &mut IdentityMap, start: u64, end: u64, bits: u64) {
    map.map(host, Pa::new(start), Pa::new(end), bits).unwrap();
}

#[test]
fn later_range_takes_its_part_of_an_earlier_block() {
    let mut host = Machine::new(PLENTY);
    let mut own = IdentityMap::new(&mut host).unwrap();
    map(&mut host, &mut own, GIGABYTE, 3 * GIGABYTE, READ_WRITE);
    assert_eq!(host.in_use(), 1, "two blocks of 1 GiB");
    let code = GIGABYTE + BLOCK;
    map(&mut host, &mut own, code, code + 5 * PAGE, EXECUTE);
    map(&mut host, &mut own, code + PAGE, code + 2 * PAGE, 0);
    let bits = [READ_WRITE, EXECUTE].map(|bits| Some(bits & !KIND));
    for (address, expected) in [
        (GIGABYTE - 1, None),
        (GIGABYTE, bits[0]),
        (code - 1, bits[0]),
        (code + 0x123, bits[1]),
        (code + PAGE, None),
        (code + 2 * PAGE - 1, None),
        (code + 2 * PAGE, bits[1]),
        (code + 5 * PAGE, bits[0]),
        (3 * GIGABYTE - 1, bits[0]),
        (3 * GIGABYTE, None),
    ] {
        assert_eq!(attributes(&host, &own, address), expected, "{address:#x}");
    }
    // Pages of which a part is in the range are mapped.
    map(&mut host, &mut own, 0x1fff, 0x2001, READ_WRITE);
    for (address, expected) in [
        (0xfff, None),
        (0x1000, bits[0]),
        (0x2fff, bits[0]),
        (0x3000, None),
    ] {
        assert_eq!(attributes(&host, &own, address), expected, "{address:#x}");
    }
}

#[test]
fn errors_are_reported() {
    let mut host = Machine::new(1);
    let mut own = IdentityMap::new(&mut host).unwrap();
    let mut map = |start, end| own.map(&mut host, Pa::new(start), Pa::new(end), READ_WRITE);
    assert_eq!(map(0, ADDRESS_LIMIT), Ok(()));
    let end = Pa::new(ADDRESS_LIMIT + 1);
    assert_eq!(map(0, end.get()), Err(IdentityError::TooHigh(end)));
    assert_eq!(map(0, PAGE), Err(IdentityError::OutOfTables));
    assert!(IdentityMap::new(&mut host).is_err());
}

proptest! {
    #[test]
    fn last_range_wins(ranges in prop::collection::vec(
        (0..3 * 512_u64, 1..600_u64, prop::sample::select(vec![READ_WRITE, EXECUTE, 0])), 1..12,
    )) {
        // Pages around the border between two tables of the level above.
        let base = GIGABYTE - 2 * BLOCK;
        let mut host = Machine::new(PLENTY);
        let mut own = IdentityMap::new(&mut host).unwrap();
        let mut model = vec![0; 3 * 512 + 600];
        for (page, pages, bits) in ranges {
            let start = base + page * PAGE;
            map(&mut host, &mut own, start, start + pages * PAGE, bits);
            model[page as usize..(page + pages) as usize].fill(bits);
        }
        for (page, bits) in model.into_iter().enumerate() {
            let expected = (bits != 0).then_some(bits & !KIND);
            let address = base + page as u64 * PAGE + 0x7ff;
            prop_assert_eq!(attributes(&host, &own, address), expected);
        }
    }
}
