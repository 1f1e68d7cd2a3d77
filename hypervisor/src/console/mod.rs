// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The consoles of the machine: [`postern_console`] on its UART.

#[cfg(target_os = "none")]
pub mod output;
