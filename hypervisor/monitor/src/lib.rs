// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the hypervisor and programs tell each other over its channel: the vocabulary of both ends.
#![cfg_attr(target_os = "none", no_std)]
#![forbid(unsafe_code)]

pub mod event;
pub mod write;

pub use event::Event;
pub use write::Writer;

/// The word in front of what is told to programs.
pub const MARK: &str = "@postern ";
