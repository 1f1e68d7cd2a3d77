// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The terminal of the hypervisor's monitor: keys, history, completion, help and tables.
//!
//! The monitor itself takes whole lines and answers with one line of JSON. This crate adds what a
//! user needs besides, for `make shell` and `make ctl` on the host and for the program
//! `postern-ctl` in a privileged guest.

mod complete;
mod device;
mod editor;
mod help;
mod history;
pub mod messages;
mod plan;
mod program;
mod table;
mod terminal;
pub mod tty;

pub use editor::{MAX_LINE, PROMPT};
pub use plan::{Command, Plan, plan};
pub use program::{ask, program};
pub use table::text;
pub use terminal::{Entered, Terminal};

#[cfg(test)]
mod screen;
