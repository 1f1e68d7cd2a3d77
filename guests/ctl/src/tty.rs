// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Raw mode of a terminal.

use std::io::{Error, Result};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// The terminal's previous settings. Dropping this value restores them.
#[derive(Debug)]
pub struct Raw {
    terminal: OwnedFd,
    before: libc::termios,
}

/// How a read from a raw terminal waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The read waits for a byte.
    ForBytes,
    /// The read waits for a byte for at most half a second, and may return none.
    HalfASecond,
}

/// Sets a terminal to raw mode until the returned value is dropped.
///
/// # Errors
/// Fails when it is no terminal, or cannot be set.
pub fn raw(terminal: impl AsFd) -> Result<Raw> {
    let terminal = terminal.as_fd().try_clone_to_owned()?;
    let before = set_raw(&terminal, Wait::ForBytes)?;
    Ok(Raw { terminal, before })
}

/// Sets a terminal to raw mode: every key is passed on, Ctrl-C too, and nothing is echoed. Returns
/// the previous settings.
///
/// # Errors
/// Fails when it is no terminal, or cannot be set.
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
        // The unit is a tenth of a second.
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
