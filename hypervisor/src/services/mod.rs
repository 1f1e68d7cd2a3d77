// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who answers an SMC or HVC: one service an owning entity.

pub mod call;
pub mod discovery;
#[cfg(target_os = "none")]
pub mod dispatch;
pub mod memory;
#[cfg(target_os = "none")]
pub mod notification;
pub mod power;
pub mod psci;
pub mod seeds;
pub mod smccc;
#[cfg(target_os = "none")]
pub mod stuck;
#[cfg(target_os = "none")]
pub mod tee;
pub mod trng;
pub mod wall_clock;
#[cfg(target_os = "none")]
pub use dispatch::dispatch;
