// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Builds the project's own programs for the machine.

use crate::paths::Paths;
use crate::progress::Progress;
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::process::Command;

/// Builds the one binary of a package of this workspace in release mode and returns its path.
///
/// # Errors
/// Fails when it does not compile. The error has the end of the compiler's output and the path of
/// its log.
pub fn build(paths: &Paths, package: &str, target: &str, progress: &Progress) -> Result<PathBuf> {
    let step = progress.step(&format!("Building {package}"));
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = Command::new(program);
    cargo
        .current_dir(paths.root())
        // These variables would replace the flags in .cargo/config.toml, without which the
        // hypervisor is not position-independent.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .args([
            "build",
            "--release",
            "--package",
            package,
            "--target",
            target,
        ])
        .arg("--message-format=json-render-diagnostics");
    let log = paths.build_logs().join(format!("cargo-{package}.log"));
    let messages = step.run_for_output(&mut cargo, &log)?;
    let built = executable(&messages)
        .with_context(|| format!("cargo built no program from the package {package}"))?;
    step.done();
    Ok(built)
}

/// Returns the last executable that cargo's messages name.
pub(crate) fn executable(messages: &[u8]) -> Option<PathBuf> {
    String::from_utf8_lossy(messages)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| Some(message.get("executable")?.as_str()?.into()))
        .next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executable_is_found_in_cargo_messages() {
        let messages = br#"{"reason":"compiler-artifact","executable":null}
            {"reason":"build-script-executed"}
            {"reason":"compiler-artifact","executable":"/t/release/postern"}
            {"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages), Some("/t/release/postern".into()));
        assert_eq!(executable(b"{}\nnonsense"), None);
    }
}
