// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Virtual machines.

#[cfg(target_os = "none")]
mod all;
#[cfg(target_os = "none")]
mod guest_image;
pub mod guest_tree;
#[cfg(target_os = "none")]
mod instance;
pub mod layout;
#[cfg(target_os = "none")]
mod mapping;
#[cfg(target_os = "none")]
pub mod ram;
#[cfg(target_os = "none")]
mod seeds;

pub mod frames;
pub mod life;
pub mod memory;
pub mod work;
#[cfg(target_os = "none")]
pub use all::*;
#[cfg(target_os = "none")]
pub use instance::*;
#[cfg(target_os = "none")]
pub use seeds::init as init_seeds;
