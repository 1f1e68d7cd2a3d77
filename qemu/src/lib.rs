// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The host tool as a library.

pub mod board;
pub mod boot_tree;
pub mod bundle;
pub mod caller;
pub mod cargo;
pub mod cli;
pub mod config;
pub mod console;
pub mod control;
pub mod display;
pub mod dist;
pub mod elf;
pub mod ending;
#[cfg(test)]
mod fake_qemu;
pub mod firmware;
pub mod folder;
pub mod guest;
pub mod guest_image;
pub mod launch;
mod make;
pub mod optee;
pub mod parts;
pub mod paths;
pub mod prepare;
pub mod progress;
pub mod report;
pub mod run;
pub mod selection;
pub mod session;
pub mod shell;
pub mod signals;
pub mod stamp;
