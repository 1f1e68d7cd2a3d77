// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sets up what programs need.

use crate::sys;
use std::path::Path;
use std::time::{Duration, Instant};

/// The most time that the driver may take to make the device.
const TEE_WAIT: Duration = Duration::from_secs(20);
/// The folder of the modules. Each list in it has file names in loading order, one per line.
const MODULES: &str = "/modules";
/// The lists: the modules of every guest, and those of guests with devices or links.
const LISTS: [&str; 2] = ["order", "devices"];

/// Mounts the kernel's file systems and brings up the loopback interface. Returns the errors, because
/// there may be no console yet to report them on.
pub fn bring_up() -> Vec<String> {
    let mut problems = mount_all(&[
        ("proc", "/proc", ""),
        ("sysfs", "/sys", ""),
        ("devtmpfs", "/dev", ""),
        ("devpts", "/dev/pts", ""),
        ("tmpfs", "/tmp", "mode=1777"),
        ("tmpfs", "/run", "mode=0755"),
    ]);
    if let Err(why) = sys::net::up("lo") {
        problems.push(format!("loopback interface: {why}"));
    }
    problems
}

/// Makes the folders and links that programs expect in the root file system; in an initramfs,
/// `/var` is RAM with a limit. Returns the errors.
pub fn furnish(in_ram: bool) -> Vec<String> {
    let mut problems = if in_ram {
        mount_all(&[("tmpfs", "/var", "mode=0755")])
    } else {
        Vec::new()
    };
    // The supplicant's secure storage, and what shell tools expect.
    for folder in [
        "/var/lib/optee-client/data/tee",
        "/var/lib/tee",
        "/var/log",
        "/var/tmp",
    ] {
        if let Err(why) = std::fs::create_dir_all(folder) {
            problems.push(format!("{folder}: {why}"));
        }
    }
    // The other names of this program, for users at a shell; an image may have its own programs.
    for name in ["/bin/tee-latency", "/bin/postern-ctl"] {
        if !Path::new(name).exists()
            && let Err(why) = std::os::unix::fs::symlink("/init", name)
        {
            problems.push(format!("{name}: {why}"));
        }
    }
    problems
}

fn mount_all(mounts: &[(&str, &str, &str)]) -> Vec<String> {
    let mut problems = Vec::new();
    for &(kind, target, options) in mounts {
        let path = Path::new(target);
        let done = std::fs::create_dir_all(path).and_then(|()| sys::mount(kind, path, options));
        match done {
            // EBUSY: the kernel itself mounted it (CONFIG_DEVTMPFS_MOUNT).
            Err(why) if why.raw_os_error() != Some(libc::EBUSY) => {
                problems.push(format!("mounting {target}: {why}"));
            }
            _ => {}
        }
    }
    problems
}

/// Loads the modules of the image. Returns the errors.
pub fn load_modules() -> Vec<String> {
    LISTS.iter().flat_map(|list| load_list(list)).collect()
}

fn load_list(list: &str) -> Vec<String> {
    let folder = Path::new(MODULES);
    let order = match std::fs::read_to_string(folder.join(list)) {
        Ok(order) => order,
        // A guest may have no modules.
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(why) => return vec![format!("{MODULES}/{list}: {why}")],
    };
    let files = order.lines().map(str::trim).filter(|line| !line.is_empty());
    files
        .filter_map(|file| {
            let why = sys::load_module(&folder.join(file)).err()?;
            // ENODEV is no error of the image: the guest has no TEE.
            (why.raw_os_error() != Some(libc::ENODEV)).then(|| format!("{MODULES}/{file}: {why}"))
        })
        .collect()
}

/// Waits for the TEE's device when the device tree announces a TEE, or the FF-A partitions have one;
/// returns whether it exists.
pub fn wait_for_tee() -> bool {
    let device = Path::new(super::TEE);
    if !Path::new("/proc/device-tree/firmware/optee").exists() && !super::ffa::has_optee() {
        return device.exists();
    }
    let deadline = Instant::now() + TEE_WAIT;
    while !device.exists() {
        if Instant::now() > deadline {
            crate::console::error(format_args!(
                "the device tree or FF-A announces OP-TEE, but there is no {} after {} s",
                super::TEE,
                TEE_WAIT.as_secs()
            ));
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}
