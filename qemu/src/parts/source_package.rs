// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Fetches source packages and unpacks them with Debian's patches.

use super::apt::{ARCHITECTURE, Apt, SourceFiles, Suites};
use super::{Package, sources};
use crate::paths::Paths;
use crate::prepare::Suite;
use crate::progress::{Progress, Step};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

/// OP-TEE's source package.
const OPTEE: &str = "optee-os";

/// The files of a fetched source package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourcePackage {
    /// The upstream tarball, with the package's version.
    pub orig: Package,
    /// Debian's part.
    pub debian: Package,
}

impl SourcePackage {
    fn is_there(&self) -> bool {
        self.orig.is_there() && self.debian.is_there()
    }

    fn with_files(mut self, change: impl Fn(&Path) -> PathBuf) -> Self {
        for package in [&mut self.orig, &mut self.debian] {
            package.file = change(&package.file);
        }
        self
    }
}

/// Returns OP-TEE's source for a suite: from the cache when it is there, otherwise from the
/// archive. A mirror that has lost an older suite's source still has sid's, which works with the
/// other parts of either suite.
///
/// # Errors
/// Fails when the machine's apt sources name no Debian mirror, or the mirror has neither source.
pub fn optee_source(
    paths: &Paths,
    suite: Suite,
    refresh: bool,
    progress: &Progress,
) -> Result<SourcePackage> {
    let folder = paths.cache(suite).join("optee-source");
    let folder = std::path::absolute(folder).context("the current folder no longer exists")?;
    let stamp = folder.join("package.json");
    let cached = read_stamp(&stamp, &folder);
    if let Some(cached) = cached.as_ref().filter(|_| !refresh) {
        return Ok(cached.clone());
    }
    let logs = paths.build_logs();
    let mut fetched = fetch(&folder, &logs, suite, progress);
    if let (Err(why), true) = (&fetched, suite != Suite::Sid && cached.is_none()) {
        eprintln!(
            "  The source of OP-TEE in Debian {suite} cannot be fetched; sid's is used instead: {}",
            // The log has the other causes.
            format!("{why:#}")
                .split("; the end of it")
                .next()
                .unwrap_or_default()
        );
        fetched = fetch(&folder, &logs, Suite::Sid, progress);
    }
    match (fetched, cached) {
        (Ok(fetched), _) => {
            let relative = |file: &Path| file.strip_prefix(&folder).unwrap_or(file).to_owned();
            let text = serde_json::to_vec_pretty(&fetched.clone().with_files(relative))?;
            crate::stamp::write(&stamp, &text)?;
            Ok(fetched)
        }
        (Err(why), Some(cached)) => {
            eprintln!(
                "  Debian's archive cannot be asked for a newer OP-TEE, so the cached one is used: {why:#}"
            );
            Ok(cached)
        }
        (Err(why), None) => Err(why.context("the source of OP-TEE cannot be fetched")),
    }
}

fn read_stamp(stamp: &Path, folder: &Path) -> Option<SourcePackage> {
    let text = std::fs::read(stamp).ok()?;
    let package: SourcePackage = serde_json::from_slice(&text).ok()?;
    let package = package.with_files(|file| folder.join(file));
    package.is_there().then_some(package)
}

fn fetch(folder: &Path, logs: &Path, suite: Suite, progress: &Progress) -> Result<SourcePackage> {
    let suites = Suites {
        binaries: None,
        sources: suite.name(),
        architecture: ARCHITECTURE,
    };
    let apt = Apt::new(folder, logs, suites, &sources::mirror()?)?;
    apt.update(progress)?;
    let SourceFiles { orig, debian } = apt.download_source(OPTEE, progress)?;
    let debian =
        debian.with_context(|| format!("the source package {OPTEE} has no Debian tarball"))?;
    Ok(SourcePackage { orig, debian })
}

impl SourcePackage {
    /// Unpacks the source once, with Debian's patches and then with a board's, to a folder that
    /// exists whole or not at all.
    ///
    /// # Errors
    /// Fails when a file is damaged or a patch does not apply; names it.
    pub fn unpack(
        &self,
        into: &Path,
        of_board: &[(&str, &str)],
        step: &Step,
        log: &Path,
    ) -> Result<()> {
        if into.is_dir() {
            return Ok(());
        }
        let parent = into.parent().context("a folder has a parent")?;
        std::fs::create_dir_all(parent)
            .with_context(|| format!("{} cannot be made", parent.display()))?;
        step.detail("unpacking");
        let new = tempfile::tempdir_in(parent)?;
        let tree = unpack(&self.orig.file, &new.path().join("orig"))?;
        let debian = unpack(&self.debian.file, &new.path().join("debian"))?;
        let series = debian.join("patches/series");
        let series = match std::fs::read_to_string(&series) {
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => String::new(),
            read => read.with_context(|| series.display().to_string())?,
        };
        for name in patches(&series) {
            let file = debian.join("patches").join(name);
            step.run(&mut patch(&tree, &file), log)
                .with_context(|| format!("Debian's patch {name} does not apply"))?;
        }
        let version = &self.orig.version;
        for (name, text) in of_board {
            let file = new.path().join(name);
            crate::stamp::write(&file, text.as_bytes())?;
            step.run(&mut patch(&tree, &file), log)
                .with_context(|| format!("{name} does not apply to OP-TEE {version}"))?;
        }
        std::fs::rename(&tree, into).with_context(|| into.display().to_string())
    }
}

/// Returns the command that applies a patch to a source tree.
pub(crate) fn patch(tree: &Path, file: &Path) -> Command {
    let mut patch = Command::new("patch");
    patch
        .args(["--forward", "--strip=1", "--batch", "--directory"])
        .arg(tree)
        .arg("--input")
        .arg(file);
    patch
}

/// Returns the patches that a series file names, in order.
fn patches(series: &str) -> impl Iterator<Item = &str> {
    series
        .lines()
        .filter_map(|line| line.split('#').next()?.split_whitespace().next())
}

/// Unpacks a tarball, which must have one top folder, and returns that folder's path below `into`.
///
/// # Errors
/// Fails when the tarball is damaged or has another form.
pub fn unpack(tarball: &Path, into: &Path) -> Result<PathBuf> {
    let open = File::open(tarball).with_context(|| tarball.display().to_string())?;
    let packed = BufReader::new(open);
    let plain: Box<dyn Read> = match tarball.extension().and_then(|ending| ending.to_str()) {
        Some("xz") => Box::new(lzma_rust2::XzReader::new(packed, true)),
        Some("gz") => Box::new(flate2::bufread::GzDecoder::new(packed)),
        _ => bail!("{} is neither .gz nor .xz", tarball.display()),
    };
    let mut archive = tar::Archive::new(BufReader::with_capacity(1 << 16, plain));
    archive
        .unpack(into)
        .with_context(|| format!("{} cannot be unpacked", tarball.display()))?;
    let mut inside = std::fs::read_dir(into)?;
    let (Some(top), None) = (inside.next(), inside.next()) else {
        bail!("{} does not have exactly one top folder", tarball.display());
    };
    Ok(top?.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a tarball of files below one folder.
    fn tarball(path: &Path, files: &[(&str, &str)]) {
        let packed =
            flate2::write::GzEncoder::new(File::create(path).unwrap(), flate2::Compression::fast());
        let mut archive = tar::Builder::new(packed);
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            archive
                .append_data(&mut header, name, text.as_bytes())
                .unwrap();
        }
        archive.into_inner().unwrap().finish().unwrap();
    }

    fn package(folder: &Path, name: &str, files: &[(&str, &str)]) -> Package {
        let file = folder.join(name);
        tarball(&file, files);
        Package {
            name: OPTEE.into(),
            version: "4-1".into(),
            size: std::fs::metadata(&file).unwrap().len(),
            file,
        }
    }

    #[test]
    fn patches_of_debian_and_then_of_the_board_apply_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let change = |from: &str, to: &str| {
            format!("--- a/version\n+++ b/version\n@@ -1 +1 @@\n-{from}\n+{to}\n")
        };
        let (first, second, third) = (change("1", "2"), change("2", "3"), change("3", "4"));
        let debian = |name: &str, series: &str| {
            let files = [
                ("debian/patches/one.patch", first.as_str()),
                ("debian/patches/two.patch", second.as_str()),
                ("debian/patches/series", series),
            ];
            package(folder.path(), name, &files)
        };
        let orig = package(folder.path(), "o.tar.gz", &[("optee-4/version", "1\n")]);
        let good = SourcePackage {
            orig: orig.clone(),
            debian: debian("d.tar.gz", "# why\none.patch\n\ntwo.patch -p1\n"),
        };
        assert!(good.is_there());
        let (tree, log) = (folder.path().join("tree"), folder.path().join("log"));
        let step = Progress::silent().step("");
        good.unpack(&tree, &[("three.patch", &third)], &step, &log)
            .unwrap();
        assert_eq!(
            std::fs::read_to_string(tree.join("version")).unwrap(),
            "4\n"
        );
        let again = folder.path().join("again");
        let error = good.unpack(&again, &[("two.patch", &second)], &step, &log);
        assert_eq!(
            error.unwrap_err().to_string(),
            "two.patch does not apply to OP-TEE 4-1"
        );
        assert!(!again.exists());
        let bad = SourcePackage {
            orig,
            debian: debian("bad.tar.gz", "two.patch\n"),
        };
        let other = folder.path().join("other");
        let error = bad
            .unpack(&other, &[], &step, &log)
            .unwrap_err()
            .to_string();
        assert_eq!(error, "Debian's patch two.patch does not apply");
        assert!(!other.exists());
    }

    #[test]
    fn record_is_valid_while_both_files_exist() {
        let folder = tempfile::tempdir().unwrap();
        let files = SourcePackage {
            orig: package(folder.path(), "o.tar.gz", &[("o/a", "1")]),
            debian: package(folder.path(), "d.tar.gz", &[("d/a", "1")]),
        };
        let stamp = folder.path().join("package.json");
        let relative = |file: &Path| file.file_name().unwrap().into();
        let text = serde_json::to_vec(&files.clone().with_files(relative)).unwrap();
        std::fs::write(&stamp, text).unwrap();
        assert_eq!(read_stamp(&stamp, folder.path()), Some(files.clone()));
        std::fs::write(&files.debian.file, "cut").unwrap();
        assert_eq!(read_stamp(&stamp, folder.path()), None);
    }
}
