// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The vocabulary of the SMC Calling Convention: function ids, arguments and results, and error codes.
//!
//! Both ends use it: EL2 and bare-metal programs, which call, and EL2's services, which answer. The type of an id is
//! [`optee_proto::smc::FunctionId`], and OP-TEE's own ids are there, too.
#![cfg_attr(target_os = "none", no_std)]
#![forbid(unsafe_code)]

pub mod arch;
pub mod call;
pub mod psci;
pub mod trng;
pub mod vendor;
