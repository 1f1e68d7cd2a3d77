// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A client of OP-TEE for bare-metal programs: messages, shared memory, calls step by step, and
//! a supplicant whose answers a program can replace one by one.
//!
//! It works as a guest of Postern's at EL1, where addresses are IPAs, and at EL2 on the bare
//! machine, where they are physical and a7 is the VM's number of the caller's choice.
//!
//! * [`memory`]: words of shared memory.
//! * [`message`]: messages and page lists in that memory.
//! * [`client`]: SMCs, one at a time ([`client::Client::begin`], [`client::Client::resume`]),
//!   or whole conversations ([`client::Client::run`]).
//! * [`supplicant`]: answers to RPCs.
//! * [`files`]: what its secure storage keeps.
//! * [`cpio`]: trusted applications in the initial RAM disk.
//! * [`apps`]: UUIDs and functions of what the packaged OP-TEE has.

pub mod apps;
pub mod client;
pub mod cpio;
pub mod files;
pub mod memory;
pub mod message;
pub mod supplicant;

pub use client::{Client, Outcome, Step, Suspended};
pub use message::{Message, PageList};
pub use supplicant::{Act, Supplicant};
