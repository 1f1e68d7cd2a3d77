// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The driver of the physical UART, which firmware has set up.

pub use postern_uart::{Layout, Registers, Uart, Width};

#[cfg(test)]
pub(crate) mod model;
