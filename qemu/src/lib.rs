//! The host tool as a library.

pub mod boot_tree;
pub mod config;
pub mod paths;
pub mod prepare;
pub mod progress;
