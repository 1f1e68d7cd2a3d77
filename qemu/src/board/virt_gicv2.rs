// SPDX-License-Identifier: Apache-2.0 OR MIT
//! QEMU's `virt` machine with a GICv2. Firmware is built for one GIC: TF-A's port takes a GICv2
//! unless it is told otherwise, and OP-TEE likewise. Debian's OP-TEE is for a GICv3.

use super::virt::{FORM, OPTEE_INTERRUPT, RAM, SERIALS, TREE};
use super::{BaseTree, Board, OpteePort, TfA};

/// The board.
pub(super) static BOARD: Board = Board {
    name: "virt-gicv2",
    model: "virt,secure=on,virtualization=on,gic-version=2",
    qemu: (7, 2),
    gic_version: 2,
    iommu: None,
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
            "BL32_RAM_LOCATION=tdram",
            "ENABLE_SVE_FOR_SWD=1",
        ],
        patches: &[],
        form: FORM,
    },
    optee: OpteePort {
        flags: &["PLATFORM=vexpress-qemu_armv8a"],
        patches: &[],
        packaged: false,
        interrupt: OPTEE_INTERRUPT,
    },
    ffa: None,
};
