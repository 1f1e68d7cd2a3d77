// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs apt with its own configuration, lists and downloads, without root.

use super::Package;
use super::sources::Mirror;
use crate::progress::{Progress, Step};
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[cfg(test)]
mod tests;

/// The architecture of everything that runs on the machine.
pub(super) const ARCHITECTURE: &str = "arm64";

/// apt, configured for one suite.
pub(super) struct Apt<'a> {
    folder: PathBuf,
    logs: &'a Path,
    suites: Suites,
}

/// The suites that packages come from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Suites {
    /// The suite of binary packages; none are fetched when absent.
    pub binaries: Option<&'static str>,
    /// The suite of source packages.
    pub sources: &'static str,
    /// The architecture of the binary packages, in Debian's spelling.
    pub architecture: &'static str,
}

impl Suites {
    /// Returns the suite of the binary packages, or that of the sources when there are none.
    fn main(self) -> &'static str {
        self.binaries.unwrap_or(self.sources)
    }
}

/// A fetched source package.
#[derive(Debug)]
pub(super) struct SourceFiles {
    /// The upstream tarball, with the version of the whole package.
    pub orig: Package,
    /// Debian's part, which has its patches.
    pub debian: Option<Package>,
}

/// A file that apt would fetch.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    file: String,
    size: u64,
}

impl<'a> Apt<'a> {
    /// Writes the configuration into `folder`, where lists and packages are kept too.
    pub(super) fn new(
        folder: &Path,
        logs: &'a Path,
        suites: Suites,
        mirror: &Mirror,
    ) -> Result<Self> {
        let folder = std::path::absolute(folder).context("the current folder no longer exists")?;
        for name in [
            "apt/lists/partial",
            "apt/cache/archives/partial",
            "debs",
            "sources",
        ] {
            let path = folder.join(name);
            std::fs::create_dir_all(&path)
                .with_context(|| format!("{} cannot be made", path.display()))?;
        }
        let write = |name: &str, text: String| {
            let path = folder.join("apt").join(name);
            std::fs::write(&path, text)
                .with_context(|| format!("{} cannot be written", path.display()))
        };
        write("status", String::new())?;
        write("sources.list", sources_list(suites, mirror))?;
        write("apt.conf", configuration(&folder, suites.architecture))?;
        Ok(Self {
            folder,
            logs,
            suites,
        })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        // APT_CONFIG is read after the machine's own configuration and overrides it; the machine's
        // proxy settings still apply.
        command
            .arg("-c")
            .arg(self.folder.join("apt/apt.conf"))
            .env_remove("APT_CONFIG")
            .env("LC_ALL", "C.UTF-8");
        command
    }

    fn output(&self, program: &str, args: &[&str], names: &[String]) -> Result<String> {
        let output = self
            .command(program)
            .args(args)
            .args(names)
            .stdin(Stdio::null())
            .output()
            .with_context(|| {
                format!("{program} cannot be run; Postern fetches its parts with apt")
            })?;
        if !output.status.success() {
            bail!(
                "{program} {} failed: {}",
                args.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Fetches the lists of packages.
    pub(super) fn update(&self, progress: &Progress) -> Result<()> {
        let step = progress.step(&format!(
            "Fetching Debian {}'s package lists",
            self.suites.main()
        ));
        let mut command = self.command("apt-get");
        command.args(["update", "--error-on=any"]);
        step.run(&mut command, &self.logs.join("apt-update.log"))?;
        step.done();
        Ok(())
    }

    /// Returns the packages of the kernel that `meta` depends on: one in trixie, several in sid.
    pub(super) fn kernel_packages(&self, meta: &str) -> Result<Vec<String>> {
        let part = |name: &str| {
            ["linux-image-", "linux-binary-", "linux-modules-"]
                .iter()
                .any(|head| name.starts_with(head))
        };
        let all = self.closure(vec![meta.into()], part)?;
        Ok(all.into_iter().filter(|name| name != meta).collect())
    }

    /// Returns the packages and the libraries that they depend on.
    pub(super) fn with_libraries(&self, names: Vec<String>) -> Result<Vec<String>> {
        let library = |name: &str| name.starts_with("lib") || name == "zlib1g";
        Ok(self.closure(names, library)?.into_iter().collect())
    }

    /// Returns the packages and their dependencies, of which `follow` selects.
    fn closure(
        &self,
        roots: Vec<String>,
        follow: impl Fn(&str) -> bool,
    ) -> Result<BTreeSet<String>> {
        let mut known: BTreeSet<String> = roots.iter().cloned().collect();
        let mut round = roots;
        while !round.is_empty() {
            let text = self.output("apt-cache", &["show", "--no-all-versions"], &round)?;
            round = dependencies(&text)
                .filter(|name| follow(name))
                .filter(|name| known.insert((*name).to_owned()))
                .map(String::from)
                .collect();
        }
        Ok(known)
    }

    /// Fetches packages into `debs/` and removes other files there.
    pub(super) fn download(&self, names: &[String], progress: &Progress) -> Result<Vec<Package>> {
        let step = progress.step(&format!("Fetching {} packages", names.len()));
        let folder = self.folder.join("debs");
        let named: Vec<String> = names
            .iter()
            .map(|name| {
                let Suites { architecture, .. } = self.suites;
                format!("{name}:{architecture}/{}", self.suites.main())
            })
            .collect();
        let wanted = wanted(&self.output("apt-get", &["download", "--print-uris"], &named)?);
        let mut command = self.command("apt-get");
        command.arg("download").args(&named).current_dir(&folder);
        self.fetch(&step, &mut command, &folder, &wanted, "apt-download.log")?;
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if !wanted.iter().any(|wanted| path.ends_with(&wanted.file)) {
                std::fs::remove_file(&path)
                    .with_context(|| format!("{} cannot be removed", path.display()))?;
            }
        }
        let mut packages = wanted
            .iter()
            .map(|wanted| package(&folder, wanted))
            .collect::<Result<Vec<_>>>()?;
        packages.sort_by(|a, b| a.name.cmp(&b.name));
        step.done();
        Ok(packages)
    }

    /// Fetches a source package into `sources/`.
    pub(super) fn download_source(&self, name: &str, progress: &Progress) -> Result<SourceFiles> {
        let step = progress.step(&format!("Fetching the source of {name}"));
        let folder = self.folder.join("sources");
        let named = format!("{name}/{}", self.suites.sources);
        let args = ["source", "--download-only", "--print-uris"];
        let wanted = wanted(&self.output("apt-get", &args, std::slice::from_ref(&named))?);
        let mut command = self.command("apt-get");
        command
            .args(["source", "--download-only"])
            .arg(&named)
            .current_dir(&folder);
        self.fetch(&step, &mut command, &folder, &wanted, "apt-source.log")?;
        let find = |part: &str| wanted.iter().find(|wanted| wanted.file.contains(part));
        let (Some(orig), Some(dsc)) = (find(".orig.tar"), find(".dsc")) else {
            bail!("the source package {name} has no upstream tarball");
        };
        let mut orig = package(&folder, orig)?;
        orig.version = version_of(&dsc.file);
        let debian = find(".debian.tar");
        let debian = debian.map(|debian| package(&folder, debian)).transpose()?;
        step.done();
        Ok(SourceFiles { orig, debian })
    }

    /// Runs a fetching command and reports its progress by the size of the folder.
    fn fetch(
        &self,
        step: &Step,
        command: &mut Command,
        folder: &Path,
        wanted: &[Wanted],
        log: &str,
    ) -> Result<()> {
        let total: u64 = wanted.iter().map(|wanted| wanted.size).sum();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let done: u64 = wanted
                        .iter()
                        .filter_map(|wanted| std::fs::metadata(folder.join(&wanted.file)).ok())
                        .map(|found| found.len())
                        .sum();
                    step.detail(format!("{} of {} MB", done >> 20, total >> 20));
                    std::thread::sleep(Duration::from_millis(300));
                }
            });
            let result = step.run(command, &self.logs.join(log));
            over.store(true, Ordering::Relaxed);
            result
        })
    }
}

/// Returns the sources list: binary packages of one suite, source packages of another.
fn sources_list(suites: Suites, mirror: &Mirror) -> String {
    let from = format!("[signed-by={}] {}", mirror.keyring.display(), mirror.uri);
    let binaries = suites.binaries;
    let binaries = binaries.map(|suite| format!("deb {from} {suite} main\n"));
    let sources = suites.sources;
    binaries.unwrap_or_default() + &format!("deb-src {from} {sources} main\n")
}

/// Returns the configuration. Lines that begin with `#clear` undo settings of the machine: hooks
/// for its own packages, and lists that are not needed here.
fn configuration(folder: &Path, architecture: &str) -> String {
    let folder = folder.display();
    format!(
        r#"#clear APT::Architectures;
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear Acquire::IndexTargets::deb::DEP-11;
#clear Acquire::IndexTargets::deb::CNF;
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Sandbox::User "root";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::GzipIndexes "true";
Acquire::Languages "none";
Acquire::Retries "3";
Dir::Etc::sourcelist "{folder}/apt/sources.list";
Dir::Etc::sourceparts "-";
Dir::Etc::preferences "-";
Dir::Etc::preferencesparts "-";
Dir::State "{folder}/apt";
Dir::State::lists "{folder}/apt/lists";
Dir::State::status "{folder}/apt/status";
Dir::Cache "{folder}/apt/cache";
Dir::Log "{folder}/apt";
"#
    )
}

/// Returns the first alternative of every dependency in the output of `apt-cache show`, without
/// versions.
fn dependencies(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter_map(|line| {
            line.strip_prefix("Depends:")
                .or_else(|| line.strip_prefix("Pre-Depends:"))
        })
        .flat_map(|list| list.split(','))
        .filter_map(|dependency| dependency.split(['|', '(', '[', ':']).next())
        .map(str::trim)
        .filter(|name| !name.is_empty())
}

/// Parses the output of `--print-uris`: one `'uri' file size hash` per line.
fn wanted(text: &str) -> Vec<Wanted> {
    text.lines()
        .filter_map(|line| {
            let (_, rest) = line.strip_prefix('\'')?.split_once("' ")?;
            let mut words = rest.split_whitespace();
            Some(Wanted {
                file: words.next()?.to_owned(),
                size: words.next()?.parse().ok()?,
            })
        })
        .collect()
}

fn package(folder: &Path, wanted: &Wanted) -> Result<Package> {
    let file = folder.join(&wanted.file);
    let size = std::fs::metadata(&file)
        .with_context(|| format!("apt did not fetch {}", wanted.file))?
        .len();
    Ok(Package {
        name: wanted.file.split('_').next().unwrap_or_default().into(),
        version: version_of(&wanted.file),
        file,
        size,
    })
}

/// Returns the version in a file name such as `zlib1g_1%3a1.3.1-1_arm64.deb`.
fn version_of(file: &str) -> String {
    let version = file.split('_').nth(1).unwrap_or_default();
    let version = version.strip_suffix(".dsc").unwrap_or(version);
    version.replace("%3a", ":").replace("%3A", ":")
}
