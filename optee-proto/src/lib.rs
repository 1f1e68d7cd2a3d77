// SPDX-License-Identifier: Apache-2.0 OR MIT
#![doc = include_str!("../README.md")]
//!
//! # Modules
//!
//! Every item names its origin in OP-TEE's headers, so that it can be checked.
//!
//! * [`smc`]: function identifiers, what comes back in a0, registers.
//! * [`caps`]: the capability bits that both worlds exchange.
//! * [`msg`]: the message in memory: header, parameters, attributes, commands.
//! * [`rpc`]: what the secure world asks of the normal world: functions and commands.
//! * [`ffa`]: the service over FF-A: services, capabilities, memory references by handle.
//! * [`le`]: the words that messages are made of.
//! * [`errors`]: GlobalPlatform results and where they come from.
//! * [`uuid`]: identifiers of trusted applications and of OP-TEE itself.
#![no_std]
#![forbid(unsafe_code)]

pub mod caps;
pub mod errors;
pub mod ffa;
pub mod le;
pub mod msg;
pub mod rpc;
pub mod smc;
pub mod uuid;

pub use errors::{Origin, TeeResult};
pub use smc::{FunctionId, Return};
pub use uuid::Uuid;
