// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From power-on to the first guest: what the boot loader left us.

pub use postern_boot_tree::*;

#[cfg(target_os = "none")]
pub mod start;
