// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Puts a root file system from a disk in place of the initramfs.
//!
//! The first process stays the same: it is a static program whose threads share one root, so it
//! moves there instead of starting again.

use crate::{console, sys};
use guest_agent::role::{self, Root, Served};
use std::fs::{self, OpenOptions};
use std::io::{Error, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The file of this program.
const AGENT: &str = "/init";
/// Where the new root is mounted first.
const PLACE: &str = "/root";
/// What is mounted in the initramfs and goes on in the new root.
const MOVED: [&str; 5] = ["dev", "proc", "sys", "tmp", "run"];
/// The most time that a disk of this guest may take to appear.
const OWN_DISK: Duration = Duration::from_secs(30);
/// The most time that another guest may take to serve a disk: it boots at the same time.
const SERVED_DISK: Duration = Duration::from_secs(600);
const PROBE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(100);

/// Mounts the root file system and moves there. For the initramfs it does nothing.
///
/// # Errors
///
/// Says which step failed. The guest then still has the initramfs.
pub fn enter(root: &Root) -> std::result::Result<(), String> {
    let partition = match root {
        Root::Ram => return Ok(()),
        Root::Disk(name) => wait(OWN_DISK, || partition(name))
            .ok_or_else(|| format!("no disk has a partition with the name {name}"))?,
        Root::Served(served) => connect(served)?,
    };
    let place = Path::new(PLACE);
    sys::mount_from(&partition, "ext4", place, "")
        .map_err(|why| format!("mounting {}: {why}", partition.display()))?;
    move_to(place).map_err(|why| format!("moving to {}: {why}", partition.display()))?;
    console::line(&format!(
        "The root file system is now {}.",
        partition.display()
    ));
    Ok(())
}

/// Returns the device file of the partition with this name (GPT's `PARTNAME`).
pub fn partition(name: &str) -> Option<PathBuf> {
    blocks().into_iter().find_map(|block| {
        let about = fs::read_to_string(block.join("uevent")).ok()?;
        has_name(&about, name).then(|| device_file(&block))?
    })
}

/// Returns whether a partition's `uevent` has this name.
fn has_name(about: &str, name: &str) -> bool {
    about
        .lines()
        .any(|line| line.strip_prefix("PARTNAME=") == Some(name))
}

fn blocks() -> Vec<PathBuf> {
    let entries = fs::read_dir("/sys/class/block").into_iter().flatten();
    entries.flatten().map(|entry| entry.path()).collect()
}

fn device_file(block: &Path) -> Option<PathBuf> {
    Some(Path::new("/dev").join(block.file_name()?))
}

/// Connects to the subsystem that another guest serves for this one; returns its device file.
fn connect(served: &Served) -> std::result::Result<PathBuf, String> {
    let subsystem = role::subsystem(&served.partition);
    let address = served.address;
    // Long patience on both sides: on an emulator a guest may not run for seconds, and after a
    // restart of the serving guest its peers shall go on.
    let options = format!(
        "transport=tcp,traddr={address},trsvcid={},nqn={subsystem},nr_io_queues=1,\
         keep_alive_tmo=60,reconnect_delay=1,ctrl_loss_tmo=-1",
        role::NVME_PORT
    );
    let mut last = None;
    let listener = SocketAddr::from((address, role::NVME_PORT));
    let connected = wait(SERVED_DISK, || {
        // The kernel would log each attempt before the other guest serves.
        let served = TcpStream::connect_timeout(&listener, PROBE).map(drop);
        let fabrics = served.and_then(|()| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .open("/dev/nvme-fabrics")
        });
        let done = fabrics.and_then(|mut file| {
            file.write_all(options.as_bytes())?;
            // The answer names the controller's instance.
            file.read_to_string(&mut String::new())
        });
        done.map_err(|why| last = Some(why)).ok()
    });
    if connected.is_none() {
        let why = last.map_or_else(String::new, |why| format!(": {why}"));
        return Err(format!("connecting to {subsystem} at {address}{why}"));
    }
    let found = wait(OWN_DISK, || {
        blocks().into_iter().find_map(|block| {
            let nqn = fs::read_to_string(block.join("device/subsysnqn")).ok()?;
            let hidden = fs::read_to_string(block.join("hidden")).is_ok_and(|text| text == "1\n");
            (nqn.trim_end() == subsystem && !hidden).then(|| device_file(&block))?
        })
    });
    found.ok_or_else(|| format!("{subsystem} at {address} has no namespace"))
}

/// Asks until there is an answer, or the time is over.
fn wait<T>(within: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + within;
    loop {
        let answer = ask();
        if answer.is_some() || Instant::now() >= deadline {
            return answer;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Makes `place`, a mounted file system, the root of this process, and frees the initramfs.
fn move_to(place: &Path) -> Result<()> {
    // The agent on the disk, which users start under other names, is this one.
    fs::copy(AGENT, place.join("init"))?;
    for name in MOVED {
        let target = place.join(name);
        fs::create_dir_all(&target)?;
        sys::move_mount(&Path::new("/").join(name), &target)?;
    }
    let device = fs::symlink_metadata("/")?.dev();
    if device == fs::symlink_metadata(place)?.dev() {
        return Err(Error::other("nothing is mounted there"));
    }
    empty(Path::new("/"), device);
    std::env::set_current_dir(place)?;
    sys::move_mount(Path::new("."), Path::new("/"))?;
    sys::change_root(Path::new("."))
}

/// Removes what the file system with this device number has below `folder`. The initramfs is RAM:
/// what cannot be removed stays there and does no harm.
fn empty(folder: &Path, device: u64) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match fs::symlink_metadata(&path) {
            Ok(about) if about.dev() != device => {}
            Ok(about) if about.is_dir() => {
                empty(&path, device);
                let _ = fs::remove_dir(&path);
            }
            _ => {
                let _ = fs::remove_file(&path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partition_is_found_by_its_whole_name() {
        let about = "MAJOR=254\nMINOR=1\nDEVNAME=vda1\nDEVTYPE=partition\nPARTN=1\nPARTNAME=io\n";
        assert!(has_name(about, "io"));
        assert!(!has_name(about, "i") && !has_name(about, "vda1") && !has_name("", "io"));
    }

    #[test]
    fn wait_asks_again_and_gives_up() {
        let mut left = 3;
        let answer = wait(Duration::from_secs(60), || {
            left -= 1;
            (left == 0).then_some(7)
        });
        assert_eq!((answer, left), (Some(7), 0));
        assert_eq!(wait(Duration::ZERO, || None::<()>), None);
    }

    #[test]
    fn empty_removes_files_folders_and_links_only() {
        let folder = std::env::temp_dir().join(format!("postern-empty-{}", std::process::id()));
        let inside = folder.join("a");
        fs::create_dir_all(inside.join("b")).expect("a folder");
        fs::write(inside.join("file"), "x").expect("a file");
        let outside = folder.join("outside");
        fs::create_dir_all(&outside).expect("a folder");
        fs::write(outside.join("kept"), "x").expect("a file");
        std::os::unix::fs::symlink(&outside, inside.join("link")).expect("a link");
        empty(
            &inside,
            fs::symlink_metadata(&inside).expect("it exists").dev(),
        );
        assert_eq!(fs::read_dir(&inside).expect("it exists").count(), 0);
        assert!(outside.join("kept").exists());
        fs::remove_dir_all(&folder).expect("removed");
    }
}
