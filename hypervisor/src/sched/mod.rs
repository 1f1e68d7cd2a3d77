//! Which vCPU runs where.

pub mod deadlines;
pub mod policy;
