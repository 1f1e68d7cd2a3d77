// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The meaning of exceptions that guests take to EL2, the exceptions that guests get for them, and the decision on each
//! system register.
#![cfg_attr(target_os = "none", no_std)]
#![forbid(unsafe_code)]

pub mod decode;
pub mod ids;
pub mod inject;
pub mod registers;
pub mod serror;
pub mod sysreg;
