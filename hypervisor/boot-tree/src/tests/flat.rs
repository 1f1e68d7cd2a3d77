// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The reader of flattened trees, beside `dtoolkit`'s: what both take they read alike.

use dtoolkit::fdt as other;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use dtoolkit::{Node, Property};
use proptest::prelude::*;

use super::fixture;
use crate::flat::{Fdt, FdtNode, number};

/// The tree, each node and property on a line of its own.
fn ours(node: FdtNode<'_>, text: &mut Vec<String>) {
    text.push(format!("{} {}", node.name(), node.name_without_address()));
    text.extend(
        node.properties()
            .map(|(name, value)| format!("{name} {value:?}")),
    );
    for child in node.children() {
        ours(child, text);
    }
    text.push("end".into());
}

fn theirs(node: other::FdtNode<'_>, text: &mut Vec<String>) {
    text.push(format!("{} {}", node.name(), node.name_without_address()));
    let line =
        |property: other::FdtProperty<'_>| format!("{} {:?}", property.name(), property.value());
    text.extend(node.properties().map(line));
    for child in node.children() {
        theirs(child, text);
    }
    text.push("end".into());
}

/// Whether ours takes it. If theirs does, both read the same.
fn compare(dtb: &[u8]) -> bool {
    let our = Fdt::new(dtb);
    let mut text = Vec::new();
    if let Ok(tree) = our {
        ours(tree.root(), &mut text);
    }
    if let Ok(tree) = other::Fdt::new(dtb) {
        let tree_text = &mut Vec::new();
        theirs(tree.root(), tree_text);
        assert!(our.is_ok(), "{our:?}");
        assert_eq!(text, *tree_text);
        let reservations = tree.memory_reservations();
        let reservations: Vec<_> = reservations
            .map(|one| (one.address(), one.size()))
            .collect();
        assert_eq!(
            our.unwrap().memory_reservations().collect::<Vec<_>>(),
            reservations
        );
    }
    our.is_ok()
}

#[test]
fn both_readers_read_the_same() {
    for tree in [fixture::two_vms(), fixture::board(), DeviceTree::new()] {
        assert!(compare(&tree.to_dtb()));
    }
}

/// Seven of the ten boards' trees have names of more than 31 characters.
#[test]
fn names_may_be_long() {
    let mut tree = fixture::two_vms();
    let name = "snps,dis-tx-ipgap-linecheck-quirk-of-some-more-characters";
    let property = DeviceTreeProperty::new_unchecked(name, 1_u32);
    tree.root.add_property(property);
    tree.root.add_child(DeviceTreeNode::new_unchecked(name));
    let dtb = tree.to_dtb();
    assert!(other::Fdt::new(&dtb).is_err());
    let root = Fdt::new(&dtb).unwrap().root();
    assert_eq!(root.property(name), Some(&[0, 0, 0, 1][..]));
    assert_eq!(root.child(name).unwrap().name(), name);
}

#[test]
fn a_child_is_found_with_or_without_its_address() {
    let dtb = fixture::two_vms().to_dtb();
    let root = Fdt::new(&dtb).unwrap().root();
    let name = |wanted| root.child(wanted).map(FdtNode::name);
    assert_eq!(name("pl011@9000000"), Some("pl011@9000000"));
    assert_eq!(name("pl011"), Some("pl011@9040000"));
    assert_eq!(name("pl011@"), None);
    assert_eq!(name("chosen"), Some("chosen"));
    assert_eq!(name("chose"), None);
    // Nothing comes after the end.
    let mut children = root.children();
    while children.next().is_some() {}
    assert!(children.next().is_none());
    let mut properties = root.properties();
    while properties.next().is_some() {}
    assert!(properties.next().is_none());
}

#[test]
fn what_is_wrong_with_a_tree_is_said() {
    let change = |at: usize, value: u32| {
        let mut dtb = fixture::machine().to_dtb();
        dtb[at..at + 4].copy_from_slice(&value.to_be_bytes());
        Fdt::new(&dtb).map(|_| ())
    };
    let cell = |at: usize| {
        let dtb = fixture::machine().to_dtb();
        u32::from_be_bytes(dtb[at..at + 4].try_into().unwrap())
    };
    assert_eq!(change(0, 0xd00d_feed), Ok(()));
    assert_eq!(change(0, 0xd00d_feee), Err("it has no magic number"));
    assert_eq!(change(4, cell(4) + 1), Err("it is cut off"));
    for (at, version, verdict) in [
        (20, 16, Err("it is not of version 17")),
        (20, 18, Ok(())),
        (24, 17, Ok(())),
        (24, 18, Err("it is not of version 17")),
    ] {
        assert_eq!(change(at, version), verdict);
    }
    for offset in [8, 12, 16, 32, 36] {
        assert_eq!(change(offset, cell(4) + 1), Err("a part is outside of it"));
        assert_eq!(change(offset, u32::MAX), Err("a part is outside of it"));
    }
    // Behind the end of the reservations there are no zeros for an entry.
    assert_eq!(
        change(16, cell(4) - 8),
        Err("its memory reservations do not end")
    );
    let structure = cell(8) as usize;
    for token in [0, 2, 4, 5, 9] {
        assert_eq!(
            change(structure, token),
            Err("its structure is broken"),
            "{token}"
        );
    }
    let end = structure + cell(36) as usize - 4;
    assert_eq!(change(end, 9), Ok(()));
    for token in [0, 1, 2, 3, 4] {
        assert_eq!(
            change(end, token),
            Err("its structure is broken"),
            "{token}"
        );
    }
    // The root ends early: what is behind it is not the end.
    assert_eq!(change(end - 8, 9), Err("its structure is broken"));
    assert_eq!(Fdt::new(&[]).map(|_| ()), Err("it is cut off"));
    // Nothing at all is between pieces.
    let mut dtb = fixture::machine().to_dtb();
    dtb[end - 4..end].copy_from_slice(&4_u32.to_be_bytes());
    assert_eq!(Fdt::new(&dtb).map(|_| ()), Err("its structure is broken"));
}

#[test]
fn numbers_have_up_to_four_cells() {
    assert_eq!(number(&[]), Some(0));
    assert_eq!(number(&[1, 2, 3, 4]), Some(0x0102_0304));
    assert_eq!(number(&[0xff; 16]), Some(u128::MAX));
    assert_eq!(number(&[0; 20]), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn both_readers_read_the_same_in_damaged_trees(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        words in prop::collection::vec((any::<prop::sample::Index>(), 0_u32..12), 0..3),
    ) {
        let mut dtb = fixture::board().to_dtb();
        for (place, byte) in edits {
            *place.get_mut(&mut dtb) = byte;
        }
        for (place, word) in words {
            let at = place.index(dtb.len() / 4) * 4;
            dtb[at..at + 4].copy_from_slice(&word.to_be_bytes());
        }
        compare(&dtb);
    }
}
