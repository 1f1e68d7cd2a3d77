// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the hypervisor and programs tell each other over its channel: the vocabulary of both ends.
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
