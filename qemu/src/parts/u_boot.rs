// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Debian's U-Boot for QEMU's arm64 machine, as integrators boot. Only scenarios need it, so it is
//! fetched by itself.

use super::apt::{self, Apt, Suites};
use super::deb::{self, Content};
use super::sources;
use crate::paths::Paths;
use crate::prepare::Suite;
use crate::progress::Progress;
use anyhow::{Context, Result};
use std::path::PathBuf;

/// The package.
const PACKAGE: &str = "u-boot-qemu";
/// The file in it.
const FILE: &str = "usr/lib/u-boot/qemu_arm64/u-boot.bin";

/// U-Boot as a file that TF-A takes for BL33.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UBoot {
    /// The package's version.
    pub version: String,
    /// The file.
    pub file: PathBuf,
}

/// Returns trixie's U-Boot: from the cache when it is there, else fetched.
///
/// # Errors
/// When the machine's apt sources name no Debian mirror, or the package cannot be had.
pub fn u_boot(paths: &Paths, progress: &Progress) -> Result<UBoot> {
    let folder = paths.root().join(".cache").join("u-boot");
    let folder = std::path::absolute(folder).context("the current folder is lost")?;
    let (file, version) = (folder.join("u-boot.bin"), folder.join("version"));
    // Written last.
    if let Ok(version) = std::fs::read_to_string(&version) {
        return Ok(UBoot { version, file });
    }
    let suites = Suites {
        binaries: Some(Suite::Trixie.name()),
        sources: Suite::Trixie.name(),
        architecture: apt::ARCHITECTURE,
    };
    let logs = paths.build_logs();
    let apt = Apt::new(&folder, &logs, suites, &sources::mirror()?)?;
    apt.update(progress)?;
    let packages = apt.download(&[PACKAGE.into()], progress)?;
    let package = packages.first().context("apt fetched nothing")?;
    let entries = deb::read(&package.file, |path| path == FILE)?;
    let data = entries.into_iter().find_map(|entry| match entry.content {
        Content::File { data, .. } => Some(data),
        Content::Link { .. } => None,
    });
    let data = data.with_context(|| format!("{PACKAGE} has no {FILE}"))?;
    crate::stamp::write(&file, &data)?;
    crate::stamp::write(&version, package.version.as_bytes())?;
    Ok(UBoot {
        version: package.version.clone(),
        file,
    })
}
