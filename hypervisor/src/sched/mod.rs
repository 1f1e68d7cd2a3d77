//! Which vCPU runs where.

pub mod deadlines;
pub mod policy;
#[cfg(target_os = "none")]
pub mod run;
#[cfg(target_os = "none")]
mod simple;
#[cfg(target_os = "none")]
pub use simple::{Placement, Scheduler};
