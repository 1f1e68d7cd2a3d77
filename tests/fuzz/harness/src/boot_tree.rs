// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Fuzzes the parser of the boot device tree, which users write.

use mediator::addr::Pa;
use postern_base::ids::MAX_VCPUS;
use postern_base::range::PaRange;
use postern_boot_tree::machine::read;
use postern_boot_tree::{BLOCK_SIZE, BootPlacement, MAX_BOOTARGS, MAX_NAME};

/// Parses the whole input as a tree.
pub fn run(data: &[u8]) {
    let range = |start, bytes| PaRange::new(Pa::new(start), bytes).expect("does not wrap");
    let occupied = BootPlacement {
        boot_cpu: postern_boot_tree::Mpidr::new(0),
        hypervisor: range(0x4020_0000, 0x20_0000),
        tree: range(0x4000_0000, 0x10_0000),
    };
    let (machine, vms) = match read(data, occupied, &|_| None) {
        Ok(read) => read,
        Err(error) => {
            // The user reads the error, so it must format without a panic.
            let _ = error.to_string();
            return;
        }
    };
    assert!(!machine.free.contains(occupied.hypervisor));
    let mut names = Vec::new();
    for vm in &vms {
        assert!((1..=MAX_NAME).contains(&vm.name.len()));
        assert!(!names.contains(&vm.name), "two VMs of one name");
        names.push(vm.name);
        assert!(vm.memory > 0 && vm.memory.is_multiple_of(BLOCK_SIZE));
        assert!((1..=MAX_VCPUS).contains(&vm.vcpus));
        assert!(vm.affinity.is_none_or(|set| !set.is_empty()));
        assert!(vm.bootargs.len() <= MAX_BOOTARGS);
        for module in [Some(vm.kernel), vm.ramdisk].into_iter().flatten() {
            assert!(machine.ram.contains(module));
            assert!(!machine.free.contains(module));
        }
    }
}
