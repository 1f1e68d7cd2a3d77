// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From power-on to the first guest: what the boot loader left us.

#[cfg(target_os = "none")]
pub mod start;
