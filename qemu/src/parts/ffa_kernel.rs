// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A kernel with FF-A (`CONFIG_ARM_FFA_TRANSPORT`). Trixie's does not have it, so guests of that
//! suite get the one of trixie-backports when they reach OP-TEE over FF-A.

use super::apt::{ARCHITECTURE, Apt, Suites};
use super::{Package, Parts, kernel, sources};
use crate::caller::Caller;
use crate::config::Linux;
use crate::paths::Paths;
use crate::prepare::Suite;
use crate::progress::Progress;
use anyhow::{Context, Result};
use std::path::Path;

/// The suite with the kernel for guests of trixie.
const BACKPORTS: &str = "trixie-backports";

/// Returns the parts of a suite with a kernel that has FF-A: sid's own, or for trixie that of
/// trixie-backports, from the cache when it is there. With `refresh` it asks for a newer one, as
/// [`super::fetch`] does.
///
/// # Errors
/// Fails when the kernel cannot be fetched; names the suite that has one.
pub fn with_ffa(
    parts: Parts,
    paths: &Paths,
    suite: Suite,
    linux: Linux,
    refresh: bool,
    progress: &Progress,
) -> Result<Parts> {
    if suite == Suite::Sid {
        return Ok(parts);
    }
    let folder = std::path::absolute(paths.backports(suite, linux))
        .context("the current folder no longer exists")?;
    let stamp = folder.join("kernel.json");
    let cached = read_stamp(&stamp, &folder);
    if let Some(kernel) = cached.as_ref().filter(|_| !refresh) {
        return Ok(parts.with_kernel(kernel.clone()));
    }
    match (fetch(&folder, &paths.build_logs(), linux, progress), cached) {
        (Ok(kernel), _) => {
            write_stamp(&stamp, &folder, &kernel)?;
            Ok(parts.with_kernel(kernel))
        }
        (Err(why), Some(kernel)) => {
            eprintln!(
                "  {BACKPORTS} cannot be asked for a newer kernel, so the cached one is used: {why:#}"
            );
            Ok(parts.with_kernel(kernel))
        }
        (Err(why), None) => Err(why.context(format!(
            "the kernel of Debian {suite} has no FF-A, and that of {BACKPORTS} cannot be fetched; \
             {} has a kernel with FF-A",
            Caller::of_this_process().option("suite", Suite::Sid.name())
        ))),
    }
}

fn fetch(folder: &Path, logs: &Path, linux: Linux, progress: &Progress) -> Result<Vec<Package>> {
    let suites = Suites {
        binaries: Some(BACKPORTS),
        sources: BACKPORTS,
        architecture: ARCHITECTURE,
    };
    let apt = Apt::new(folder, logs, suites, &sources::mirror()?)?;
    apt.update(progress)?;
    apt.download(&apt.kernel_packages(kernel(linux).0)?, progress)
}

fn write_stamp(stamp: &Path, folder: &Path, packages: &[Package]) -> Result<()> {
    let relative = |package: &Package| {
        let file = package.file.strip_prefix(folder).unwrap_or(&package.file);
        Package {
            file: file.to_owned(),
            ..package.clone()
        }
    };
    let packages: Vec<Package> = packages.iter().map(relative).collect();
    crate::stamp::write(stamp, &serde_json::to_vec_pretty(&packages)?)
}

fn read_stamp(stamp: &Path, folder: &Path) -> Option<Vec<Package>> {
    let text = std::fs::read(stamp).ok()?;
    let mut packages: Vec<Package> = serde_json::from_slice(&text).ok()?;
    for package in &mut packages {
        package.file = folder.join(&package.file);
    }
    let whole = !packages.is_empty() && packages.iter().all(Package::is_there);
    whole.then_some(packages)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(folder: &Path, name: &str, version: &str) -> Package {
        let file = folder.join(format!("{name}_{version}"));
        std::fs::write(&file, name).unwrap();
        Package {
            name: name.into(),
            version: version.into(),
            file,
            size: name.len() as u64,
        }
    }

    fn parts(folder: &Path) -> Parts {
        Parts {
            asked: Vec::new(),
            packages: vec![
                package(folder, "libteec2", "4.5"),
                package(folder, "linux-image-6.12", "6.12"),
                package(folder, "tee-supplicant", "4.5"),
            ],
            tf_a: package(folder, "tf-a", "2.12"),
        }
    }

    #[test]
    fn cached_backport_replaces_only_the_kernel_of_trixie() {
        let top = tempfile::tempdir().unwrap();
        let paths = Paths::at(top.path());
        let folder = paths.backports(Suite::Trixie, Linux::Standard);
        std::fs::create_dir_all(&folder).unwrap();
        let binary = package(&folder, "linux-binary-7.3", "7.3");
        let modules = package(&folder, "linux-modules-7.3", "7.3");
        write_stamp(&folder.join("kernel.json"), &folder, &[binary, modules]).unwrap();
        let own = parts(top.path());
        let choose = |suite| {
            let progress = Progress::silent();
            with_ffa(
                own.clone(),
                &paths,
                suite,
                Linux::Standard,
                false,
                &progress,
            )
            .unwrap()
        };
        let backported = choose(Suite::Trixie);
        let names: Vec<&str> = (backported.packages(|_| true))
            .map(|package| package.name.as_str())
            .collect();
        let wanted = [
            "libteec2",
            "linux-binary-7.3",
            "linux-modules-7.3",
            "tee-supplicant",
        ];
        assert_eq!(names, wanted);
        let file = &backported.package("linux-binary-7.3").unwrap().file;
        assert_eq!(std::fs::read(file).unwrap(), b"linux-binary-7.3");
        // Sid's own kernel has FF-A.
        assert_eq!(choose(Suite::Sid), own);
    }

    #[test]
    fn record_is_valid_while_all_files_are_whole() {
        let folder = tempfile::tempdir().unwrap();
        let stamp = folder.path().join("kernel.json");
        let one = package(folder.path(), "linux-binary-7.3", "7.3");
        write_stamp(&stamp, folder.path(), std::slice::from_ref(&one)).unwrap();
        assert_eq!(read_stamp(&stamp, folder.path()), Some(vec![one.clone()]));
        std::fs::write(&one.file, "cut").unwrap();
        assert_eq!(read_stamp(&stamp, folder.path()), None);
        write_stamp(&stamp, folder.path(), &[]).unwrap();
        assert_eq!(read_stamp(&stamp, folder.path()), None);
    }
}
