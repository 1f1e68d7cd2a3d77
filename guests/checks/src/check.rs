//! What a case is.

use alloc::format;
use alloc::string::String;
use core::fmt::Debug;
use guest_bare::event::Event;

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
