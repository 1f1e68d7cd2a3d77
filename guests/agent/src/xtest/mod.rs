// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs xtest and tells what it does while it does it.

mod parse;
mod run;

pub use run::{is_running, present, start};
