// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A release is the same, byte by byte, wherever it is built.

use anyhow::{Context, Result, ensure};
use postern_qemu::dist::{self, ReleasePlan};
use postern_qemu::paths::Paths;
use postern_qemu::progress::Progress;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Entries at the top of a checkout that are not its source.
const NOT_SOURCE: [&str; 4] = [".git", ".cache", "out", "target"];

/// Copies a folder and its content, except for some names at its top.
fn copy(from: &Path, to: &Path, without: &[&str]) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if without.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        let to = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy(&entry.path(), &to, &["target"])?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(entry.path())?, &to)?;
        } else {
            fs::copy(entry.path(), &to)?;
        }
    }
    Ok(())
}

#[test]
fn release_is_reproducible_in_another_folder() -> Result<()> {
    let paths = Paths::discover()?;
    let progress = Progress::on_stderr();
    let here = paths.out().join("tests/dist/here");
    let there = paths.out().join("tests/dist/there");
    let date = 1_764_000_000;
    let cargo_home = dist::cargo_home()?;
    let first = ReleasePlan {
        root: paths.root(),
        cargo_home: &cargo_home,
        out: &here,
        date,
    };
    dist::build(&first, &progress)?;

    // The source elsewhere, under a longer name, with the same crates in another `CARGO_HOME`.
    let elsewhere = tempfile::Builder::new()
        .prefix("postern, built elsewhere ")
        .tempdir()?;
    let root = elsewhere
        .path()
        .join("a/folder that is further down/source");
    copy(paths.root(), &root, &NOT_SOURCE)?;
    let home = elsewhere.path().join("another-home-of-cargo");
    fs::create_dir(&home)?;
    for name in ["registry", "config.toml"] {
        let real = cargo_home.join(name);
        if real.exists() {
            symlink(real, home.join(name))?;
        }
    }
    let second = ReleasePlan {
        root: &root,
        cargo_home: &home,
        out: &there,
        date,
    };
    dist::build(&second, &progress)?;

    let sums = fs::read_to_string(here.join("SHA256SUMS"))?;
    let others = fs::read_to_string(there.join("SHA256SUMS"))?;
    ensure!(sums == others, "here:\n{sums}\nthere:\n{others}");
    ensure!(sums.lines().count() == 8, "{sums}");
    for line in sums.lines() {
        let (_, name) = line.split_once("  ").context("a checksum without a name")?;
        let bytes = fs::read(here.join(name))?;
        ensure!(
            bytes == fs::read(there.join(name))?,
            "{name} is not the same"
        );
        for folder in [paths.root(), cargo_home.as_path()] {
            let folder = folder.as_os_str().as_encoded_bytes();
            let named = bytes.windows(folder.len()).any(|bytes| bytes == folder);
            ensure!(!named, "{name} names a folder of this machine");
        }
    }
    contents(&here)
}

/// Checks that the SBOMs name what is compiled into each file, and nothing that only tests use.
fn contents(folder: &Path) -> Result<()> {
    for (file, with, without) in [
        ("postern.spdx.json", "optee-mediator", "clap"),
        ("postern-tool.spdx.json", "clap", "proptest"),
    ] {
        let document: Value = serde_json::from_str(&fs::read_to_string(folder.join(file))?)?;
        let packages = document["packages"].as_array().context("no packages")?;
        let has = |name| packages.iter().any(|package| package["name"] == name);
        ensure!(has(with), "{file} does not name {with}");
        ensure!(!has(without), "{file} names {without}");
    }
    Ok(())
}
