//! Which vCPU runs where.

pub mod deadlines;
pub mod policy;
#[cfg(target_os = "none")]
pub mod run;

pub use policy::{Placement, Scheduler};
