// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Claims the folder of a system's boot tree, logs and socket: one system at a time uses it.

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::fs::{File, TryLockError};
use std::io::{Seek, Write};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The file in the folder that is locked (flock(2)) while the folder is in use. When a process is
/// killed, the kernel releases its lock.
const LOCK: &str = "lock";
/// How many times a lock is tried, and the time between two attempts.
const TRIES: u32 = 3;
const INSTANT: Duration = Duration::from_millis(20);

/// The right to use a folder. Dropping this value ends it.
#[derive(Debug)]
pub struct Claim {
    _lock: File,
}

/// The process that uses a folder, as recorded in the lock file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The process's command, such as `make run`.
    pub what: String,
    /// The process's ID.
    pub pid: u32,
    /// When the process took the folder, in seconds since 1970.
    pub since: u64,
}

impl Claim {
    /// Claims a folder for the command `what` and makes it if need be. `another` tells how a user
    /// gives a system another folder.
    ///
    /// # Errors
    /// Fails when another process uses the folder, with its name and the fix, or when the folder
    /// cannot be made or locked.
    pub fn take(folder: &Path, what: &str, another: &str) -> Result<Self> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        let path = folder.join(LOCK);
        let mut lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        let mut locked = lock.try_lock();
        for _ in 0..TRIES {
            // A reader of the file ([`Holder::of`]) has it locked for an instant.
            if matches!(locked, Err(TryLockError::WouldBlock)) {
                std::thread::sleep(INSTANT);
                locked = lock.try_lock();
            }
        }
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!(
                "{} is in use by {}; {another}",
                folder.display(),
                Holder::read(&path).map_or_else(
                    || "another process".to_owned(),
                    |holder| holder.sentence(now())
                )
            ),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        let holder = Holder {
            what: what.to_owned(),
            pid: std::process::id(),
            since: now(),
        };
        let failed = || format!("cannot write {}", path.display());
        lock.set_len(0).with_context(failed)?;
        lock.rewind().with_context(failed)?;
        writeln!(lock, "{}", serde_json::to_string(&holder)?).with_context(failed)?;
        Ok(Self { _lock: lock })
    }
}

impl Holder {
    /// Returns the process that uses the folder now; `None` when it is free.
    #[must_use]
    pub fn of(folder: &Path) -> Option<Self> {
        let path = folder.join(LOCK);
        let free = File::open(&path).ok()?.try_lock_shared().is_ok();
        if free { None } else { Self::read(&path) }
    }

    fn read(path: &Path) -> Option<Self> {
        serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()
    }

    /// Says which process it is, since when, and how to stop it.
    fn sentence(&self, now: u64) -> String {
        let Self { what, pid, since } = self;
        format!(
            "`{what}` (process {pid}, for {} already): stop it with Ctrl-C in its terminal, or with `kill {pid}`",
            age(now.saturating_sub(*since))
        )
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Formats a time span in the unit that fits.
fn age(seconds: u64) -> String {
    if seconds < 120 {
        format!("{seconds} s")
    } else if seconds < 7200 {
        format!("{} min", seconds / 60)
    } else {
        format!("{} h", seconds / 3600)
    }
}

/// Removes the console logs that an earlier system left in a folder.
///
/// # Errors
/// Fails when a log cannot be removed.
pub fn clear_logs(folder: &Path) -> Result<()> {
    let failed = || format!("cannot empty {}", folder.display());
    for entry in std::fs::read_dir(folder).with_context(failed)?.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|ending| ending == "log") {
            std::fs::remove_file(&path).with_context(failed)?;
        }
    }
    Ok(())
}

/// Removes everything in a folder except the lock.
///
/// # Errors
/// Fails when something cannot be removed.
pub fn empty(folder: &Path) -> Result<()> {
    let failed = || format!("cannot empty {}", folder.display());
    for entry in std::fs::read_dir(folder).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        if entry.file_name() == LOCK {
            continue;
        }
        let removed = if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            std::fs::remove_dir_all(entry.path())
        } else {
            std::fs::remove_file(entry.path())
        };
        removed.with_context(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_claim_names_the_first() {
        let top = tempfile::tempdir().expect("a folder");
        let folder = top.path().join("out/run");
        let first = Claim::take(&folder, "make run", "use OUT=").expect("free");
        let error = Claim::take(&folder, "make shell", "use OUT=").expect_err("taken");
        let error = format!("{error:#}");
        let pid = std::process::id();
        for part in [
            "out/run is in use by `make run`",
            &format!("process {pid}"),
            &format!("kill {pid}"),
            "use OUT=",
        ] {
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(
            Holder::of(&folder).map(|holder| holder.what),
            Some("make run".into())
        );
        // Another folder belongs to another system.
        Claim::take(&top.path().join("out/shell"), "make shell", "").expect("free");
        drop(first);
        assert_eq!(Holder::of(&folder), None);
        Claim::take(&folder, "make shell", "").expect("free again");
    }

    #[test]
    fn unlocked_lock_file_has_no_holder() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(Holder::of(folder.path()), None);
        std::fs::write(
            folder.path().join(LOCK),
            "of another version, and longer than ours",
        )
        .expect("written");
        assert_eq!(Holder::of(folder.path()), None);
        let _claim = Claim::take(folder.path(), "make run", "").expect("free");
        assert!(Holder::of(folder.path()).is_some());
    }

    #[test]
    fn age_uses_fitting_unit() {
        assert_eq!(age(119), "119 s");
        assert_eq!(age(120), "2 min");
        assert_eq!(age(7300), "2 h");
    }

    #[test]
    fn empty_keeps_the_lock() {
        let folder = tempfile::tempdir().expect("a folder");
        let _claim = Claim::take(folder.path(), "a test", "").expect("free");
        let file = |name: &str| std::fs::write(folder.path().join(name), "x").expect("written");
        file("vm-old.log");
        file("report.json");
        clear_logs(folder.path()).expect("cleared");
        assert!(!folder.path().join("vm-old.log").exists());
        assert!(folder.path().join("report.json").exists());
        std::fs::create_dir(folder.path().join("deep")).expect("made");
        empty(folder.path()).expect("emptied");
        let left: Vec<_> = std::fs::read_dir(folder.path())
            .expect("read")
            .flatten()
            .collect();
        assert_eq!(left.len(), 1);
        assert!(Holder::of(folder.path()).is_some());
    }
}
