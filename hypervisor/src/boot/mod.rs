// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The boot path, from power-on to the first guest.

pub mod cpus;
pub mod share;
#[cfg(target_os = "none")]
#[allow(unsafe_code, reason = "the boot protocol is what makes it sound")]
pub mod start;
#[cfg(target_os = "none")]
pub mod tee_probe;
#[cfg(target_os = "none")]
pub mod vms_up;
