// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Exits from guests: their meaning, the services that answer them, and the work before a guest
//! continues.

pub mod dispatch;
pub mod guest_exception;
pub mod handler;
pub mod host_cpu;
pub mod mmio;
pub mod run;
