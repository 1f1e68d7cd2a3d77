// SPDX-License-Identifier: Apache-2.0 OR MIT
//! QEMU's `virt` machine with a GICv3, for which Debian builds OP-TEE.

use super::{BaseTree, Board, Ffa, Form, OpteePort, QemuTree, Serial, TfA};
use crate::bundle::Range;

/// RAM of the `virt` boards: QEMU gives them up to 255 GiB.
pub(super) const RAM: &[Range] = &[Range {
    start: 0x4000_0000,
    size: 255 << 30,
}];

/// The serial ports of the `virt` boards. TF-A writes to the first one until it enters BL33.
pub(super) const SERIALS: &[Serial] = &[Serial::Console, Serial::Secure];

/// The tree of the `virt` boards.
pub(super) const TREE: QemuTree = QemuTree {
    // QEMU puts it there, and the firmware looks for it there.
    address: 0x4000_0000,
    // Three quarters of the room in which TF-A opens it in place (`PLAT_QEMU_DT_MAX_SIZE`). The last
    // quarter is left for the nodes that TF-A and OP-TEE add.
    limit: 0xc_0000,
    // The hypervisor is small and comes directly after the tree. A kernel there would overlap
    // OP-TEE's shared memory at 0x4200_0000, so it comes after that.
    bl33: 0x4020_0000,
    native_bl33: 0x4400_0000,
    modules: 0x4800_0000,
    not_for_linux: &[
        "gpio-keys",
        "gpio-restart",
        "gpio-poweroff",
        "pl061@9030000",
        "pl061@90b0000",
        "pl031@9010000",
        "pl011@9040000",
        "secram@e000000",
        "secflash@0",
    ],
};

/// The firmware of the `virt` boards.
pub(super) const FORM: Form = Form::Flash {
    results: "qemu/release",
};

/// SPI 187, edge triggered.
pub(super) const OPTEE_INTERRUPT: Option<[u32; 3]> = Some([0, 187, 1]);

/// The board.
pub(super) static BOARD: Board = Board {
    name: "virt",
    model: "virt,secure=on,virtualization=on,gic-version=3",
    qemu: (7, 2),
    gic_version: 3,
    iommu: Some("iommu=smmuv3,its=off"),
    cpu: None,
    most_cpus: 4,
    ram: RAM,
    least_ram_mib: 512,
    serials: SERIALS,
    powers_off: true,
    tree: BaseTree::Qemu(TREE),
    tf_a: TfA {
        flags: &[
            "PLAT=qemu",
            "SPD=opteed",
            "QEMU_USE_GIC_DRIVER=QEMU_GICV3",
            "BL32_RAM_LOCATION=tdram",
            // On a CPU with SVE, OP-TEE's applications would otherwise be denied FP, too.
            "ENABLE_SVE_FOR_SWD=1",
        ],
        patches: &[],
        form: FORM,
    },
    optee: OpteePort {
        flags: &["PLATFORM=vexpress-qemu_armv8a", "CFG_ARM_GICV3=y"],
        patches: &[],
        packaged: true,
        interrupt: OPTEE_INTERRUPT,
    },
    ffa: Some(Ffa {
        tf_a: &[
            "PLAT=qemu",
            "SPD=spmd",
            "SPMD_SPM_AT_SEL2=0",
            "SPMC_OPTEE=1",
            "QEMU_USE_GIC_DRIVER=QEMU_GICV3",
            "BL32_RAM_LOCATION=tdram",
            "ENABLE_SVE_FOR_SWD=1",
        ],
        manifest: (
            "QEMU_TOS_FW_CONFIG_DTS",
            include_str!("virt-spmc-manifest.dts"),
        ),
        optee: &["CFG_CORE_SEL1_SPMC=y"],
    }),
};
