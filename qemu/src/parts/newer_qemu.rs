// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Fetches a newer QEMU than the machine's, for CPU models that an older one lacks: Debian
//! trixie's, with all its libraries, in a folder of its own. Nothing is installed.

use super::apt::{Apt, Suites};
use super::deb::{self, Content};
use super::sources;
use crate::paths::Paths;
use crate::prepare::{QEMU, Suite};
use crate::progress::Progress;
use anyhow::{Context, Result, bail};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The package's name.
const PACKAGE: &str = "qemu-system-arm";
/// The program in the package.
const PROGRAM: &str = "usr/bin/qemu-system-aarch64";

/// Returns the architecture of this machine's programs in Debian's spelling, and their loader.
fn host() -> Result<(&'static str, &'static str)> {
    match std::env::consts::ARCH {
        "x86_64" => Ok(("amd64", "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2")),
        "aarch64" => Ok(("arm64", "usr/lib/aarch64-linux-gnu/ld-linux-aarch64.so.1")),
        other => bail!("there is no newer QEMU to fetch for {other}"),
    }
}

/// Returns the path of the program, and fetches it if it is not in the cache.
///
/// # Errors
/// Fails when the machine's apt sources name no Debian mirror, or a package cannot be fetched.
pub fn newer_qemu(paths: &Paths, progress: &Progress) -> Result<PathBuf> {
    let folder = paths.root().join(".cache").join("qemu");
    let folder = std::path::absolute(folder).context("the current folder no longer exists")?;
    let program = folder.join("qemu-system-aarch64");
    if program.is_file() {
        return Ok(program);
    }
    let (architecture, loader) = host()?;
    let suites = Suites {
        binaries: Some(Suite::Trixie.name()),
        sources: Suite::Trixie.name(),
        architecture,
    };
    let logs = paths.build_logs();
    let apt = Apt::new(&folder, &logs, suites, &sources::mirror()?)?;
    apt.update(progress)?;
    let names = apt.with_libraries(vec![PACKAGE.into()])?;
    let packages = apt.download(&names, progress)?;
    let step = progress.step("Unpacking a newer QEMU");
    let root = folder.join("root");
    for package in &packages {
        let entries = deb::read(&package.file, |path| {
            path == PROGRAM || path.contains(".so")
        })?;
        for entry in entries {
            unpack(&root, &entry.path, &entry.content)
                .with_context(|| package.file.display().to_string())?;
        }
    }
    step.done();
    let (loader, binary) = (root.join(loader), root.join(PROGRAM));
    let libraries = loader.parent().unwrap_or(&root);
    let script = format!(
        "#!/bin/sh\nexec '{}' --library-path '{}' '{}' \"$@\"\n",
        loader.display(),
        libraries.display(),
        binary.display()
    );
    // The script is written last: its presence means that everything is there.
    crate::stamp::write(&program, script.as_bytes())?;
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755))?;
    Ok(program)
}

/// Returns the path of a QEMU of this version or later: the machine's, or else the newer one.
///
/// # Errors
/// Fails when the machine's QEMU cannot be run, or a newer one cannot be fetched.
pub fn qemu(paths: &Paths, least: (u32, u32), progress: &Progress) -> Result<PathBuf> {
    let own = PathBuf::from(QEMU);
    if version(&own)? >= least {
        return Ok(own);
    }
    newer_qemu(paths, progress)
}

/// Returns the major and minor version of a QEMU.
///
/// # Errors
/// Fails when it cannot be run, or says no version.
pub fn version(qemu: &Path) -> Result<(u32, u32)> {
    let output = Command::new(qemu)
        .arg("--version")
        .output()
        .with_context(|| format!("{} cannot be run; `make` installs it", qemu.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    version_in(&text).with_context(|| format!("no version in {text:?}"))
}

/// Returns the version in the first line of `qemu --version`.
fn version_in(text: &str) -> Option<(u32, u32)> {
    let number = text.split_whitespace().nth(3)?;
    let mut parts = number.split('.').map_while(|part| part.parse().ok());
    parts.next().zip(parts.next())
}

/// Writes a file of a package to its place below `root`.
fn unpack(root: &Path, path: &str, content: &Content) -> Result<()> {
    // Some packages still use `/lib`, which is a link to `/usr/lib`.
    let path = match path.strip_prefix("lib/") {
        Some(rest) => format!("usr/lib/{rest}"),
        None => path.to_owned(),
    };
    let file = root.join(&path);
    let folder = file.parent().context("a file without a folder")?;
    std::fs::create_dir_all(folder)?;
    match content {
        Content::File { mode, data } => {
            std::fs::write(&file, data)?;
            std::fs::set_permissions(&file, PermissionsExt::from_mode(*mode))?;
        }
        Content::Link { target, symbolic } => {
            if file.symlink_metadata().is_ok() {
                std::fs::remove_file(&file)?;
            }
            if *symbolic {
                symlink(target, &file)?;
            } else {
                std::fs::hard_link(root.join(target), &file)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        let debian = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright";
        assert_eq!(version_in(debian), Some((10, 0)));
        assert!(version_in("QEMU emulator version 7.2.22 (x)") < Some((10, 0)));
        assert_eq!(version_in("sh: not found"), None);
    }

    #[test]
    fn files_and_links_unpack_below_root() {
        let root = tempfile::tempdir().unwrap();
        let file = |data: &str| Content::File {
            mode: 0o755,
            data: data.into(),
        };
        let link = Content::Link {
            target: "x.so.1".into(),
            symbolic: true,
        };
        unpack(root.path(), "lib/arch/x.so.1", &file("one")).unwrap();
        for _ in 0..2 {
            unpack(root.path(), "usr/lib/arch/x.so", &link).unwrap();
        }
        let text = std::fs::read_to_string(root.path().join("usr/lib/arch/x.so")).unwrap();
        assert_eq!(text, "one");
    }
}
