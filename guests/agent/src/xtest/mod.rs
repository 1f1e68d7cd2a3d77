// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs xtest and reports its results as they come.

mod parse;
mod run;

pub use run::{is_running, present, start};
