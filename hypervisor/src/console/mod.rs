// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The consoles of all guests and of the hypervisor, over one UART.

pub mod flow;
pub mod guest;
pub mod lines;
pub mod log;
pub mod manager;
pub mod monitor;
pub mod mux;
#[cfg(target_os = "none")]
pub mod output;
pub mod recent;
pub mod transmit;
pub mod uart;
