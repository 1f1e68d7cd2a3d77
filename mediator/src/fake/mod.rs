// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A fake machine for tests: memory with owners and pins, an OP-TEE that follows a script and checks what it is
//! given, and a guest that behaves like Linux's driver, or not.
//!
//! [`Machine`] checks every step against the mediator's promises, and collects violations in
//! [`Machine::violations`]:
//! * every address that reaches OP-TEE is a page shared with it, or a pinned page of the caller's VM, and stays
//!   so as long as OP-TEE knows it;
//! * no physical address and no cookie of the mediator is written to guest memory or returned in a register;
//! * pins are never undone more often than made;
//! * each call carries the VM's own client id.
//!
//! Its OP-TEE is reached over the SMC ABI ([`Machine::new`]), or over FF-A, behind a fake SPMC ([`Machine::new_ffa`],
//! [`spmc`]). Then handles of the SPMC's are secrets too.

mod driver;
mod guest;
mod host;
mod machine;
mod monitor;
pub mod play;
mod ram;
pub mod spmc;
mod tee;
mod violation;

pub use driver::Driver;
pub use guest::{Guest, Request};
pub use machine::{FakeHost, Machine};
pub use ram::RAM_BASE;
pub use tee::{Outcome, Step};
