// SPDX-License-Identifier: Apache-2.0 OR MIT
//! OP-TEE over FF-A: how Linux shows it, and what has to happen before the guest powers off.

use super::supplicant;
use crate::sys;
use std::path::Path;
use std::time::{Duration, Instant};

/// The folder of the FF-A partitions that Linux has found.
const PARTITIONS: &str = "/sys/bus/arm_ffa/devices";
/// OP-TEE's UUID among the partitions (`optee_ffa_device_id` in Linux).
const OPTEE: &str = "486178e0-e7f8-11e3-bc5e-0002a5d5c51b";
/// The most time that processes may take to end. One in a call ends when the call does.
const END_WAIT: Duration = Duration::from_secs(10);

/// Returns whether OP-TEE is an FF-A partition.
pub fn has_optee() -> bool {
    has_partition(Path::new(PARTITIONS), OPTEE)
}

fn has_partition(folder: &Path, uuid: &str) -> bool {
    let devices = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut uuids = devices.filter_map(|device| {
        let text = std::fs::read_to_string(device.path().join("uuid")).ok()?;
        Some(text.trim().to_owned())
    });
    uuids.any(|found| found == uuid)
}

/// Ends all other processes. From 7.3 on Linux removes the partitions' devices when it powers off or
/// restarts, and waits without a limit for processes that have OP-TEE's open.
pub fn end_processes() {
    supplicant::is_not_needed();
    if sys::kill_others().is_err() {
        return;
    }
    let deadline = Instant::now() + END_WAIT;
    while has_others(Path::new("/proc")) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Returns whether a process other than the first one has memory. The kernel's own threads have
/// none, and neither have processes that have closed their files.
fn has_others(proc: &Path) -> bool {
    let entries = std::fs::read_dir(proc).into_iter().flatten().flatten();
    let mut others = entries.filter(|entry| {
        let name = entry.file_name();
        let number: Option<u32> = name.to_str().and_then(|name| name.parse().ok());
        number.is_some_and(|number| number != 1)
    });
    others.any(|entry| {
        std::fs::read(entry.path().join("cmdline")).is_ok_and(|words| !words.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// A folder that is removed with its content.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let name = format!("postern-agent-{name}-{}", std::process::id());
            Self(std::env::temp_dir().join(name))
        }

        fn write(&self, path: &str, text: &str) {
            let file = self.0.join(path);
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("made");
            std::fs::write(file, text).expect("written");
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn optee_is_found_by_its_uuid_among_partitions() {
        let folder = Folder::new("ffa");
        assert!(!has_partition(&folder.0, OPTEE));
        folder.write("arm-ffa-1/uuid", "00000000-0000-0000-0000-000000000000\n");
        assert!(!has_partition(&folder.0, OPTEE));
        folder.write("arm-ffa-2/uuid", &format!("{OPTEE}\n"));
        assert!(has_partition(&folder.0, OPTEE));
    }

    #[test]
    fn only_processes_with_memory_count_as_others() {
        let proc = Folder::new("proc");
        proc.write("1/cmdline", "/init\0");
        proc.write("2/cmdline", "");
        proc.write("sys/cmdline", "no process");
        assert!(!has_others(&proc.0));
        proc.write("77/cmdline", "/usr/sbin/tee-supplicant\0");
        assert!(has_others(&proc.0));
    }
}
