// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What EFI firmware tells, down to the RAM that the boot path finds free.

use super::fixture::{at, set};
use super::{fixture, occupied, range, read};
use crate::efi::{
    ConfigurationTable, MemoryMap, copy_bytes, copy_tree, find_tree, initrd, modules,
    modules_in_initrd, place_modules,
};
use crate::flat::Fdt;
use crate::{BootError, VmError};
use dtoolkit::memreserve::MemoryReservation;

const WRITE_BACK: u64 = 8;
const RUNTIME: u64 = 1 << 63;
const BOOT_DATA: u32 = 4;
const RUNTIME_DATA: u32 = 6;
const CONVENTIONAL: u32 = 7;

/// A map with descriptors of 48 bytes, as EDK II has them: type, start, end, attributes.
fn map(pieces: &[(u32, u64, u64, u64)]) -> Vec<u8> {
    let mut map = Vec::new();
    for &(kind, start, end, attributes) in pieces {
        // What is between the fields may be anything.
        for word in [
            u64::from(kind) | 0x5a5a_5a5a << 32,
            start,
            0x5a5a,
            (end - start) / 4096,
            attributes,
            0x5a5a,
        ] {
            map.extend(word.to_le_bytes());
        }
    }
    map
}

/// The reservations of a copy of the default tree, and the copy.
fn copied(map: &[u8]) -> (Vec<(u64, u64)>, Vec<u8>) {
    let tree = fixture::two_vms().to_dtb();
    let mut copy = vec![0xa5; copy_bytes(tree.len(), map.len())];
    let map = MemoryMap::new(map, 48).expect("a map");
    let length = copy_tree(&tree, map, &mut copy).expect("room");
    copy.truncate(length);
    let fdt = Fdt::new(&copy).expect("a tree");
    (fdt.memory_reservations().collect(), copy)
}

#[test]
fn all_but_usable_memory_is_reserved() {
    let map = map(&[
        // In no order, and adjacent ones.
        (CONVENTIONAL, 0x6000_0000, 0x1_0000_0000, WRITE_BACK),
        (BOOT_DATA, 0x4000_0000, 0x5000_0000, WRITE_BACK | 7),
        (CONVENTIONAL, 0x5000_0000, 0x5f00_0000, WRITE_BACK),
        (RUNTIME_DATA, 0x5f00_0000, 0x6000_0000, WRITE_BACK | RUNTIME),
    ]);
    let (reservations, copy) = copied(&map);
    assert_eq!(
        reservations,
        [
            // The tree's own.
            (0x4300_0000, 0x1000),
            (0, 0x4000_0000),
            (0x5f00_0000, 0x100_0000),
            (0x1_0000_0000, u64::MAX - 0x1_0000_0000),
        ]
    );
    let (machine, vms) = read(&copy, occupied()).expect("a machine");
    assert!(!machine.free.overlaps(range(0x5f00_0000, 0x6000_0000)));
    assert!(machine.free.contains(range(0x6000_0000, 0x1_0000_0000)));
    // A CPU may read ahead what is mapped.
    assert!(!machine.mapped.overlaps(range(0x5f00_0000, 0x6000_0000)));
    assert!(!machine.mapped.overlaps(range(0x1_0000_0000, u64::MAX)));
    assert!(machine.free.contains(range(0x5000_0000, 0x5f00_0000)));
    assert_eq!(vms.len(), 2);
}

#[test]
fn memory_is_usable_by_type_and_attributes() {
    let usable = |kind: u32, attributes: u64| {
        let (reservations, _) = copied(&map(&[(kind, 0x1000, 0x2000, attributes)]));
        reservations.len() == 3
    };
    for kind in 0..20 {
        let expected = matches!(kind, 1 | 2 | 3 | 4 | 7);
        assert_eq!(usable(kind, WRITE_BACK), expected, "type {kind}");
        assert!(!usable(kind, WRITE_BACK | RUNTIME), "type {kind}");
        // Not cacheable, as device memory is.
        assert!(!usable(kind, 1), "type {kind}");
    }
}

#[test]
fn malformed_maps_reserve_more_and_not_less() {
    let all = [(0x4300_0000, 0x1000), (0, u64::MAX)];
    // An end beyond the address space; half a descriptor.
    let mut wrapped = map(&[(CONVENTIONAL, 0x1000, 0x2000, WRITE_BACK)]);
    wrapped[24..32].fill(0xff);
    assert_eq!(copied(&wrapped).0, all);
    let cut = map(&[(CONVENTIONAL, 0x1000, 0x2000, WRITE_BACK)]);
    assert_eq!(copied(&cut[..40]).0, all);
    assert_eq!(copied(&[]).0, all);
    assert!(MemoryMap::new(&cut, 39).is_none());
    assert!(MemoryMap::new(&cut, 0).is_none());
    // Pieces that overlap, one in another.
    let twice = map(&[
        (CONVENTIONAL, 0x1000, 0x9000, WRITE_BACK),
        (BOOT_DATA, 0x2000, 0x3000, WRITE_BACK),
        (BOOT_DATA, 0x8000, 0xa000, WRITE_BACK),
    ]);
    assert_eq!(
        copied(&twice).0[1..],
        [(0, 0x1000), (0xa000, u64::MAX - 0xa000)]
    );
}

#[test]
fn a_copy_needs_its_room() {
    let tree = fixture::two_vms().to_dtb();
    // The most reservations for its size.
    let pieces: Vec<_> = (0..50_u64)
        .map(|n| (CONVENTIONAL, n << 20, (n << 20) + 0x1000, WRITE_BACK))
        .collect();
    let bytes = map(&pieces);
    let map = MemoryMap::new(&bytes, 48).expect("a map");
    let mut copy = vec![0; copy_bytes(tree.len(), bytes.len())];
    let length = copy_tree(&tree, map, &mut copy).expect("room");
    for size in [length - 1, tree.len(), tree.len() / 2, 0] {
        assert_eq!(copy_tree(&tree, map, &mut copy[..size]), None, "{size}");
    }
    assert_eq!(copy_tree(&tree[..100], map, &mut copy), None);
}

#[test]
fn tree_with_many_reservations_has_room_for_its_copy() {
    let mut tree = fixture::two_vms();
    for n in 1..1000 {
        let reservation = MemoryReservation::new(0x4300_0000 + n, 1);
        tree.memory_reservations.push(reservation);
    }
    let tree = tree.to_dtb();
    let map = MemoryMap::new(&[], 48).expect("a map");
    let mut copy = vec![0; copy_bytes(tree.len(), 0)];
    let length = copy_tree(&tree, map, &mut copy).expect("room");
    let fdt = Fdt::new(&copy[..length]).expect("a tree");
    assert_eq!(fdt.memory_reservations().count(), 1001);
}

#[test]
fn mapped_memory_has_the_tree_and_no_other_reserved_block() {
    let mut tree = fixture::two_vms();
    let placed = occupied().tree;
    // U-Boot reserves the tree.
    let around = placed.aligned_outward(2 << 20).expect("small");
    let (start, bytes) = (around.start().get(), around.bytes());
    (tree.memory_reservations).push(MemoryReservation::new(start, bytes));
    (tree.memory_reservations).push(MemoryReservation::new(0x7000_1000, 0x5f_e000));
    let tree = tree.to_dtb();
    let (machine, _) = read(&tree, occupied()).expect("a machine");
    assert!(machine.mapped.contains(placed));
    assert!(machine.mapped.contains(range(0x7000_0000, 0x7020_0000)));
    assert!(!machine.mapped.overlaps(range(0x7020_0000, 0x7040_0000)));
    assert!(machine.mapped.contains(range(0x7040_0000, 0x7060_0000)));
    assert!(!machine.free.overlaps(range(0x7000_1000, 0x705f_f000)));
}

#[test]
fn padding_is_not_copied() {
    let mut tree = fixture::two_vms().to_dtb();
    let used = tree.len();
    tree.resize(0x10_0000, 0);
    tree[4..8].copy_from_slice(&0x10_0000_u32.to_be_bytes());
    let bytes = map(&[]);
    let map = MemoryMap::new(&bytes, 48).expect("a map");
    let mut copy = vec![0; used + 64];
    let length = copy_tree(&tree, map, &mut copy).expect("room");
    assert!(length < used + 64, "{length} {used}");
    assert!(read(&copy[..length], occupied()).is_err_and(|error| {
        matches!(
            error,
            BootError::Misplaced {
                what: "the hypervisor",
                ..
            }
        )
    }));
}

#[test]
fn a_module_in_memory_that_firmware_keeps_is_refused() {
    // The kernel of the fixture's VMs is at 0x48000000.
    let (_, copy) = copied(&map(&[
        (CONVENTIONAL, 0x4000_0000, 0x4900_0000, WRITE_BACK),
        (RUNTIME_DATA, 0x4900_0000, 0x4900_1000, WRITE_BACK | RUNTIME),
        (CONVENTIONAL, 0x4900_1000, 0x1_0000_0000, WRITE_BACK),
    ]));
    let error = read(&copy, occupied()).expect_err("refused");
    assert!(
        matches!(
            error,
            BootError::Vm {
                error: VmError::ModulePlace { kind: "kernel", .. },
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn modules_of_all_vms_are_listed() {
    let tree = fixture::two_vms().to_dtb();
    let found: Vec<_> = modules(&tree).collect();
    let kernel = range(0x4800_0000, 0x4a60_0000);
    let ramdisk = range(0x4b00_0000, 0x4b80_0000);
    assert_eq!(found, [kernel, ramdisk, kernel, ramdisk]);
    assert_eq!(modules(b"no tree").count(), 0);
    assert_eq!(modules(&fixture::machine().to_dtb()).count(), 0);
}

#[test]
fn the_tree_is_found_by_its_guid() {
    let guid = *b"\xd5\x21\xb6\xb1\x9c\xf1\xa5\x41\x83\x0b\xd9\x15\x2c\x69\xaa\xe0";
    let entry = |guid, table| ConfigurationTable { guid, table };
    let others = [entry([1; 16], 5), entry(guid, 0x4000)];
    assert_eq!(find_tree(&others), Some(0x4000));
    assert_eq!(find_tree(&others[..1]), None);
    assert_eq!(find_tree(&[entry(guid, 0)]), None);
    assert_eq!(size_of::<ConfigurationTable>(), 24);
}

#[test]
fn offsets_into_the_ram_disk_become_addresses() {
    let mut tree = fixture::two_vms();
    assert!(!modules_in_initrd(&tree.to_dtb()));
    set(at(&mut tree, "/chosen"), "postern,modules-in-initrd", 1_u32);
    let mut tree = tree.to_dtb();
    assert!(modules_in_initrd(&tree));
    // Whoever does not know that they are offsets does not boot.
    let error = read(&tree, occupied()).expect_err("refused").to_string();
    assert!(error.contains("postern,modules-in-initrd"), "{error}");
    // The fixture's modules end at offset 0x4b800000.
    let disk = |bytes: u64| range(0x2000_0000, 0x2000_0000 + bytes);
    let before = tree.clone();
    assert_eq!(place_modules(&mut tree, disk(0x4b7f_ffff)), None);
    assert_eq!(
        place_modules(&mut tree, range(u64::MAX - 1, u64::MAX)),
        None
    );
    assert!(tree == before, "a tree that is refused is left alone");
    assert_eq!(place_modules(&mut tree, disk(0x4b80_0000)), Some(()));
    let found: Vec<_> = modules(&tree).collect();
    let kernel = range(0x6800_0000, 0x6a60_0000);
    let ramdisk = range(0x6b00_0000, 0x6b80_0000);
    assert_eq!(found, [kernel, ramdisk, kernel, ramdisk]);
    assert!(!modules_in_initrd(&tree));
    let (_, vms) = read(&tree, occupied()).expect("a machine");
    assert_eq!(vms[1].kernel, kernel);
}

#[test]
fn the_ram_disk_is_where_the_boot_loader_says() {
    let mut tree = fixture::machine();
    assert_eq!(initrd(&tree.to_dtb()), None);
    set(
        at(&mut tree, "/chosen"),
        "linux,initrd-start",
        0x4000_0000_u32,
    );
    assert_eq!(initrd(&tree.to_dtb()), None);
    set(
        at(&mut tree, "/chosen"),
        "linux,initrd-end",
        0x1_0000_0000_u64,
    );
    let found = Some(range(0x4000_0000, 0x1_0000_0000));
    assert_eq!(initrd(&tree.to_dtb()), found);
    set(
        at(&mut tree, "/chosen"),
        "linux,initrd-end",
        0x4000_0000_u64,
    );
    assert_eq!(initrd(&tree.to_dtb()), None);
}
