// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The vocabulary of the hypervisor's channel, for both of its ends: commands, events, lifecycle
//! states.
#![cfg_attr(target_os = "none", no_std)]
#![forbid(unsafe_code)]

pub mod command;
pub mod event;
pub mod lifecycle;
pub mod specs;
pub mod write;

pub use command::{Command, CommandError, Request};
pub use event::{Event, MARK};
pub use lifecycle::LifecycleRequest;
pub use write::Writer;
