//! The host tool as a library.

pub mod boot_tree;
pub mod config;
pub mod console;
pub mod guest;
pub mod launch;
pub mod monitor;
pub mod paths;
pub mod prepare;
pub mod progress;
pub mod report;
pub mod selection;
pub mod session;
pub mod signals;
