// SPDX-License-Identifier: Apache-2.0 OR MIT
//! QEMU's `virt` machine with a GICv3, for which Debian builds OP-TEE.

use super::{Board, Map, OpteePort, TfA};

/// The memory map that the `virt` boards share.
pub(super) const MAP: Map = Map {
    ram: 0x4000_0000,
    // QEMU puts it there, and the firmware looks for it there.
    tree: 0x4000_0000,
    // Three quarters of the room in which TF-A opens it in place (`PLAT_QEMU_DT_MAX_SIZE`). The last
    // quarter is left for the nodes that TF-A and OP-TEE add.
    tree_limit: 0xc_0000,
    // The hypervisor is small and comes directly after the tree. A kernel there would overlap
    // OP-TEE's shared memory at 0x4200_0000, so it comes after that.
    bl33: 0x4020_0000,
    native_bl33: 0x4400_0000,
    modules: 0x4800_0000,
};

/// SPI 187, edge triggered.
pub(super) const OPTEE_INTERRUPT: [u32; 3] = [0, 187, 1];

/// See [`Board::not_for_linux`].
pub(super) const NOT_FOR_LINUX: &[&str] = &[
    "gpio-keys",
    "gpio-restart",
    "gpio-poweroff",
    "pl061@9030000",
    "pl061@90b0000",
    "pl031@9010000",
    "pl011@9040000",
    "secram@e000000",
    "secflash@0",
];

/// The board.
pub(super) static BOARD: Board = Board {
    name: "virt",
    model: "virt,secure=on,virtualization=on,gic-version=3",
    model_without_firmware: "virt,virtualization=on,gic-version=3",
    map: MAP,
    tf_a: TfA {
        flags: &[
            "PLAT=qemu",
            "SPD=opteed",
            "QEMU_USE_GIC_DRIVER=QEMU_GICV3",
            "BL32_RAM_LOCATION=tdram",
            // On a CPU with SVE, OP-TEE's applications would otherwise be denied FP, too.
            "ENABLE_SVE_FOR_SWD=1",
        ],
    },
    optee: OpteePort {
        flags: &["PLATFORM=vexpress-qemu_armv8a", "CFG_ARM_GICV3=y"],
        packaged: true,
        interrupt: OPTEE_INTERRUPT,
    },
    not_for_linux: NOT_FOR_LINUX,
};
