// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The user's terminal, raw while a console is on it.

use std::io::{Error, IsTerminal, Result};

/// The terminal's settings, put back when this goes.
#[derive(Debug)]
pub(super) struct Raw {
    before: libc::termios,
}

/// Sets the terminal on standard input to raw: every key is ours, Ctrl-C too. `None` when standard
/// input is no terminal.
pub(super) fn raw() -> Result<Option<Raw>> {
    if !std::io::stdin().is_terminal() {
        return Ok(None);
    }
    // SAFETY: `termios` is a plain C structure for which all zeroes is a valid value.
    let mut before: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: the call fills in the structure that the pointer is to.
    if unsafe { libc::tcgetattr(libc::STDIN_FILENO, &raw mut before) } != 0 {
        return Err(Error::last_os_error());
    }
    let mut raw = before;
    // SAFETY: the call only changes the structure, which tcgetattr filled in.
    unsafe { libc::cfmakeraw(&raw mut raw) };
    // SAFETY: the call only reads the structure.
    if unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, &raw const raw) } != 0 {
        return Err(Error::last_os_error());
    }
    Ok(Some(Raw { before }))
}

impl Drop for Raw {
    fn drop(&mut self) {
        // SAFETY: the call only reads the structure, which tcgetattr filled in.
        unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSADRAIN, &raw const self.before) };
    }
}
