// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the hypervisor and programs tell each other over its channel: the vocabulary of both ends.
#![cfg_attr(target_os = "none", no_std)]
#![forbid(unsafe_code)]

pub mod command;
pub mod event;
mod order;
pub mod specs;
pub mod write;

pub use command::{Command, Mistake, Request};
pub use event::Event;
pub use order::Order;
pub use write::Writer;

/// The word in front of what is told to programs.
pub const MARK: &str = "@postern ";
