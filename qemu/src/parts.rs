// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Fetches the real parts from Debian's archive by apt with a configuration of its own. The
//! machine's own apt settings stay as they are, and its packages do not matter. apt checks every
//! signature.
//!
//! `parts.json` records what was fetched; as long as the files exist, no network is used.

mod apt;
pub mod deb;
mod ffa_kernel;
mod newer_qemu;
mod source_package;
pub mod sources;
mod u_boot;

pub use ffa_kernel::with_ffa;
pub use newer_qemu::{newer_qemu, qemu, version};
pub(crate) use source_package::patch;
pub use source_package::{SourcePackage, optee_source, unpack};
pub use u_boot::{UBoot, u_boot};

use crate::config::Linux;
use crate::paths::Paths;
use crate::prepare::Suite;
use crate::progress::Progress;
use anyhow::{Context, Result};
use apt::{Apt, Suites};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The packages that are asked for by name. [`apt::Apt::with_libraries`] adds the libraries they
/// need.
const PACKAGES: &[&str] = &[
    "optee-os",
    "optee-os-dev",
    "optee-test-qemu",
    "tee-supplicant",
    "busybox-static",
    "opensc",
    "opensc-pkcs11",
];
/// Returns the package whose dependencies are the packages of the current kernel, and further
/// packages for guests with this kernel.
const fn kernel(linux: Linux) -> (&'static str, &'static [&'static str]) {
    match linux {
        Linux::Standard => ("linux-image-arm64", &[]),
        Linux::Rt => ("linux-image-rt-arm64", &["rt-tests"]),
    }
}
/// The source package of TF-A and its suite, which is the same for all systems: sid's version
/// changes, and newer OP-TEEs need no newer firmware.
const TF_A: (&str, Suite) = ("arm-trusted-firmware", Suite::Trixie);

/// The packages of one suite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// The names that were asked for: when the tool asks for others, the record is out of date.
    asked: Vec<String>,
    /// The binary packages.
    packages: Vec<Package>,
    /// The files of TF-A's source package.
    tf_a: Package,
}

/// One fetched package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// The package's name.
    pub name: String,
    /// The package's version, with epoch and revision.
    pub version: String,
    /// The `.deb` file, or the upstream tarball of a source package. `parts.json` has the path
    /// relative to its folder, so that a checkout can be moved.
    pub file: PathBuf,
    /// The length of `file` in bytes.
    size: u64,
}

impl Package {
    fn is_there(&self) -> bool {
        std::fs::metadata(&self.file).is_ok_and(|found| found.len() == self.size)
    }
}

impl Parts {
    /// Returns a binary package.
    ///
    /// # Errors
    /// Fails when the package was not fetched.
    pub fn package(&self, name: &str) -> Result<&Package> {
        let mut all = self.packages.iter();
        all.find(|package| package.name == name)
            .with_context(|| format!("the package {name} was not fetched"))
    }

    /// Returns the packages whose names pass `filter`, in a fixed order.
    pub fn packages(&self, filter: impl Fn(&str) -> bool) -> impl Iterator<Item = &Package> {
        self.packages
            .iter()
            .filter(move |package| filter(&package.name))
    }

    /// Returns TF-A's upstream tarball.
    #[must_use]
    pub fn tf_a(&self) -> &Package {
        &self.tf_a
    }

    /// Applies a change to the paths of all files.
    fn with_files(mut self, change: impl Fn(&Path) -> PathBuf) -> Self {
        for package in self.packages.iter_mut().chain([&mut self.tf_a]) {
            package.file = change(&package.file);
        }
        self
    }

    /// Replaces the packages of the kernel.
    fn with_kernel(mut self, kernel: Vec<Package>) -> Self {
        self.packages
            .retain(|package| !package.name.starts_with("linux-"));
        self.packages.extend(kernel);
        self.packages.sort_by(|a, b| a.name.cmp(&b.name));
        self
    }

    fn are_there(&self, linux: Linux) -> bool {
        self.asked == asked(linux)
            && self.tf_a.is_there()
            && self.packages.iter().all(Package::is_there)
    }
}

fn asked(linux: Linux) -> Vec<String> {
    let (kernel, more) = kernel(linux);
    PACKAGES
        .iter()
        .chain(more)
        .chain([&kernel])
        .map(|&name| name.into())
        .collect()
}

/// Returns the parts of a suite: from the cache when they are there, otherwise from the archive.
/// With `refresh` it asks the archive for newer ones, and uses the cache when the archive cannot be
/// reached.
///
/// # Errors
/// Fails when the machine's apt sources name no Debian mirror, or a part cannot be fetched.
pub fn fetch(
    paths: &Paths,
    suite: Suite,
    linux: Linux,
    refresh: bool,
    progress: &Progress,
) -> Result<Parts> {
    let folder = std::path::absolute(paths.guest_cache(suite, linux))
        .context("the current folder no longer exists")?;
    let stamp = folder.join("parts.json");
    let cached = read_stamp(&stamp, &folder, linux);
    match cached {
        Some(parts) if !refresh => return Ok(parts),
        _ => {}
    }
    match fetch_newest(&folder, &paths.build_logs(), suite, linux, progress) {
        Ok(parts) => {
            write_stamp(&stamp, &folder, parts.clone())?;
            Ok(parts)
        }
        Err(why) => match cached {
            Some(parts) => {
                eprintln!(
                    "  Debian's archive cannot be asked for newer parts, so the cached ones are used: {why:#}"
                );
                Ok(parts)
            }
            None => Err(why.context(format!(
                "the parts of Debian {suite} cannot be fetched (once fetched, no network is needed)"
            ))),
        },
    }
}

fn write_stamp(stamp: &Path, folder: &Path, parts: Parts) -> Result<()> {
    let relative = |file: &Path| file.strip_prefix(folder).unwrap_or(file).to_owned();
    let text = serde_json::to_vec_pretty(&parts.with_files(relative))?;
    crate::stamp::write(stamp, &text)
}

fn read_stamp(stamp: &Path, folder: &Path, linux: Linux) -> Option<Parts> {
    let text = std::fs::read(stamp).ok()?;
    // A record of another version of this tool does not count.
    let parts: Parts = serde_json::from_slice(&text).ok()?;
    let parts = parts.with_files(|file| folder.join(file));
    parts.are_there(linux).then_some(parts)
}

fn fetch_newest(
    folder: &Path,
    logs: &Path,
    suite: Suite,
    linux: Linux,
    progress: &Progress,
) -> Result<Parts> {
    let mirror = sources::mirror()?;
    let suites = Suites {
        binaries: Some(suite.name()),
        sources: TF_A.1.name(),
        architecture: apt::ARCHITECTURE,
    };
    let apt = Apt::new(folder, logs, suites, &mirror)?;
    apt.update(progress)?;
    let (kernel, more) = kernel(linux);
    let mut names: Vec<String> = PACKAGES
        .iter()
        .chain(more)
        .map(|&name| name.into())
        .collect();
    names.extend(apt.kernel_packages(kernel)?);
    let names = apt.with_libraries(names)?;
    Ok(Parts {
        asked: asked(linux),
        packages: apt.download(&names, progress)?,
        tf_a: apt.download_source(TF_A.0, progress)?.orig,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cached_parts_serve_only_while_complete() {
        let top = tempfile::tempdir().unwrap();
        let (old, new) = (top.path().join("old"), top.path().join("new"));
        std::fs::create_dir(&old).unwrap();
        let package = |folder: &Path, name: &str| {
            let file = folder.join(name);
            std::fs::write(&file, name).unwrap();
            let size = name.len() as u64;
            Package {
                name: name.into(),
                version: "1".into(),
                file,
                size,
            }
        };
        let parts = Parts {
            asked: asked(Linux::Standard),
            packages: vec![package(&old, "busybox"), package(&old, "linux-a")],
            tf_a: package(&old, "tf-a"),
        };
        write_stamp(&old.join("parts.json"), &old, parts.clone()).unwrap();
        assert_eq!(
            read_stamp(&old.join("parts.json"), &old, Linux::Standard),
            Some(parts)
        );
        // A cache that was moved as a whole is still valid.
        std::fs::rename(&old, &new).unwrap();
        let stamp = new.join("parts.json");
        let moved = read_stamp(&stamp, &new, Linux::Standard).unwrap();
        assert_eq!(moved.package("busybox").unwrap().file, new.join("busybox"));
        assert_eq!(moved.packages(|name| name.starts_with("linux")).count(), 1);
        assert!(moved.package("absent").is_err());
        // A file cut short, another list of packages, another format: all of it is fetched again.
        std::fs::write(new.join("linux-a"), "linux").unwrap();
        assert_eq!(read_stamp(&stamp, &new, Linux::Standard), None);
        std::fs::write(new.join("linux-a"), "linux-a").unwrap();
        let mut other = moved;
        other.asked.pop();
        write_stamp(&stamp, &new, other).unwrap();
        assert_eq!(read_stamp(&stamp, &new, Linux::Standard), None);
        std::fs::write(&stamp, "{}").unwrap();
        assert_eq!(read_stamp(&stamp, &new, Linux::Standard), None);
    }
}
