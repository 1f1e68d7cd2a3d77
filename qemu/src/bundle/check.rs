// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is wrong with a board's tree, in a line each: where, what, what to do. The hypervisor's own
//! reader finds it; its texts are for a console, and these for an integrator at a desk.

use super::board::OpteeNodes;
use super::wants_optee;
use crate::config::System;
use postern_boot_tree::{BootError, VmError, check as reader};

/// Returns one of the reader's errors as a line.
pub(super) fn line(error: &BootError<'_>) -> String {
    let (place, what, remedy) = match error {
        BootError::NotATree(why) => (
            "the file",
            format!("it is no sound device tree ({why})"),
            "give the .dtb that dtc or the kernel's build makes",
        ),
        BootError::Property {
            node,
            property,
            problem,
        } => {
            return format!("{node}: `{property}` {problem}: correct it in the board's .dts");
        }
        BootError::Ranges { node, bus, problem } => {
            return format!(
                "{node}: it is on the bus {bus}, whose `ranges` {problem}: correct it in the board's .dts"
            );
        }
        BootError::NoMemory => (
            "/memory",
            "no node has device_type = \"memory\" and a reg".to_owned(),
            "give RAM by --memory START:SIZE (U-Boot's `bdinfo` lists it)",
        ),
        BootError::NoCpu => (
            "/cpus",
            "no enabled cpu node has a reg".to_owned(),
            "give the tree that Linux boots with on this board",
        ),
        BootError::EnableMethod { cpu } => {
            return format!(
                "/cpus/{cpu}: enable-method is not \"psci\": Postern starts CPUs by PSCI only; use TF-A and set it"
            );
        }
        BootError::NoPsci => (
            "/psci",
            "no node is compatible with arm,psci-0.2 or arm,psci-1.0".to_owned(),
            "use firmware with PSCI 0.2 or later, such as TF-A, and describe it",
        ),
        BootError::PsciConduit => (
            "/psci",
            "method is not \"smc\"".to_owned(),
            "set method = \"smc\": at EL2 there is no other",
        ),
        BootError::NoGic => (
            "the root",
            "no enabled node is compatible with arm,gic-v3 or a GICv2".to_owned(),
            "docs/device-tree-binding.md has the interrupt controllers that Postern drives",
        ),
        BootError::NoVirtualInterface => (
            "the interrupt controller",
            "it is a GICv2, and its reg has no virtual interface (GICH, GICV)".to_owned(),
            "give its reg four ranges: distributor, GICC, GICH and GICV; a GIC without them cannot run guests",
        ),
        BootError::NoTimer => (
            "/timer",
            "no enabled node is compatible with arm,armv8-timer".to_owned(),
            "give the tree that Linux boots with on this board",
        ),
        BootError::OpteeConduit => (
            "/firmware/optee",
            "method is not \"smc\"".to_owned(),
            "set method = \"smc\": Postern reaches OP-TEE through EL3 only",
        ),
        BootError::Misplaced { what, range } => {
            return format!(
                "{range}: {what} would be in reserved memory or no RAM there: choose another --load-address"
            );
        }
        BootError::NotEnoughMemory {
            wanted_mib,
            free_mib,
        } => {
            return format!(
                "/memory: the VMs that start at boot have {wanted_mib} MiB and {free_mib} MiB are free: \
                 lower their memory, or give one autostart = false"
            );
        }
        BootError::Vm {
            vm,
            error:
                VmError::ModulePlace {
                    kind,
                    range,
                    problem,
                },
        } => {
            return format!(
                "vm \"{vm}\": its {kind} at {range} {problem}: choose another --load-address"
            );
        }
        BootError::Vm {
            vm,
            error: VmError::Affinity { last },
        } => {
            return format!(
                "vm \"{vm}\": affinity names a CPU that the tree does not have: it has 0 to {last}"
            );
        }
        BootError::Vm {
            vm,
            error: VmError::MemoryTooSmall { kib },
        } => {
            return format!(
                "vm \"{vm}\": memory = \"{}M\" does not hold its kernel and initrd: raise it",
                kib >> 10
            );
        }
        // These texts name a place and a remedy themselves.
        other => return other.to_string(),
    };
    format!("{place}: {what}: {remedy}")
}

/// Whether the VMs find OP-TEE.
pub(super) enum Optee {
    /// They do, or need none.
    Good,
    /// They may do without.
    Note(String),
    /// They do not.
    Problem(String),
}

/// Looks for OP-TEE in the tree.
pub(super) fn optee(system: &System, nodes: &OpteeNodes, tree: &[u8]) -> Optee {
    let (must, any) = wants_optee(system);
    if !any
        || *nodes == OpteeNodes::Firmware
        || system.machine.optee_spi.is_some()
        || reader::has_optee(tree)
    {
        return Optee::Good;
    }
    let remedy =
        "--optee add describes it; --optee firmware says that firmware or U-Boot does at boot";
    let line = format!("/firmware/optee: there is no such node: {remedy}");
    if must.is_empty() {
        Optee::Note(format!("{line}; without it the VMs have no TEE"))
    } else {
        Optee::Problem(format!("{line}; {} must have it", must.join(", ")))
    }
}
