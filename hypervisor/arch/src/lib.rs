// SPDX-License-Identifier: Apache-2.0 OR MIT
//! EL2 on Armv8-A: entry and vectors, system registers, EL2's own tables, the TLB, the physical GIC, timer and UART, the SMC
//! instruction, guests' RAM. Its interface is safe to use; nearly all `unsafe` code of the hypervisor is inside.
//!
//! Only [`distributor`], [`gicv2`], [`gicv3`] and [`gich`] compile on the host, too.
#![cfg_attr(target_os = "none", no_std)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
pub mod barrier;
#[cfg(target_os = "none")]
pub mod bus;
#[cfg(target_os = "none")]
pub mod debug;
pub mod distributor;
#[cfg(target_os = "none")]
mod efi;
#[cfg(target_os = "none")]
pub mod entropy;
#[cfg(target_os = "none")]
pub mod entry;
#[cfg(target_os = "none")]
pub mod gic;
pub mod gich;
pub mod gicv2;
pub mod gicv3;
#[cfg(target_os = "none")]
pub mod guest_ram;
#[cfg(target_os = "none")]
pub mod heap;
#[cfg(target_os = "none")]
pub mod ich;
#[cfg(target_os = "none")]
pub mod id_registers;
#[cfg(target_os = "none")]
pub mod mmu;
#[cfg(target_os = "none")]
pub mod percpu;
#[cfg(target_os = "none")]
pub mod psci;
#[cfg(target_os = "none")]
pub mod registers;
#[cfg(target_os = "none")]
pub mod rtc;
#[cfg(target_os = "none")]
pub mod smc;
#[cfg(target_os = "none")]
pub mod smmu;
#[cfg(target_os = "none")]
pub mod stack;
#[cfg(target_os = "none")]
pub mod stage2;
#[cfg(target_os = "none")]
pub mod sve;
#[cfg(target_os = "none")]
pub mod timer;
#[cfg(target_os = "none")]
pub mod uart;
#[cfg(target_os = "none")]
pub mod vcpu_context;
#[cfg(target_os = "none")]
pub mod vectors;
#[cfg(target_os = "none")]
pub mod virtual_interface;
