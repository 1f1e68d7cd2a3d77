// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The form of a case, and functions for its checks.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Debug;
use core::time::Duration;
use guest_bare::event::Event;
use guest_bare::expect::{self, Code, How, Taken};
use guest_bare::gic;
use guest_bare::timer::Deadline;

/// The longest wait for an interrupt that is due.
pub const SOON: Duration = Duration::from_secs(20);

/// The result of a case: nothing wrong, or a description of the fault.
pub type Found = Result<(), String>;

/// A case: its name, which begins with its group's, and its function.
pub type Case = (&'static str, fn() -> Found);

/// Runs a case and reports its result.
pub fn run((name, check): &Case) {
    let found = check();
    let event = Event::new("case")
        .text("name", name)
        .flag("ok", found.is_ok());
    match found {
        Ok(()) => event.send(),
        Err(text) => event.text("text", &text).send(),
    }
}

/// Runs a piece of code and returns the exceptions that it takes.
pub fn exceptions(code: Code, how: How) -> Vec<Taken> {
    let mut taken = Vec::new();
    expect::run(code, how, &mut |one| taken.push(one));
    taken
}

/// Returns how to run a piece of code that needs nothing but its argument.
pub fn with(argument: u64) -> How {
    How {
        argument,
        ..How::default()
    }
}

/// Polls for an interrupt and acknowledges it; the caller ends it. Returns `None` when none comes.
pub fn wait() -> Option<u32> {
    let mut found = None;
    Deadline::after(SOON).wait(|| {
        found = gic::take();
        found.is_some()
    });
    found
}

/// Fails unless `condition` holds.
///
/// # Errors
/// Fails with this text.
pub fn ensure(condition: bool, text: &str) -> Found {
    if condition { Ok(()) } else { Err(text.into()) }
}

/// Fails unless both are the same.
///
/// # Errors
/// Fails with what was found.
pub fn same<T: PartialEq + Debug>(what: &str, found: T, expected: T) -> Found {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{what} is {found:x?}, not {expected:x?}"))
    }
}
