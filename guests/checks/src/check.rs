// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a case is.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Debug;
use guest_bare::event::Event;
use guest_bare::expect::{self, Code, How, Taken};

/// What a case found: nothing that is wrong, or this.
pub type Found = Result<(), String>;

/// A case: its name, which begins with its group's, and what it does.
pub type Case = (&'static str, fn() -> Found);

/// Does a case and says what it found.
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

/// Finds fault unless `condition` holds.
///
/// # Errors
/// With this text.
pub fn ensure(condition: bool, text: &str) -> Found {
    if condition { Ok(()) } else { Err(text.into()) }
}

/// Finds fault unless both are the same.
///
/// # Errors
/// With what was found.
pub fn same<T: PartialEq + Debug>(what: &str, found: T, expected: T) -> Found {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{what} is {found:x?}, not {expected:x?}"))
    }
}
