// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A machine made up for tests: memory with owners and pins, an OP-TEE that does what a script
//! says and watches what it is given, and a guest that behaves like Linux's driver, or not.
//!
//! [`Machine`] checks at every step what the mediator promises, and collects what is wrong in
//! [`Machine::violations`]:
//! * every address that reaches OP-TEE is a page shared with it, or a pinned page of the caller's
//!   VM, and stays so as long as OP-TEE knows it;
//! * no physical address and no cookie of the mediator's is written to guest memory or returned
//!   in a register;
//! * pins are never taken back more often than they were given;
//! * each call carries the VM's own number.

mod guest;
mod host;
mod machine;
mod ram;
mod tee;

pub use guest::{Guest, Request};
pub use machine::{FakeHost, Machine};
pub use ram::RAM_BASE;
pub use tee::{Outcome, Step};
