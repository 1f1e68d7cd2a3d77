// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The monitor: commands to the hypervisor, from programs or from a person at a plain serial
//! terminal.
//!
//! Bytes come from the hypervisor's channel of the physical UART, or from the second UART of a
//! privileged VM. A [`Session`] assembles lines from them, [`respond`] answers a line, and
//! [`MonitorPort`] connects the two for one source of bytes. All of it is portable code over the
//! trait [`System`]. History, completion, tables and long help are at the other end, in
//! `guests/ctl`.
//!
//! A guest may write anything: lines and unread answers are bounded, a byte costs a bounded amount
//! of work, and sessions are not shared.

pub mod port;
pub mod reply;
pub mod session;
pub mod system;

pub use port::{MonitorPort, ReplyQueue, ReplySink};
pub use reply::{WriteReply, respond};
pub use session::{Entered, Session};
pub use system::System;

#[cfg(test)]
mod tests;
