// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What an exception that a guest took to EL2 means, which exception the guest gets for it, and what EL2 has
//! decided about each system register.
#![cfg_attr(target_os = "none", no_std)]
#![forbid(unsafe_code)]

pub mod decode;
pub mod ids;
pub mod inject;
pub mod registers;
pub mod serror;
pub mod sysreg;
