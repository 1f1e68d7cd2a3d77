// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Exits from guests: what they mean, who answers them, and what is done before a guest goes on.

pub mod dispatch;
pub mod guest_exception;
pub mod handler;
pub mod host_cpu;
pub mod mmio;
pub mod run;
