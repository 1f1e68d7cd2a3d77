// SPDX-License-Identifier: Apache-2.0 OR MIT
//! NXP's i.MX 8M Plus EVK: Cortex-A53, a GICv3, i.MX UARTs, RAM from 0x4000_0000 on.
//!
//! QEMU emulates neither the power controller (GPC) nor the TrustZone address controller (TZASC),
//! on which firmware waits: a patch of TF-A and one of OP-TEE leave them out. Without the TZASC
//! nothing but EL2's tables keeps guests out of OP-TEE's RAM. QEMU does not emulate the reset
//! controller either, by which TF-A starts cores: there is one CPU.

use super::{BaseTree, Board, Form, LinuxTree, OpteePort, Serial, TfA};
use crate::bundle::Range;

/// Where TF-A enters OP-TEE (`BL32_BASE`).
const OPTEE: u64 = 0x5600_0000;

/// The board.
pub(super) static BOARD: Board = Board {
    name: "imx8mp-evk",
    model: "imx8mp-evk",
    qemu: (10, 0),
    gic_version: 3,
    iommu: None,
    cpu: Some("cortex-a53"),
    most_cpus: 1,
    ram: &[Range {
        start: 0x4000_0000,
        size: 8 << 30,
    }],
    least_ram_mib: 512,
    // UART1, and UART2, which the tree's console is.
    serials: &[Serial::Secure, Serial::Console],
    powers_off: true,
    tree: BaseTree::Linux(LinuxTree {
        file: "freescale/imx8mp-evk.dtb",
        // OP-TEE with its shared memory (`BL32_SIZE`). BL31 is in on-chip memory.
        reserve: &[Range {
            start: OPTEE,
            size: 0x200_0000,
        }],
        bl33: 0x4020_0000,
    }),
    tf_a: TfA {
        flags: &["PLAT=imx8mp", "SPD=opteed"],
        patches: &[(
            "tf-a-imx8mp-without-gpc.patch",
            include_str!("tf-a-imx8mp-without-gpc.patch"),
        )],
        form: Form::Bl31 {
            elf: "imx8mp/release/bl31/bl31.elf",
            optee: OPTEE,
        },
    },
    optee: OpteePort {
        flags: &[
            "PLATFORM=imx-mx8mpevk",
            "CFG_TZDRAM_START=0x56000000",
            "CFG_UART_BASE=UART1_BASE",
            // The CAAM, a cryptographic coprocessor, which QEMU does not emulate.
            "CFG_NXP_CAAM=n",
            // As for QEMU's `virt`. With the port's 128 KiB OP-TEE cannot list the pages of a buffer
            // of 32 MiB, which the mediator registers when it creates a VM.
            "CFG_CORE_HEAP_SIZE=196608",
        ],
        patches: &[(
            "optee-imx8mp-without-tzasc.patch",
            include_str!("optee-imx8mp-without-tzasc.patch"),
        )],
        packaged: false,
        interrupt: None,
    },
    ffa: None,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::BoardName;
    use crate::config::System;
    use crate::fake_qemu;
    use crate::launch::{Firmware, Machine};
    use std::path::Path;

    #[test]
    fn qemu_gets_one_cpu_and_the_console_on_the_second_serial_port() {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine {
            board: &BOARD,
            model: BOARD.model.into(),
            firmware: Firmware::Bl31("/x/bl31.elf".into()),
            ..fake_qemu::machine(folder.path(), "", &[])
        };
        let arguments = machine.arguments(Path::new("/out/optee.log"));
        let arguments: Vec<_> = arguments
            .iter()
            .map(|word| word.to_string_lossy())
            .collect();
        let text = arguments.join(" ");
        assert!(text.starts_with("-M imx8mp-evk -smp 1 "), "{text}");
        assert!(
            text.contains("-serial file:/out/optee.log -serial chardev:uart "),
            "{text}"
        );
        assert!(
            text.contains("-device loader,file=/x/bl31.elf,cpu-num=0 "),
            "{text}"
        );
        // A board with CPUs of its own takes no `-cpu`.
        assert!(!arguments.iter().any(|word| word == "-cpu"), "{text}");
    }

    #[test]
    fn firmware_and_tree_agree_on_optees_memory() {
        let Form::Bl31 { optee, .. } = BOARD.tf_a.form else {
            panic!("QEMU starts BL31");
        };
        let start = format!("CFG_TZDRAM_START={optee:#x}");
        assert!(BOARD.optee.flags.contains(&start.as_str()));
        let BaseTree::Linux(tree) = &BOARD.tree else {
            panic!("the tree is Linux's");
        };
        assert!(tree.reserve.iter().any(|range| range.start == optee));
    }

    #[test]
    fn board_has_one_cpu_whatever_the_description_says() {
        let text = "[machine]\ncpus = 4\n[[vm]]\nname = \"a\"\n";
        let name = BoardName::Imx8mpEvk;
        let system = System::parse(text).unwrap().on_board(name).unwrap();
        assert_eq!(system.machine.cpus, 1);
        // The description's own board, with and without a number.
        let own = text.replace("cpus", "board = \"imx8mp-evk\"\ncpus");
        for text in [own.as_str(), &own.replace("cpus = 4", "")] {
            assert_eq!(System::parse(text).unwrap().machine.cpus, 1);
        }
        assert!(System::parse(&own.replace("cpus = 4", "cpus = 5")).is_err());
        // What a VM asks for is not changed.
        let pinned = format!("{text}affinity = [1]\n");
        let error = System::parse(&pinned).unwrap().on_board(name).unwrap_err();
        assert!(
            error.contains("affinity names CPU 1; the machine has 0 to 0"),
            "{error}"
        );
    }
}
