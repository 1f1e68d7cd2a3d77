// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests the boards' data.

use super::*;

#[test]
fn every_name_reads_back() {
    for name in BoardName::ALL {
        assert_eq!(name.to_string().parse(), Ok(name));
    }
    assert_eq!(
        "zcu".parse::<BoardName>(),
        Err("there is no board \"zcu\"; the boards are virt, virt-gicv2".into())
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
