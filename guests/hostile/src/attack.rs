// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The form of an attack, and functions for its checks.

use crate::kit::Kit;
use alloc::format;
use alloc::string::String;
use core::fmt::Debug;

/// An attack of the test plan, played with the means of `K`.
pub struct Attack<K = Kit> {
    /// The attack's number: 1 to 52 are those of the test plan, the others were added later.
    pub number: u8,
    /// A description of the attack.
    pub title: &'static str,
    /// A description of the expected result.
    pub expected: &'static str,
    /// Plays the attack.
    pub run: fn(&K) -> Verdict,
}

/// What was seen, when everything was as expected; otherwise the first deviation.
pub type Verdict = Result<Observation, String>;

/// An attack's observation, and its effect on the hypervisor's counters, which the host checks.
#[derive(Debug, Default)]
pub struct Observation {
    /// The observation in one line.
    pub text: String,
    /// The increase of `denied`, where the attack knows it.
    pub denied: Option<u64>,
    /// The increase of `smcs`, where the attack knows it.
    pub smcs: Option<u64>,
    /// Whether the machine has nothing for the attack, which then was not played. `text` says why.
    pub not_applicable: bool,
}

impl Observation {
    /// Returns an observation without counters.
    pub const fn new(text: String) -> Self {
        Self {
            text,
            denied: None,
            smcs: None,
            not_applicable: false,
        }
    }

    /// Returns an observation with the exact number of denied requests.
    pub const fn denied(text: String, denied: u64) -> Self {
        Self {
            text,
            denied: Some(denied),
            smcs: None,
            not_applicable: false,
        }
    }

    /// Returns that the attack was not played, and why.
    pub fn not_applicable(why: &str) -> Self {
        Self {
            text: why.into(),
            not_applicable: true,
            ..Self::default()
        }
    }

    /// Returns an observation with the number of requests that the hypervisor denied by itself:
    /// none reached OP-TEE.
    pub const fn none_passed(text: String, denied: u64) -> Self {
        Self {
            text,
            denied: Some(denied),
            smcs: Some(0),
            not_applicable: false,
        }
    }
}

/// Fails unless both are equal.
///
/// # Errors
/// Fails with both values.
pub fn same<T: PartialEq + Debug>(what: &str, got: &T, wanted: &T) -> Result<(), String> {
    if got == wanted {
        Ok(())
    } else {
        Err(format!("{what}: {got:?}, not {wanted:?}"))
    }
}

/// Fails unless the value is one of several.
///
/// # Errors
/// Fails with the value and the expected ones.
pub fn one_of<T: PartialEq + Debug>(what: &str, got: &T, wanted: &[T]) -> Result<(), String> {
    if wanted.contains(got) {
        Ok(())
    } else {
        Err(format!("{what}: {got:?}, none of {wanted:?}"))
    }
}

/// Fails unless the condition holds.
///
/// # Errors
/// Fails with `what`.
pub fn holds(condition: bool, what: &str) -> Result<(), String> {
    if condition { Ok(()) } else { Err(what.into()) }
}
