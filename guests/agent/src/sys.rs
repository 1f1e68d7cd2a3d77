// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Safe functions for system calls that the standard library lacks.

pub mod net;

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{Error, Result, Seek, SeekFrom};
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

fn check(status: libc::c_int) -> Result<libc::c_int> {
    if status < 0 {
        Err(Error::last_os_error())
    } else {
        Ok(status)
    }
}

fn c_string(bytes: impl Into<Vec<u8>>) -> Result<CString> {
    CString::new(bytes).map_err(|_| Error::from(std::io::ErrorKind::InvalidInput))
}

/// Mounts a file system without a device: `mount -t KIND KIND TARGET`.
///
/// # Errors
///
/// Fails as mount(2) does.
pub fn mount(kind: &str, target: &Path, options: &str) -> Result<()> {
    mount_from(Path::new(kind), kind, target, options)
}

/// Mounts a file system of a device: `mount -t KIND SOURCE TARGET`.
///
/// # Errors
///
/// Fails as mount(2) does.
pub fn mount_from(source: &Path, kind: &str, target: &Path, options: &str) -> Result<()> {
    mount_with(source, kind, target, libc::MS_NOSUID, options)
}

/// Moves a mounted file system to another place: `mount --move SOURCE TARGET`.
///
/// # Errors
///
/// Fails as mount(2) does.
pub fn move_mount(source: &Path, target: &Path) -> Result<()> {
    mount_with(source, "", target, libc::MS_MOVE, "")
}

/// Makes a folder the root of this process, and enters it.
///
/// # Errors
///
/// Fails as chroot(2) does.
pub fn change_root(folder: &Path) -> Result<()> {
    std::os::unix::fs::chroot(folder)?;
    std::env::set_current_dir("/")
}

fn mount_with(
    source: &Path,
    kind: &str,
    target: &Path,
    flags: libc::c_ulong,
    options: &str,
) -> Result<()> {
    let source = c_string(source.as_os_str().as_bytes())?;
    let kind = c_string(kind)?;
    let target = c_string(target.as_os_str().as_bytes())?;
    let options = c_string(options)?;
    // SAFETY: the four pointers are to NUL-terminated strings that outlive the call, which copies
    // them.
    let status = unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            flags,
            options.as_ptr().cast(),
        )
    };
    check(status).map(drop)
}

/// Sets the host's name.
///
/// # Errors
///
/// Fails as sethostname(2) does.
pub fn set_hostname(name: &str) -> Result<()> {
    // SAFETY: the pointer and the length are those of a live string, which the call only reads.
    check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }).map(drop)
}

/// Returns the kernel's release, as `uname -r` prints it.
pub fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown".into(), |s| s.trim().into())
}

/// Loads a kernel module from a file; a module that is already loaded is no error.
///
/// # Errors
///
/// Fails as finit_module(2) does, or when the file cannot be opened.
pub fn load_module(path: &Path) -> Result<()> {
    let file = File::open(path)?;
    // SAFETY: finit_module(fd, parameters, flags) with an open descriptor, an empty C string and no
    // flags; the kernel checks the module itself.
    let status =
        unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), c"".as_ptr(), 0) };
    match check(if status < 0 { -1 } else { 0 }) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        other => other.map(drop),
    }
}

/// The way in which a guest ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Power off.
    Off,
    /// Restart.
    Restart,
}

/// Kills all processes but this one, which is the first.
///
/// # Errors
///
/// Fails as kill(2) does.
pub fn kill_others() -> Result<()> {
    // SAFETY: no memory is passed; -1 stands for all processes but the caller and the first one.
    check(unsafe { libc::kill(-1, libc::SIGKILL) }).map(drop)
}

/// Syncs the file systems and powers off or restarts. Returns only on failure.
pub fn end(how: End) -> Error {
    let command = match how {
        End::Off => libc::RB_POWER_OFF,
        End::Restart => libc::RB_AUTOBOOT,
    };
    // SAFETY: no memory is passed; the process means to end the system.
    unsafe {
        libc::sync();
        libc::reboot(command);
    }
    Error::last_os_error()
}

/// Makes a terminal the standard input, output and error of this process.
///
/// # Errors
///
/// Fails when the terminal cannot be opened or duplicated.
pub fn become_stdio(path: &str) -> Result<()> {
    let terminal = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(path)?
        .into_raw_fd();
    for standard in 0..3 {
        if standard != terminal {
            // SAFETY: dup2 on a descriptor that we own and the three standard numbers; no code holds
            // those as owned descriptors, the standard library only borrows them.
            check(unsafe { libc::dup2(terminal, standard) })?;
        }
    }
    if terminal > 2 {
        // SAFETY: `into_raw_fd` gave us this descriptor to close, and no other code owns it.
        check(unsafe { libc::close(terminal) })?;
    }
    Ok(())
}

/// Turns a terminal's echo on or off.
///
/// # Errors
///
/// Fails as tcgetattr(3) does, among others when it is no terminal.
pub fn set_echo(terminal: RawFd, on: bool) -> Result<()> {
    // SAFETY: `termios` is a plain C structure for which all zeroes is a valid value.
    let mut settings: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: the call fills in the structure that the pointer is to.
    check(unsafe { libc::tcgetattr(terminal, &raw mut settings) })?;
    let echo = libc::ECHO | libc::ECHOE | libc::ECHOK;
    if on {
        settings.c_lflag |= echo;
    } else {
        settings.c_lflag &= !echo;
    }
    // SAFETY: the call only reads the structure, which tcgetattr filled in.
    check(unsafe { libc::tcsetattr(terminal, libc::TCSANOW, &raw const settings) }).map(drop)
}

/// Gives a new child its own session, with its standard input as controlling terminal. Calls only
/// functions that are safe between fork and exec.
///
/// # Errors
///
/// Fails as setsid(2) or ioctl(2) does.
pub fn own_terminal_session() -> Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::setsid() })?;
    // SAFETY: TIOCSCTTY takes an integer argument; 0 takes no terminal away from others.
    check(unsafe { libc::ioctl(0, libc::TIOCSCTTY as _, 0) }).map(drop)
}

/// Waits for any child to end; returns its process ID and its status as of waitpid(2).
///
/// # Errors
///
/// Fails with ECHILD when there is no child.
pub fn wait_any() -> Result<(u32, i32)> {
    let mut status = 0;
    // SAFETY: the pointer is to an integer that the call fills in.
    let pid = check(unsafe { libc::waitpid(-1, &raw mut status, 0) })?;
    Ok((pid.unsigned_abs(), status))
}

/// Returns the exit status in a status, or the negative number of the signal that ended the
/// process.
pub fn exit_code(status: i32) -> i32 {
    if libc::WIFEXITED(status) {
        libc::WEXITSTATUS(status)
    } else {
        -libc::WTERMSIG(status)
    }
}

/// Opens the kernel's log after its last message.
///
/// # Errors
///
/// Fails when the log cannot be opened or positioned.
pub fn open_kernel_log_at_end(path: &str) -> Result<File> {
    let mut log = File::open(path)?;
    log.seek(SeekFrom::End(0))?;
    Ok(log)
}

fn clock(which: libc::clockid_t) -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a timespec that the call fills in. Both clocks used here always
    // exist.
    unsafe { libc::clock_gettime(which, &raw mut time) };
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// Returns the milliseconds of `CLOCK_MONOTONIC`, which counts from the kernel's start.
pub fn monotonic_ms() -> u64 {
    u64::try_from(clock(libc::CLOCK_MONOTONIC).as_millis()).unwrap_or(u64::MAX)
}

/// Returns the time of `CLOCK_MONOTONIC_RAW`: the counter itself, which is never adjusted.
pub fn raw_time() -> Duration {
    clock(libc::CLOCK_MONOTONIC_RAW)
}

/// Calls ioctl(2) on a structure that it reads and may write.
///
/// # Safety
///
/// `T` is the structure that `request` is defined for on this descriptor, and every pointer inside
/// it is to memory that lives through the call and is as long as the structure says.
///
/// # Errors
///
/// Fails as ioctl(2) does.
pub unsafe fn ioctl<T>(file: &File, request: u32, argument: &mut T) -> Result<libc::c_int> {
    // SAFETY: the caller vouches for the structure and what it points to.
    check(unsafe { libc::ioctl(file.as_raw_fd(), request as _, std::ptr::from_mut(argument)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_code_distinguishes_exits_and_signals() {
        // The encoding of waitpid(2) on Linux: exit status in bits 8..16, signal in bits 0..7.
        for (status, code) in [(0, 0), (0x0100, 1), (0xff00, 255), (9, -9), (0x8b, -11)] {
            assert_eq!(exit_code(status), code, "{status:#x}");
        }
    }

    #[test]
    fn clocks_are_monotonic() {
        let (raw, mono) = (raw_time(), monotonic_ms());
        std::thread::sleep(Duration::from_millis(2));
        assert!(raw_time() > raw);
        assert!(monotonic_ms() > mono);
    }
}
