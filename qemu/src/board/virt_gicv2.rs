// SPDX-License-Identifier: Apache-2.0 OR MIT
//! QEMU's `virt` machine with a GICv2. Firmware is built for one GIC: TF-A's port takes a GICv2
//! unless it is told otherwise, and OP-TEE likewise. Debian's OP-TEE is for a GICv3.

use super::virt::{MAP, NOT_FOR_LINUX, OPTEE_INTERRUPT};
use super::{Board, OpteePort, TfA};

/// The board.
pub(super) static BOARD: Board = Board {
    name: "virt-gicv2",
    model: "virt,secure=on,virtualization=on,gic-version=2",
    model_without_firmware: "virt,virtualization=on,gic-version=2",
    map: MAP,
    tf_a: TfA {
        flags: &[
            "PLAT=qemu",
            "SPD=opteed",
            "BL32_RAM_LOCATION=tdram",
            "ENABLE_SVE_FOR_SWD=1",
        ],
    },
    optee: OpteePort {
        flags: &["PLATFORM=vexpress-qemu_armv8a"],
        packaged: false,
        interrupt: OPTEE_INTERRUPT,
    },
    not_for_linux: NOT_FOR_LINUX,
};
