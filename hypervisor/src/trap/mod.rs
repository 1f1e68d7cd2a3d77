// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An exception taken from a guest, what the guest wanted, and who answers.

#[cfg(target_os = "none")]
pub mod guest_exception;
#[cfg(target_os = "none")]
pub mod handler;
pub mod irq;
#[cfg(target_os = "none")]
pub mod mmio;
