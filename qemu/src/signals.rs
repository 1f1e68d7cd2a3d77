// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Remembers Ctrl-C and similar signals, so that waits can stop and clean up. The machine never
//! survives the tool.

use std::io::{Error, Result};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicI32, Ordering};

static RECEIVED: AtomicI32 = AtomicI32::new(0);

extern "C" fn remember(signal: libc::c_int) {
    // After a second signal the process ends at once: nothing reacted to the first.
    if RECEIVED.swap(signal, Ordering::AcqRel) != 0 {
        // SAFETY: _exit may be called in a signal handler and does not return. The machine ends
        // with this process (`kill_with_parent`).
        unsafe { libc::_exit(128 + signal) };
    }
}

/// Makes SIGINT, SIGTERM and SIGHUP be remembered instead of ending the process.
///
/// # Errors
///
/// Fails as sigaction(2) does.
pub fn catch() -> Result<()> {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: `sigaction` is a plain C structure for which all zeroes is a valid value: no
        // flags, an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = remember as extern "C" fn(libc::c_int) as libc::sighandler_t;
        // SAFETY: the structure is live and complete, and the handler only touches an atomic and
        // may call _exit, both allowed in a signal handler.
        if unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } != 0 {
            return Err(Error::last_os_error());
        }
    }
    Ok(())
}

/// Returns the signal that was received, if any.
pub fn received() -> Option<i32> {
    match RECEIVED.load(Ordering::Acquire) {
        0 => None,
        signal => Some(signal),
    }
}

/// Asks a child of this process that has not been waited for to end.
pub fn terminate(process: u32) {
    let Ok(process) = libc::pid_t::try_from(process) else {
        return;
    };
    // SAFETY: kill(2) takes no memory. At worst the process has ended, and there is no effect.
    unsafe { libc::kill(process, libc::SIGTERM) };
}

/// Puts a child into a process group of its own, so that the terminal's Ctrl-C reaches only this
/// process, and makes the kernel kill the child when this process dies.
pub fn kill_with_parent(command: &mut Command) {
    command.process_group(0);
    // SAFETY: the closure runs between fork and exec and makes one system call that takes no
    // memory.
    unsafe {
        command.pre_exec(
            || match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(Error::last_os_error()),
            },
        );
    }
}
