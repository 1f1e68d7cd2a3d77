// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Postern's hypervisor, ordered by floors: `docs/architecture.md`. Portable code is tested on the
//! host.
#![cfg_attr(target_os = "none", no_std)]
#![deny(unsafe_code)]

extern crate alloc;

pub mod boot;
pub mod console;
#[cfg(target_os = "none")]
pub mod control;
#[cfg(target_os = "none")]
pub mod exit;
#[cfg(target_os = "none")]
pub mod fatal;
pub mod irq;
#[cfg(target_os = "none")]
pub mod lifecycle;
#[cfg(target_os = "none")]
pub mod platform;
pub mod sched;
pub mod services;
#[cfg_attr(
    test,
    allow(unsafe_code, reason = "a stand-in for the models of concurrency")
)]
mod sync;
#[cfg(target_os = "none")]
pub mod tee;
pub mod vm;
