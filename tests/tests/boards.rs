// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the hypervisor's reader makes of the device trees of real boards, which are in Debian's kernel package: the
//! machine, or the line that a user reads.
//!
//! The trees are as Linux's sources have them. A board's boot loader adds RAM where the tree has none, and an integrator
//! the VMs: so does this test.

use anyhow::{Context, Result, ensure};
use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use dtoolkit::standard::NodeStandard;
use dtoolkit::{Node, ToPropertyValue};
use mediator::addr::Pa;
use postern_base::range::PaRange;
use postern_boot_tree::{BootPlacement, GicRegisters, Machine, Mpidr, early_uart, machine};
use postern_qemu::config::Linux;
use postern_qemu::parts::{
    self,
    deb::{self, Content},
};
use postern_qemu::paths::Paths;
use postern_qemu::prepare::Suite;
use postern_qemu::progress::Progress;
use postern_uart::Model::{self, *};
use std::collections::BTreeMap;

/// A board, and what is expected of it.
struct Board {
    /// The file below the kernel's folder of trees.
    file: &'static str,
    /// RAM that no tree reserves, of 64 MiB.
    free: u64,
    /// Whether the boot loader adds RAM, a GiB from there on.
    adds_ram: bool,
    /// Where the console's first register is, and which UART it is.
    console: Option<(u64, Model)>,
    verdict: Verdict,
}

enum Verdict {
    /// It boots: so many CPUs, where the GIC's distributor is, where the first redistributor, and the console's
    /// interrupts.
    Boots(usize, u64, u64, &'static [u32]),
    /// It boots, with a GICv2: so many CPUs, where the GIC's distributor is, where the CPU interface, whose two pages are
    /// one behind the other, and the console's interrupts.
    BootsV2(usize, u64, u64, &'static [u32]),
    /// Another line.
    Line(&'static str),
}
use Verdict::*;

const BOARDS: [Board; 12] = [
    Board {
        file: "xilinx/zynqmp-zcu102-rev1.0.dtb",
        free: 0x1000_0000,
        adds_ram: false,
        console: Some((0xff00_0000, Cadence)),
        verdict: BootsV2(4, 0xf901_0000, 0xf902_f000, &[21]),
    },
    Board {
        file: "renesas/r8a774a1-hihope-rzg2m-ex.dtb",
        free: 0x5000_0000,
        adds_ram: false,
        console: Some((0xe6e8_8000, Scif)),
        verdict: BootsV2(6, 0xf101_0000, 0xf102_f000, &[164]),
    },
    Board {
        file: "renesas/r9a09g057h44-rzv2h-evk.dtb",
        free: 0x5000_0000,
        adds_ram: false,
        console: Some((0x11c0_1400, Scif)),
        verdict: Boots(
            4,
            0x1490_0000,
            0x1494_0000,
            &[0x211, 0x214, 0x215, 0x212, 0x216],
        ),
    },
    Board {
        file: "freescale/imx8mp-evk.dtb",
        free: 0x5000_0000,
        adds_ram: false,
        console: Some((0x3089_0000, Imx)),
        verdict: Boots(4, 0x3880_0000, 0x3888_0000, &[27]),
    },
    Board {
        file: "ti/k3-am625-sk.dtb",
        free: 0x8200_0000,
        adds_ram: false,
        console: Some((0x0280_0000, Ns16550)),
        verdict: Boots(4, 0x0180_0000, 0x0188_0000, &[0xb2]),
    },
    Board {
        file: "rockchip/rk3588-rock-5b.dtb",
        free: 0x0200_0000,
        adds_ram: true,
        console: Some((0xfeb5_0000, DesignWare)),
        verdict: Boots(8, 0xfe60_0000, 0xfe68_0000, &[0x14d]),
    },
    Board {
        file: "rockchip/rk3399-rockpro64.dtb",
        free: 0x0200_0000,
        adds_ram: true,
        console: Some((0xff1a_0000, DesignWare)),
        verdict: Boots(6, 0xfee0_0000, 0xfef0_0000, &[0x64]),
    },
    Board {
        file: "amlogic/meson-g12b-odroid-n2.dtb",
        free: 0x1000_0000,
        adds_ram: false,
        console: Some((0xff80_3000, Meson)),
        verdict: BootsV2(6, 0xffc0_1000, 0xffc0_2000, &[193]),
    },
    Board {
        file: "broadcom/bcm2711-rpi-4-b.dtb",
        free: 0x1000_0000,
        adds_ram: true,
        console: Some((0xfe21_5040, Bcm2835Aux)),
        verdict: Line(
            "no PSCI 0.2 or later in the device tree: boot through TF-A, or start QEMU with \
             -M virt,virtualization=on,secure=off",
        ),
    },
    Board {
        file: "qcom/qrb5165-rb5.dtb",
        free: 0xa000_0000,
        adds_ram: true,
        console: None,
        verdict: Line(
            "no console: /chosen needs a stdout-path that names an enabled UART of those in \
             docs/device-tree-binding.md",
        ),
    },
    // As they are, without what the boot loader adds.
    Board {
        file: "rockchip/rk3588-rock-5b.dtb",
        free: 0x0200_0000,
        adds_ram: false,
        console: Some((0xfeb5_0000, DesignWare)),
        verdict: Line(
            "no RAM in the device tree: it needs a node with device_type = \"memory\" and a reg",
        ),
    },
    Board {
        file: "rockchip/rk3399-rockpro64.dtb",
        free: 0x0200_0000,
        adds_ram: false,
        console: Some((0xff1a_0000, DesignWare)),
        verdict: Line(
            "no RAM in the device tree: it needs a node with device_type = \"memory\" and a reg",
        ),
    },
];

const MIB: u64 = 1 << 20;

/// The trees, by their files' names, from the cached package or else from Debian.
fn trees() -> Result<BTreeMap<String, Vec<u8>>> {
    let paths = Paths::discover()?;
    let (suite, linux) = (Suite::Trixie, Linux::Standard);
    let parts = parts::fetch(&paths, suite, linux, false, &Progress::on_stderr())?;
    let is_wanted = |path: &str| BOARDS.iter().any(|board| path.ends_with(board.file));
    let mut trees = BTreeMap::new();
    for package in parts.packages(|name| name.starts_with("linux-")) {
        for entry in deb::read(&package.file, is_wanted)? {
            let board = BOARDS.iter().find(|board| entry.path.ends_with(board.file));
            if let (Some(board), Content::File { data, .. }) = (board, entry.content) {
                trees.insert(board.file.to_owned(), data);
            }
        }
    }
    Ok(trees)
}

fn set(node: &mut DeviceTreeNode, name: &str, value: impl ToPropertyValue) {
    node.add_property(DeviceTreeProperty::new_unchecked(name, value));
}

fn child<'n>(node: &'n mut DeviceTreeNode, name: &str) -> &'n mut DeviceTreeNode {
    if node.child(name).is_none() {
        node.add_child(DeviceTreeNode::new_unchecked(name));
    }
    node.child_mut(name).expect("it is there now")
}

/// The tree with a VM, and with RAM if the boot loader adds it. RAM begins where it does in the root's cells.
fn complete(tree: &[u8], board: &Board) -> Vec<u8> {
    // Names of most trees are longer than the parser's check lets through; otherwise they are sound.
    let fdt = Fdt::new_unchecked(tree);
    let mut tree = DeviceTree::from_fdt(&fdt);
    if board.adds_ram {
        let memory = child(&mut tree.root, "memory@ram");
        set(memory, "device_type", "memory");
        let size_cells = fdt.root().size_cells().unwrap_or(1);
        let size = [0, 1 << 30];
        let address = [0, board.free as u32];
        let skip = 2 - size_cells as usize;
        set(
            memory,
            "reg",
            [&address[..], &size[skip..]].concat().as_slice(),
        );
    }
    let chosen = child(&mut tree.root, "chosen");
    let vm = child(chosen, "vm-a");
    set(vm, "compatible", "postern,domain");
    set(vm, "#address-cells", 2_u32);
    set(vm, "#size-cells", 2_u32);
    set(vm, "memory", 32 * 1024_u64);
    set(vm, "cpus", 1_u32);
    let kernel = child(vm, "kernel");
    set(
        kernel,
        "compatible",
        ["multiboot,kernel", "multiboot,module"].as_slice(),
    );
    let start = board.free + 16 * MIB;
    let mut reg = start.to_be_bytes().to_vec();
    reg.extend(MIB.to_be_bytes());
    set(kernel, "reg", reg);
    tree.to_dtb()
}

fn read<'t>(tree: &'t [u8], board: &Board) -> Result<Machine<'t>, String> {
    let range = |start, bytes| PaRange::new(Pa::new(start), bytes).expect("does not wrap");
    let found = BootPlacement {
        boot_cpu: Mpidr::new(0),
        hypervisor: range(board.free + 2 * MIB, 8 * MIB),
        tree: range(board.free, 2 * MIB),
    };
    let read = machine::read(tree, found, &|_| None);
    read.map(|(machine, _)| machine)
        .map_err(|error| error.to_string())
}

#[test]
fn the_trees_of_ten_boards_boot_or_say_why_not() -> Result<()> {
    let trees = trees()?;
    for board in &BOARDS {
        let file = board.file;
        let tree = trees
            .get(file)
            .with_context(|| format!("the kernel's package has no {file}"))?;
        let tree = complete(tree, board);
        let console = early_uart(&tree).map(|(start, layout)| (start.get(), layout.model));
        ensure!(console == board.console, "{file}: console {console:x?}");
        let verdict = read(&tree, board);
        match &verdict {
            Ok(_) => println!("{file}: boots"),
            Err(line) => println!("{file}: {line}"),
        }
        match (&board.verdict, verdict) {
            (
                Boots(cpus, distributor, interface, interrupts)
                | BootsV2(cpus, distributor, interface, interrupts),
                Ok(machine),
            ) => {
                let (is_v2, first) = match &machine.gic.registers {
                    GicRegisters::V3(redistributors) => (false, redistributors.regions[0]),
                    GicRegisters::V2(v2) => (true, v2.cpu_interface),
                };
                let expects_v2 = matches!(board.verdict, BootsV2(..));
                ensure!(is_v2 == expects_v2, "{file}: the GIC's version");
                let found = (
                    machine.cpus.list().len(),
                    machine.gic.distributor.start().get(),
                    first.start().get(),
                );
                let expected = (*cpus, *distributor, *interface);
                ensure!(found == expected, "{file}: {found:x?}");
                let numbers = machine.uart.interrupts.iter();
                let numbers: Vec<u32> = numbers.map(|one| one.intid.get() - 32).collect();
                ensure!(numbers == *interrupts, "{file}: {numbers:x?}");
                let timers = [
                    machine.timers.physical,
                    machine.timers.virtual_timer,
                    machine.timers.hypervisor,
                ];
                let timers = timers.map(|timer| timer.get());
                ensure!(timers == [30, 27, 26], "{file}: timers {timers:?}");
            }
            (Line(expected), Err(line)) => ensure!(line == *expected, "{file}: {line}"),
            (_, Ok(_)) => anyhow::bail!("{file} boots"),
            (_, Err(line)) => anyhow::bail!("{file}: {line}"),
        }
    }
    Ok(())
}
