// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Builds the files of a release: the image, its ELF file, this tool, the SBOMs and the checksums.
//!
//! The files depend on the source, the toolchain and a date, and not on where they are built: the
//! compiler is told other names for this machine's folders.

pub mod sbom;

use crate::prepare::{self, BARE_TARGET};
use crate::progress::Progress;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The input and output of a release build.
#[derive(Debug)]
pub struct ReleasePlan<'a> {
    /// The root of the source.
    pub root: &'a Path,
    /// Cargo's folder of downloads, which has all crates already.
    pub cargo_home: &'a Path,
    /// The folder for the files. Its content is replaced.
    pub out: &'a Path,
    /// The date of the release in seconds since 1970.
    pub date: u64,
}

/// Returns the date of a release: `SOURCE_DATE_EPOCH`, otherwise the date of the newest commit.
///
/// # Errors
/// Fails when `SOURCE_DATE_EPOCH` is no number, or there is neither.
pub fn date(root: &Path) -> Result<u64> {
    if let Ok(date) = std::env::var("SOURCE_DATE_EPOCH") {
        return date.parse().context("SOURCE_DATE_EPOCH is no number");
    }
    let mut git = Command::new("git");
    git.current_dir(root).args(["log", "-1", "--format=%ct"]);
    let text = output(&mut git).context("set SOURCE_DATE_EPOCH to the date of the source")?;
    text.trim().parse().context("git gives no date")
}

/// Returns cargo's folder of downloads, which it finds as cargo does.
///
/// # Errors
/// Fails when the environment names no home folder.
pub fn cargo_home() -> Result<PathBuf> {
    std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))
        .context("neither CARGO_HOME nor HOME is set")
}

/// Builds a release.
///
/// # Errors
/// Fails when something does not compile or a file cannot be written.
pub fn build(plan: &ReleasePlan<'_>, progress: &Progress) -> Result<()> {
    let host = rustc(&["-vV"])?
        .lines()
        .find_map(|line| line.strip_prefix("host: ").map(str::to_owned))
        .context("rustc does not report its host")?;
    let image = plan.program("postern", "release", BARE_TARGET, progress)?;
    let tool = plan.program("postern-qemu", "host", &host, progress)?;

    let step = progress.step("Writing the release");
    if plan.out.exists() {
        std::fs::remove_dir_all(plan.out)?;
    }
    std::fs::create_dir_all(plan.out)?;
    let elf = std::fs::read(&image).with_context(|| image.display().to_string())?;
    let mut files = vec![
        ("postern.img".to_owned(), prepare::image_of(&elf)?),
        ("postern.elf".to_owned(), elf),
        (format!("postern-tool-{host}"), std::fs::read(&tool)?),
    ];
    let lock = std::fs::read_to_string(plan.root.join("Cargo.lock"))?;
    for (package, target) in [("postern", BARE_TARGET), ("postern-qemu", host.as_str())] {
        let tree = plan.cargo(&[
            "tree",
            "--package",
            package,
            "--target",
            target,
            "--edges",
            "normal,build",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])?;
        let metadata = plan.cargo(&[
            "metadata",
            "--format-version",
            "1",
            "--filter-platform",
            target,
        ])?;
        let source = sbom::SbomSource {
            package,
            metadata: &serde_json::from_str(&metadata)?,
            tree: &tree,
            lock: &lock,
            toolchain: &rustc(&["--version"])?,
            date: plan.date,
        };
        let name = if package == "postern" {
            "postern"
        } else {
            "postern-tool"
        };
        let text = serde_json::to_string_pretty(&sbom::spdx(&source)?)? + "\n";
        files.push((format!("{name}.spdx.json"), text.into_bytes()));
    }
    for name in ["LICENSE-APACHE", "LICENSE-MIT", "CHANGELOG.md"] {
        files.push((name.to_owned(), std::fs::read(plan.root.join(name))?));
    }
    files.sort();
    let mut sums = String::new();
    for (name, bytes) in &files {
        writeln!(sums, "{}  {name}", hex(&Sha256::digest(bytes)))?;
        std::fs::write(plan.out.join(name), bytes)?;
    }
    std::fs::write(plan.out.join("SHA256SUMS"), sums)?;
    executable(&plan.out.join(format!("postern-tool-{host}")))?;
    step.done();
    Ok(())
}

impl ReleasePlan<'_> {
    /// Builds the program of a package and returns its path. Its flags differ, so it has a target
    /// folder of its own.
    fn program(
        &self,
        package: &str,
        profile: &str,
        target: &str,
        progress: &Progress,
    ) -> Result<PathBuf> {
        let step = progress.step(&format!("Building {package} for the release"));
        let mut cargo = self.command();
        cargo
            .args([
                "build",
                "--locked",
                "--target-dir",
                "target/dist",
                "--package",
                package,
            ])
            .args(["--profile", profile, "--target", target])
            // Debug information, which the tool does not need, would name this machine's folders.
            .args(["--config", "profile.host.strip = true"])
            .arg("--config")
            .arg(format!("target.{target}.rustflags = [{}]", self.flags()?))
            .arg("--message-format=json-render-diagnostics");
        let log = self
            .root
            .join("out/logs")
            .join(format!("dist-{package}.log"));
        let messages = step.run_for_output(&mut cargo, &log)?;
        let built = crate::cargo::executable(&messages)
            .with_context(|| format!("cargo built no program from the package {package}"))?;
        step.done();
        Ok(built)
    }

    /// Returns flags for rustc that give folders the same names everywhere, as the content of a
    /// TOML array. rustc uses the last one that applies.
    fn flags(&self) -> Result<String> {
        let sysroot = rustc(&["--print", "sysroot"])?;
        let commit = rustc(&["-vV"])?
            .lines()
            .find_map(|line| line.strip_prefix("commit-hash: ").map(str::to_owned))
            .context("rustc does not report its commit")?;
        let library = Path::new(sysroot.trim()).join("lib/rustlib/src/rust");
        // Cargo compiles a crate of the registry in its folder, by a path without symbolic links.
        let registry = self.cargo_home.join("registry");
        let registry = registry.canonicalize().unwrap_or(registry);
        let names = [
            (self.root, "/postern".to_owned()),
            (self.cargo_home, "/cargo".to_owned()),
            (&registry, "/cargo/registry".to_owned()),
            (&library, format!("/rustc/{commit}")),
        ];
        let mut flags = Vec::new();
        for (folder, name) in names {
            let folder = folder.to_str().context("a folder's name is no text")?;
            ensure!(
                !folder.contains('\''),
                "{folder}: a name with a quote in it"
            );
            flags.push(format!("'--remap-path-prefix={folder}={name}'"));
        }
        Ok(flags.join(", "))
    }

    fn command(&self) -> Command {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .current_dir(self.root)
            .env("CARGO_HOME", self.cargo_home)
            .env("CARGO_INCREMENTAL", "0");
        for flags in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_BUILD_RUSTFLAGS",
            "CARGO_TARGET_DIR",
        ] {
            cargo.env_remove(flags);
        }
        cargo
    }

    fn cargo(&self, args: &[&str]) -> Result<String> {
        output(self.command().args(args).arg("--locked"))
    }
}

fn rustc(args: &[&str]) -> Result<String> {
    output(Command::new("rustc").args(args))
}

fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("{program} cannot be run"))?;
    ensure!(
        output.status.success(),
        "{program} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

fn executable(file: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(std::fs::set_permissions(
        file,
        std::fs::Permissions::from_mode(0o755),
    )?)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Returns the text of a JSON value; empty when it is no text.
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
