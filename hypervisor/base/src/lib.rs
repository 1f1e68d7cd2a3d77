// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The types that all crates of EL2 share: indices of VMs, vCPUs and pCPUs, GIC versions, address ranges, locks that check
//! their order, accesses to device registers, lengths of vectors, and the end of secrets.
#![cfg_attr(target_os = "none", no_std)]
#![forbid(unsafe_code)]

pub mod gic;
pub mod ids;
pub mod lock;
pub mod mmio;
pub mod range;
pub mod ring;
pub mod secret;
pub mod sve;
pub mod ticks;
