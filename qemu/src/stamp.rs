// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Records the inputs of a built file in a file beside it, so that it is built once.

use anyhow::{Context, Result};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Returns whether `output` exists and was made of exactly these inputs.
#[must_use]
pub fn is_fresh(output: &Path, inputs: &str) -> bool {
    output.exists()
        && std::fs::read_to_string(beside(output)).is_ok_and(|made_of| made_of == inputs)
}

/// Records that `output` was made of these inputs.
///
/// # Errors
/// Fails when the record cannot be written.
pub fn mark(output: &Path, inputs: &str) -> Result<()> {
    write(&beside(output), inputs.as_bytes())
}

/// Writes a file atomically, and makes its folder if need be.
///
/// # Errors
/// Fails when the file cannot be written.
pub fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    let folder = file.parent().context("a file has a folder")?;
    std::fs::create_dir_all(folder)
        .with_context(|| format!("{} cannot be made", folder.display()))?;
    let failed = || format!("{} cannot be written", file.display());
    let readable = std::fs::Permissions::from_mode(0o644);
    let mut new = tempfile::Builder::new()
        .permissions(readable)
        .tempfile_in(folder)
        .with_context(failed)?;
    std::io::Write::write_all(&mut new, bytes).with_context(failed)?;
    new.persist(file).with_context(failed)?;
    Ok(())
}

/// Makes an empty file and its folder, unless the file exists.
///
/// # Errors
/// Fails when the file cannot be written.
pub fn write_if_missing(file: &Path) -> Result<()> {
    if file.exists() {
        Ok(())
    } else {
        write(file, b"")
    }
}

fn beside(output: &Path) -> PathBuf {
    let mut name = output.file_name().unwrap_or_default().to_owned();
    name.push(".made-of");
    output.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_fresh_while_inputs_are_unchanged() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("deep/image");
        assert!(!is_fresh(&output, "a 1"));
        write(&output, b"x").unwrap();
        assert!(!is_fresh(&output, "a 1"));
        mark(&output, "a 1").unwrap();
        assert!(is_fresh(&output, "a 1"));
        assert!(!is_fresh(&output, "a 2"));
        std::fs::remove_file(&output).unwrap();
        assert!(!is_fresh(&output, "a 1"));
    }
}
