// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reads the source tree for its own checks, which need no network and no emulator, and are part of
//! `make test-host`.

pub mod markdown;

use std::fs;
use std::path::{Path, PathBuf};

/// Folders below the top that are not source: builds, downloads, and the inputs of fuzz targets.
const NOT_SOURCE: [&str; 7] = [
    ".git",
    ".cache",
    "target",
    "out",
    "tests/fuzz/corpus",
    "tests/fuzz/coverage",
    "tests/fuzz/artifacts",
];

/// Returns the top folder of the checkout.
///
/// # Panics
///
/// Panics when this crate is not two folders below it.
pub fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("tests/tree is two folders below the top")
}

/// Returns every source file, relative to the top, in order.
///
/// # Panics
///
/// Panics when a folder cannot be read.
pub fn files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in
            fs::read_dir(top().join(&folder)).expect("a folder of the checkout can be read")
        {
            let entry = entry.expect("an entry of a folder can be read");
            let path = folder.join(entry.file_name());
            if !entry.file_type().expect("an entry has a type").is_dir() {
                found.push(path);
            } else if !NOT_SOURCE.iter().any(|name| path == Path::new(name))
                && !path.ends_with("target")
            {
                folders.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Reads a source file, whose path is relative to the top.
///
/// # Panics
///
/// Panics when the file is not text.
pub fn read(path: &Path) -> String {
    fs::read_to_string(top().join(path))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
