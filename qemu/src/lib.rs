//! The host tool as a library.

pub mod boot_tree;
pub mod cli;
pub mod config;
pub mod console;
pub mod display;
pub mod guest;
pub mod launch;
pub mod monitor;
pub mod paths;
pub mod prepare;
pub mod progress;
pub mod report;
pub mod run;
pub mod selection;
pub mod session;
pub mod shell;
pub mod signals;
