// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The monitor: commands to the hypervisor, sent by programs, or typed on a serial terminal that is nothing else.
//!
//! Bytes come from the hypervisor's channel of the physical UART, or from the second UART of a
//! privileged VM. A [`Session`] makes lines of them, [`respond`] answers a line, [`MonitorPort`] joins the two for a
//! source of bytes. Everything but `machine` is plain code over the trait [`System`]. History, completion, tables and
//! long help are at the other end, in `guests/ctl`.
//!
//! A guest may write what it likes: a line and unread answers are bounded, a byte
//! costs a bounded amount of work, and a session is shared with nobody.

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
