// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the boot loader left us: the machine that the boot device tree describes, and the VMs that it names.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod assigned;
mod bus;
pub mod check;
mod cpus;
mod devices;
mod early;
pub mod efi;
mod error;
mod flat;
mod gic;
mod interrupts;
pub mod iommu;
mod links;
pub mod machine;
mod mpidr;
mod ram;
pub mod seed;
mod specifiers;
mod tree;
mod uart;
mod vms;

#[cfg(test)]
mod tests;

pub use assigned::{
    AssignedDevice, MAX_DEVICES, MAX_PARTIAL_TREE, MAX_SPI, MAX_WINDOWS, PartialTree,
};
pub use cpus::{Cpu, Cpus, MAX_CPUS};
pub use devices::{Conduit, Optee, Timers};
pub use early::{early_psci, early_uart};
pub use error::{BootError, DeviceError, LinkError, StreamsError, TeePolicyError, VmError};
pub use gic::{Gic, GicRegisters, GicV2Interfaces, MAX_REDISTRIBUTOR_REGIONS, Redistributors};
pub use interrupts::{Interrupt, PhysIntId, Trigger};
pub use iommu::{MAX_SMMUS, MAX_STREAM_RANGES, Smmu, Smmus, StreamRange, Streams};
pub use links::{LinkConfig, LinkConfigs, LinkKind, MAX_LINKS};
pub use machine::{BootPlacement, Machine};
pub use mpidr::Mpidr;
pub use ram::{MAX_PIECES, Memory, heap_bytes};
pub use tree::{MAX_TREE, total_size};
pub use uart::Uart;
pub use vms::{BLOCK_SIZE, MAX_APPLICATIONS, MAX_BOOTARGS, MAX_NAME, Tee, VmConfig, VmConfigs};
