// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks a board's tree on a host, before a board boots with it.
//! [`machine::read`](crate::machine::read) stops at the first problem; a person who corrects a tree
//! needs all of them.

use alloc::vec::Vec;

use super::bus::Located;
use super::cpus::Cpus;
use super::devices::{self, Optee, Timers};
use super::error::BootError;
use super::gic::Gic;
use super::mpidr::Mpidr;
use super::ram::{self, Memory};
use super::tree;
use super::uart::{self, Uart};

/// Returns every problem of the machine's description; the VMs and the places in RAM are not looked
/// at.
pub fn machine_problems(tree: &[u8]) -> Vec<BootError<'_>> {
    let fdt = match tree::open(tree) {
        Ok(fdt) => fdt,
        Err(error) => return [error].into(),
    };
    let devices = match Gic::read(fdt) {
        Ok(gic) => [
            None,
            Uart::read(fdt, &gic).err(),
            Timers::read(fdt, &gic).err(),
            Optee::read(fdt, &gic).err(),
        ],
        // What their interrupts mean is not known then.
        Err(error) => {
            let timer = Located::find(fdt, &["arm,armv8-timer"]);
            [
                Some(error),
                (!uart::is_named(fdt)).then_some(BootError::NoUart),
                timer.is_none().then_some(BootError::NoTimer),
                None,
            ]
        }
    };
    let others = [
        devices::check_psci(fdt).err(),
        Cpus::read(fdt, first_cpu(tree)).err(),
        free_ram(tree).err(),
    ];
    devices.into_iter().chain(others).flatten().collect()
}

/// Returns what is wrong with the form of a tree, whatever it describes: nothing if
/// [`machine::read`](crate::machine::read) can read it.
pub fn form_problem(tree: &[u8]) -> Option<&'static str> {
    match tree::open(tree) {
        Err(BootError::NotATree(problem)) => Some(problem),
        _ => None,
    }
}

/// Returns whether the tree announces OP-TEE.
pub fn has_optee(tree: &[u8]) -> bool {
    let optee = |fdt| Optee::read(fdt, &Gic::read(fdt).ok()?).ok()?;
    tree::open(tree).ok().and_then(optee).is_some()
}

/// Returns the RAM that the tree does not reserve.
pub fn free_ram(tree: &[u8]) -> Result<Memory, BootError<'_>> {
    let fdt = tree::open(tree)?;
    let mut free = ram::read_ram(fdt)?;
    ram::remove_reserved(fdt, &mut free)?;
    Ok(free)
}

/// Returns the first CPU of the tree: the one that most firmware boots on.
pub fn first_cpu(tree: &[u8]) -> Mpidr {
    let address = || {
        let cpus = tree::open(tree).ok()?.root().child("cpus")?;
        let mut nodes = cpus
            .children()
            .filter(|&node| tree::string(node, "device_type") == Some("cpu"))
            .filter(|&node| tree::is_enabled(node));
        tree::reg(nodes.next()?, 0).ok()
    };
    Mpidr::new(address().map_or(0, |range| range.start().get()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_flat_tree::FlatTree;

    #[test]
    fn a_tree_without_anything_has_all_problems_at_once() {
        let tree = FlatTree::write(|root| root.text("compatible", "x"));
        let expected = [
            BootError::NoGic,
            BootError::NoUart,
            BootError::NoTimer,
            BootError::NoPsci,
            BootError::NoCpu,
            BootError::NoMemory,
        ];
        assert_eq!(machine_problems(&tree), expected);
        assert!(!has_optee(&tree));
        assert_eq!(form_problem(&tree), None);
        assert_eq!(form_problem(b"no tree"), Some("it is cut off"));
        let problems = machine_problems(b"no tree");
        assert!(matches!(problems[..], [BootError::NotATree(_)]));
    }

    #[test]
    fn the_first_enabled_cpu_is_found() {
        let tree = FlatTree::write(|root| {
            root.node("cpus", |cpus| {
                cpus.cells("#address-cells", &[1]);
                cpus.cells("#size-cells", &[0]);
                cpus.node("cpu-map", |_| ());
                for (address, status) in [(0x100, "disabled"), (0x101, "okay"), (0, "okay")] {
                    cpus.node(&std::format!("cpu@{address:x}"), |cpu| {
                        cpu.text("device_type", "cpu");
                        cpu.text("status", status);
                        cpu.cells("reg", &[address]);
                    });
                }
            });
        });
        assert_eq!(first_cpu(&tree), Mpidr::new(0x101));
        assert!(!machine_problems(&tree).contains(&BootError::NoCpu));
        assert_eq!(first_cpu(&[]), Mpidr::new(0));
    }
}
