// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What all of EL2's crates speak of: indices of VMs, vCPUs and pCPUs, ranges of addresses, locks that know their
//! order, accesses to device registers, and the end of a secret.
#![cfg_attr(target_os = "none", no_std)]
#![forbid(unsafe_code)]

pub mod ids;
pub mod lock;
pub mod mmio;
pub mod range;
pub mod ring;
pub mod secret;
