// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which vCPU runs where.

pub mod deadlines;
#[cfg(target_os = "none")]
pub mod debug;
pub mod idle;
#[cfg(target_os = "none")]
pub mod interface;
#[cfg(target_os = "none")]
pub mod lists;
pub mod masked;
#[cfg(target_os = "none")]
pub mod physical_timer;
pub mod policy;
#[cfg(target_os = "none")]
pub mod run;
pub mod seat;
#[cfg(target_os = "none")]
pub mod sections;
#[cfg(target_os = "none")]
pub mod switch;
pub mod turn;
pub mod watch;

pub use policy::{Placement, Scheduler};
