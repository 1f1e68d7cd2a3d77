// SPDX-License-Identifier: Apache-2.0 OR MIT
//! AMD's ZCU102: four Cortex-A53, a GIC-400, Cadence UARTs, RAM from 0 on.
//!
//! QEMU emulates no PMU, the processor that starts cores, sets the counter's frequency and powers
//! the board off: a patch of TF-A does the first two, and the tool the third. It emulates no memory
//! protection either (XMPU), so here nothing but EL2's tables keeps guests out of OP-TEE's RAM.

use super::{BaseTree, Board, Form, LinuxTree, OpteePort, Serial, TfA};
use crate::bundle::Range;

/// Where OP-TEE's port has its RAM (`CFG_TZDRAM_START`).
const OPTEE: u64 = 0x6000_0000;

/// The board.
pub(super) static BOARD: Board = Board {
    name: "zcu102",
    model: "xlnx-zcu102,secure=on,virtualization=on",
    qemu: (7, 2),
    gic_version: 2,
    iommu: None,
    cpu: Some("cortex-a53"),
    most_cpus: 4,
    ram: &[
        Range {
            start: 0,
            size: 2 << 30,
        },
        Range {
            start: 32 << 30,
            size: 32 << 30,
        },
    ],
    // OP-TEE's memory ends there.
    least_ram_mib: 2048,
    serials: &[Serial::Console, Serial::Secure],
    powers_off: false,
    tree: BaseTree::Linux(LinuxTree {
        file: "xilinx/zynqmp-zcu102-rev1.0.dtb",
        reserve: &[
            // BL31, which is linked to RAM instead of on-chip memory when it has an OP-TEE.
            Range {
                start: 0,
                size: 0x8_0000,
            },
            // OP-TEE, and its shared memory (`CFG_SHMEM_START`).
            Range {
                start: OPTEE,
                size: 0x2000_0000,
            },
        ],
        bl33: 0x20_0000,
    }),
    tf_a: TfA {
        flags: &[
            "PLAT=zynqmp",
            "SPD=opteed",
            // The console's UART. TF-A sets it up, as on `virt`, and is silent from BL33 on.
            "ZYNQMP_CONSOLE=cadence0",
        ],
        patches: &[(
            "tf-a-zcu102-without-pmu.patch",
            include_str!("tf-a-zcu102-without-pmu.patch"),
        )],
        form: Form::Bl31 {
            elf: "zynqmp/release/bl31/bl31.elf",
            optee: OPTEE,
        },
    },
    optee: OpteePort {
        flags: &[
            "PLATFORM=zynqmp-zcu102",
            // OP-TEE writes whenever it works; the port's default is the console's UART.
            "CFG_UART_BASE=UART1_BASE",
            "CFG_UART_IT=IT_UART1",
            // The pseudo TA of case 1001 of xtest and of the measurements; other ports have it.
            "CFG_ENABLE_EMBEDDED_TESTS=y",
            // As large as vexpress has it. The port's own 64 KiB do not hold the two tables of a
            // buffer of 32 MiB, by which the mediator makes OP-TEE create a VM's translation tables.
            "CFG_CORE_HEAP_SIZE=196608",
        ],
        patches: &[],
        packaged: false,
        interrupt: None,
    },
    ffa: None,
};
