// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Trees with anything in them: none makes the reader panic.

use dtoolkit::model::DeviceTree;
use proptest::prelude::*;

use super::fixture::{at, set};
use super::{fixture, occupied, read, tee_policy};
use crate::*;
use postern_base::ids::MAX_VCPUS;

/// Whatever reads it, a tree with a few wrong bytes or a cut end must give an answer.
fn survives(dtb: &[u8]) {
    let uart = early_uart(dtb);
    let _ = early_psci(dtb);
    if let Ok((machine, vms)) = read(dtb, occupied()) {
        // What is accepted holds what the types promise.
        assert_eq!(
            uart,
            Some((machine.uart.registers.start(), machine.uart.layout))
        );
        assert!(machine.uart.registers.bytes() >= machine.uart.layout.bytes());
        assert!(!machine.uart.interrupts.is_empty());
        assert!(!machine.cpus.list().is_empty() && !vms.is_empty());
        assert!(machine.free.iter().all(|free| machine.ram.contains(free)));
        assert!(!machine.free.overlaps(occupied().hypervisor));
        for vm in &vms {
            assert!(
                (1..=MAX_VCPUS).contains(&vm.vcpus)
                    && vm.affinity.is_none_or(|set| !set.is_empty())
            );
            assert!(vm.memory > 0 && vm.memory.is_multiple_of(BLOCK_SIZE));
            assert!(!machine.free.overlaps(vm.kernel) && machine.ram.contains(vm.kernel));
        }
    }
}

fn some_tree(kind: u8) -> DeviceTree {
    match kind {
        0 => fixture::board(),
        1 => fixture::two_vms(),
        _ => fixture::gic_v2("arm,gic-400", 0x2_0000),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_tree_makes_it_panic(
        kind in 0..3_u8,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        words in prop::collection::vec((any::<prop::sample::Index>(), 0_u32..12), 0..3),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut dtb = some_tree(kind).to_dtb();
        for (place, byte) in edits {
            *place.get_mut(&mut dtb) = byte;
        }
        // Tokens and small lengths, where they hurt most: on word boundaries.
        for (place, word) in words {
            let at = place.index(dtb.len() / 4) * 4;
            dtb[at..at + 4].copy_from_slice(&word.to_be_bytes());
        }
        if let Some(cut) = cut {
            dtb.truncate(cut.index(dtb.len()));
        }
        survives(&dtb);
    }

    #[test]
    fn no_values_make_it_panic(
        kind in 0..3_u8,
        edits in prop::collection::vec(
            (any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 0..40)), 1..4)
    ) {
        let mut tree = some_tree(kind);
        tee_policy::restrict(at(&mut tree, "/chosen/vm-a"));
        let mut paths = Vec::new();
        collect(&tree.root, &mut Vec::new(), &mut paths);
        for (place, value) in edits {
            let (path, property) = place.get(&paths);
            let node = path.iter().fold(&mut tree.root, |node, name| node.child_mut(name).unwrap());
            set(node, property, value);
        }
        survives(&tree.to_dtb());
    }
}

type Place = (Vec<String>, String);

fn collect(node: &dtoolkit::model::DeviceTreeNode, path: &mut Vec<String>, out: &mut Vec<Place>) {
    use dtoolkit::{Node, Property};
    for property in node.properties() {
        out.push((path.clone(), property.name().to_owned()));
    }
    for child in node.children() {
        path.push(child.name().to_owned());
        collect(child, path, out);
        path.pop();
    }
}
