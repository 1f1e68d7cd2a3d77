// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A terminal that is raw while a console is on it.

use std::io::{Error, Result};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// The terminal's settings, put back when this goes.
#[derive(Debug)]
pub struct Raw {
    terminal: OwnedFd,
    before: libc::termios,
}

/// How reads from a raw terminal wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// For a byte.
    ForBytes,
    /// For a byte, half a second at most; then there are none.
    HalfASecond,
}

/// Sets a terminal to raw for as long as the value is there.
///
/// # Errors
/// It is no terminal, or cannot be set.
pub fn raw(terminal: impl AsFd) -> Result<Raw> {
    let terminal = terminal.as_fd().try_clone_to_owned()?;
    let before = set_raw(&terminal, Wait::ForBytes)?;
    Ok(Raw { terminal, before })
}

/// Sets a terminal to raw: every key is ours, Ctrl-C too, and nothing is echoed. Returns the settings before.
///
/// # Errors
/// It is no terminal, or cannot be set.
pub fn set_raw(terminal: impl AsFd, wait: Wait) -> Result<libc::termios> {
    let terminal = terminal.as_fd().as_raw_fd();
    // SAFETY: `termios` is a plain C structure for which all zeroes is a valid value.
    let mut before: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: the call fills in the structure that the pointer is to.
    if unsafe { libc::tcgetattr(terminal, &raw mut before) } != 0 {
        return Err(Error::last_os_error());
    }
    let mut raw = before;
    // SAFETY: the call only changes the structure, which tcgetattr filled in.
    unsafe { libc::cfmakeraw(&raw mut raw) };
    if wait == Wait::HalfASecond {
        raw.c_cc[libc::VMIN] = 0;
        // Tenths of a second.
        raw.c_cc[libc::VTIME] = 5;
    }
    // SAFETY: the call only reads the structure.
    if unsafe { libc::tcsetattr(terminal, libc::TCSANOW, &raw const raw) } != 0 {
        return Err(Error::last_os_error());
    }
    Ok(before)
}

impl Drop for Raw {
    fn drop(&mut self) {
        let terminal = self.terminal.as_raw_fd();
        // SAFETY: the call only reads the structure, which tcgetattr filled in.
        unsafe { libc::tcsetattr(terminal, libc::TCSADRAIN, &raw const self.before) };
    }
}
