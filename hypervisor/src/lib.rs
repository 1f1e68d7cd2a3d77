// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Postern's hypervisor. Everything but `arch` compiles and is tested on the host.
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

#[cfg(target_os = "none")]
pub mod arch;
pub mod boot;
pub mod console;
#[cfg(target_os = "none")]
pub mod control;
#[cfg(target_os = "none")]
pub mod exit;
#[cfg(target_os = "none")]
pub mod fatal;
pub mod gic;
pub mod irq;
#[cfg(target_os = "none")]
pub mod lifecycle;
#[cfg(target_os = "none")]
pub mod platform;
pub mod sched;
pub mod services;
mod sync;
#[cfg(target_os = "none")]
pub mod tee;
pub mod vm;
