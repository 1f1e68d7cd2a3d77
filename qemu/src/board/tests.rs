// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests the boards' data.

use super::*;
use crate::config::System;

#[test]
fn every_name_reads_back() {
    for name in BoardName::ALL {
        assert_eq!(name.to_string().parse(), Ok(name));
        let text = format!("machine.board = \"{name}\"\n[[vm]]\nname = \"a\"");
        assert_eq!(System::parse(&text).expect("good").machine.board, name);
    }
    assert_eq!(
        "zcu".parse::<BoardName>(),
        Err(
            "there is no board \"zcu\"; the boards are virt, virt-gicv2, zcu102, \
         imx8mp-evk"
                .into()
        )
    );
}

#[test]
fn gicv2_board_differs_from_virt_only_in_the_gic() {
    let (v3, v2) = (BoardName::Virt.board(), BoardName::VirtGicv2.board());
    assert_eq!(v3.model.replace("gic-version=3", "gic-version=2"), v2.model);
    let without = |flags: &[&'static str], gic: &str| -> Vec<&'static str> {
        flags.iter().copied().filter(|flag| *flag != gic).collect()
    };
    assert_eq!(
        without(v3.tf_a.flags, "QEMU_USE_GIC_DRIVER=QEMU_GICV3"),
        v2.tf_a.flags
    );
    assert_eq!(without(v3.optee.flags, "CFG_ARM_GICV3=y"), v2.optee.flags);
    // Debian's binary would stop in the first access to a redistributor.
    assert!(v3.optee.packaged && !v2.optee.packaged);
}

#[test]
fn firmware_of_a_linux_tree_is_reserved_and_apart() {
    for name in BoardName::ALL {
        let board = name.board();
        let BaseTree::Linux(tree) = &board.tree else {
            continue;
        };
        let is_reserved = |address: u64| {
            let mut ranges = tree.reserve.iter();
            ranges.any(|range| range.start <= address && address < range.start + range.size)
        };
        assert!(!is_reserved(tree.bl33), "{name}: BL33 is in the firmware");
        if let Form::Bl31 { optee, .. } = board.tf_a.form {
            assert!(is_reserved(optee), "{name}: guests would get OP-TEE's RAM");
        }
        // All of it is there on the smallest machine.
        let ram = board.memory(board.least_ram_mib);
        for range in tree.reserve {
            let holds = |ram: &Range| {
                ram.start <= range.start && range.start + range.size <= ram.start + ram.size
            };
            assert!(ram.iter().any(holds), "{name}: {range:x?}");
        }
    }
}

#[test]
fn ram_fills_up_range_by_range() {
    let zcu102 = BoardName::Zcu102.board();
    let ranges = |mib| -> Vec<(u64, u64)> {
        let ranges = zcu102.memory(mib).into_iter();
        ranges
            .map(|range| (range.start, range.size >> 20))
            .collect()
    };
    assert_eq!(ranges(2048), [(0, 2048)]);
    assert_eq!(ranges(3072), [(0, 2048), (32 << 30, 1024)]);
    assert_eq!(BoardName::Virt.board().memory(512).len(), 1);
}

#[test]
fn limits_of_a_board_are_those_of_its_descriptions() {
    let error = |machine: &str| {
        let text = format!("[machine]\nboard = \"zcu102\"\n{machine}\n[[vm]]\nname = \"a\"");
        format!("{:#}", System::parse(&text).expect_err("refused"))
    };
    let cpu = error("cpu = \"cortex-a72\"");
    assert!(
        cpu.contains("the board zcu102 has cortex-a53 CPUs: remove machine.cpu"),
        "{cpu}"
    );
    let memory = error("memory_mib = 1024");
    assert!(
        memory.contains("it must be 2048 to 34816 on the board zcu102"),
        "{memory}"
    );
    // What holds for the file holds for BOARD= as well.
    let system = System::parse("machine.cpu = \"max\"\n[[vm]]\nname = \"a\"").expect("on virt");
    let why = system.on_board(BoardName::Zcu102).expect_err("refused");
    assert!(why.contains("remove machine.cpu"), "{why}");
}
