// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What an attack is, and how it tells what came of it.

use crate::kit::Kit;
use alloc::format;
use alloc::string::String;
use core::fmt::Debug;

/// One of the attacks of the test plan.
pub struct Attack {
    /// Its number: 1 to 52 are those of the test plan, the others were thought of later.
    pub number: u8,
    /// What is done.
    pub title: &'static str,
    /// What has to come of it.
    pub expected: &'static str,
    /// Does it.
    pub run: fn(&Kit) -> Verdict,
}

/// What was seen, when all was as expected; else the first thing that was not.
pub type Verdict = Result<Seen, String>;

/// What was seen, and what the host finds in the hypervisor's counters if that is true.
#[derive(Debug, Default)]
pub struct Seen {
    /// One line.
    pub text: String,
    /// By how much `denied` has grown, where the attack knows.
    pub denied: Option<u64>,
    /// By how much `smcs` has grown, where the attack knows.
    pub smcs: Option<u64>,
}

impl Seen {
    /// Only the line.
    pub const fn new(text: String) -> Self {
        Self {
            text,
            denied: None,
            smcs: None,
        }
    }

    /// The line, and exactly so many requests refused.
    pub const fn denied(text: String, denied: u64) -> Self {
        Self {
            text,
            denied: Some(denied),
            smcs: None,
        }
    }

    /// The line, and so many requests refused by the hypervisor alone: none reached OP-TEE.
    pub const fn none_passed(text: String, denied: u64) -> Self {
        Self {
            text,
            denied: Some(denied),
            smcs: Some(0),
        }
    }
}

/// Fails unless both are equal.
///
/// # Errors
/// What was got in place of what was wanted.
pub fn same<T: PartialEq + Debug>(what: &str, got: &T, wanted: &T) -> Result<(), String> {
    if got == wanted {
        Ok(())
    } else {
        Err(format!("{what}: {got:?}, not {wanted:?}"))
    }
}

/// Fails unless it is one of several.
///
/// # Errors
/// What was got in place of what was wanted.
pub fn one_of<T: PartialEq + Debug>(what: &str, got: &T, wanted: &[T]) -> Result<(), String> {
    if wanted.contains(got) {
        Ok(())
    } else {
        Err(format!("{what}: {got:?}, none of {wanted:?}"))
    }
}

/// Fails unless it holds.
///
/// # Errors
/// `what`.
pub fn holds(condition: bool, what: &str) -> Result<(), String> {
    if condition { Ok(()) } else { Err(what.into()) }
}
