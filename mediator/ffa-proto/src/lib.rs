// SPDX-License-Identifier: Apache-2.0 OR MIT
#![doc = include_str!("../README.md")]
//!
//! # Modules
//!
//! * [`function`]: function ids, and which version has which.
//! * [`version`], [`endpoint`], [`handle`], [`uuid`], [`error`]: the values that calls carry.
//! * [`registers`]: the registers of a call or of an answer.
//! * [`call`]: requests, and answers with results.
//! * [`answer`]: the answers that calls have in common.
//! * [`memory`]: memory transaction descriptors: a reader, a reader of fragments, a writer.
//! * [`partition`], [`notification`]: records about partitions, and lists of pending notifications.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod answer;
pub mod call;
pub mod endpoint;
pub mod error;
pub mod function;
pub mod handle;
pub mod memory;
pub mod notification;
pub mod partition;
pub mod registers;
pub mod uuid;
pub mod version;

pub use call::Request;
pub use endpoint::{EndpointId, VcpuId};
pub use error::{AnswerError, ErrorCode, RequestError};
pub use function::{Function, FunctionId, Width};
pub use handle::Handle;
pub use registers::Registers;
pub use uuid::Uuid;
pub use version::Version;

#[cfg(test)]
mod tests;
