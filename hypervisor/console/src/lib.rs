// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The consoles of all guests and of the hypervisor over one UART, and the monitor.
//!
//! Portable code: it reaches the UART through [`uart::Registers`] and the machine through
//! [`monitor::System`].
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod flow;
pub mod guest;
pub mod lines;
pub mod log;
pub mod log_ring;
pub mod monitor;
pub mod monitor_uart;
pub mod mux;
pub mod transmit;
pub mod uart;
