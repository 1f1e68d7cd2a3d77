// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Chooses the OP-TEE in the firmware: Debian's binary, or a build for the system's number of VMs
//! and its ABI, from Debian's source package or the user's source tree.

use crate::board::Board;
use crate::config::{MachineConfig, PACKAGED_GUESTS, TeeAbi};
use crate::make;
use crate::parts::deb::{self, Content};
use crate::parts::{Package, Parts, optee_source};
use crate::paths::Paths;
use crate::prepare::Suite;
use crate::progress::Progress;
use crate::stamp;
use anyhow::{Context, Result, bail};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

#[cfg(test)]
mod tests;

/// The environment variable with the folder of a source tree from which every OP-TEE is built.
pub const SOURCE_VARIABLE: &str = "POSTERN_OPTEE_SRC";
/// OP-TEE's images: the header, the core, and the pageable part (empty here).
pub const IMAGES: [&str; 3] = [
    "tee-header_v2.bin",
    "tee-pager_v2.bin",
    "tee-pageable_v2.bin",
];
/// OP-TEE as one image without a header, for boards where it is put into RAM.
pub const RAW_IMAGE: &str = "tee-raw.bin";
/// The folder in OP-TEE's package of the build for QEMU; the build for virtualisation has a suffix.
const PACKAGED: &str = "usr/lib/optee/vexpress-qemu_armv8a";
const VIRTUALISED: &str = "-virtualized";
/// The key that signs the suite's trusted applications, in the package of OP-TEE's development kit.
const KEY: &str = "usr/lib/optee-os-dev/vexpress-qemu_armv8a-virtualized/keys/default.pem";
/// The flags of Debian's own build, without those that depend on the board or on its use, which
/// come from [`flags`].
///
/// Two flags are added: a panic does not halt the CPUs that are not in OP-TEE, so that guests without
/// a TEE go on. And the heap that all VMs share has more than 16 KiB, of which VMs that start and end
/// leave no two aligned pages at times, which xtest 1001 needs.
const FLAGS: [&str; 8] = [
    "CFG_HALT_CORES_ON_PANIC=n",
    "CFG_CORE_NEX_HEAP_SIZE=65536",
    "CFG_TEE_CORE_LOG_LEVEL=3",
    "CFG_TEE_BENCHMARK=n",
    "CFG_ARM64_core=y",
    "CFG_USER_TA_TARGETS=ta_arm64",
    "DEBUG=0",
    "CROSS_COMPILE=aarch64-linux-gnu-",
];
/// A user's setting with which a VM's translation tables are a fixed number. The hypervisor has to
/// be told.
const STATIC_TABLES: &str = "CFG_DYN_CONFIG=n";
/// Debian's Python, which has the modules that OP-TEE's build needs. Another Python that comes
/// first in the user's `PATH` rarely has them.
const PYTHON: &str = "/usr/bin/python3";

/// An OP-TEE for the firmware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Optee {
    /// Whether OP-TEE is built for virtualisation.
    pub virtualised: bool,
    /// The ABI of OP-TEE.
    pub abi: TeeAbi,
    /// The part of a file's name that identifies this OP-TEE among those of its suite.
    pub kind: String,
    /// The version, with what is special about this build.
    pub version: String,
    /// Whether it is built here rather than a package's binary.
    pub is_built: bool,
    /// Whether OP-TEE's translation tables are known to be a fixed number.
    pub static_tables: bool,
    /// The files that the firmware takes.
    images: &'static [&'static str],
    from: From,
}

/// The place of the images.
#[derive(Clone, Debug, PartialEq, Eq)]
enum From {
    /// A package, and the folder in it.
    Package(Package, String),
    /// A folder, and a hash of its content.
    Folder(PathBuf, u64),
}

impl Optee {
    /// Describes the inputs of this OP-TEE, for a stamp.
    #[must_use]
    pub fn made_of(&self) -> String {
        let Self { kind, version, .. } = self;
        match &self.from {
            From::Package(..) => format!("OP-TEE {version} ({kind})"),
            From::Folder(_, content) => format!("OP-TEE {version} ({kind}, {content:016x})"),
        }
    }

    /// Copies the images into a folder.
    ///
    /// # Errors
    /// Fails when an image is missing.
    pub fn put(&self, into: &Path) -> Result<()> {
        match &self.from {
            From::Package(package, folder) => take(package, folder, into),
            From::Folder(folder, _) => self.images.iter().try_for_each(|name| {
                let file = folder.join(name);
                let bytes = std::fs::read(&file).with_context(|| file.display().to_string())?;
                stamp::write(&into.join(name), &bytes)
            }),
        }
    }
}

/// Returns Debian's binary.
///
/// # Errors
/// Fails when the package was not fetched.
pub fn packaged(parts: &Parts, virtualised: bool) -> Result<Optee> {
    let (kind, ending) = if virtualised {
        ("virtualised", VIRTUALISED)
    } else {
        ("native", "")
    };
    let package = parts.package("optee-os")?;
    Ok(Optee {
        virtualised,
        abi: TeeAbi::Smc,
        kind: kind.into(),
        version: package.version.clone(),
        is_built: false,
        static_tables: false,
        images: &IMAGES,
        from: From::Package(package.clone(), format!("{PACKAGED}{ending}")),
    })
}

/// Copies the images from a package.
fn take(package: &Package, folder: &str, into: &Path) -> Result<()> {
    let wanted = |path: &str| {
        path.strip_prefix(folder)
            .and_then(|rest| rest.strip_prefix('/'))
            .is_some_and(|name| IMAGES.contains(&name))
    };
    let entries = deb::read(&package.file, wanted)?;
    if entries.len() != IMAGES.len() {
        bail!(
            "{} {} has {} of OP-TEE's {} images in {folder}",
            package.name,
            package.version,
            entries.len(),
            IMAGES.len()
        );
    }
    for entry in entries {
        if let Content::File { data, .. } = entry.content {
            let name = entry.path.rsplit('/').next().unwrap_or_default();
            stamp::write(&into.join(name), &data)?;
        }
    }
    Ok(())
}

/// Checks that the folder that the user names as OP-TEE's source is one, if the user names one.
///
/// # Errors
/// Fails when it is not; says how to fix it.
pub fn check_source() -> Result<()> {
    match std::env::var_os(SOURCE_VARIABLE).filter(|folder| !folder.is_empty()) {
        Some(tree) => settings(Path::new(&tree)).map(drop),
        None => Ok(()),
    }
}

/// Reads the defaults of a source tree from a file that no other tree has.
fn settings(tree: &Path) -> Result<String> {
    std::fs::read_to_string(tree.join("mk/config.mk")).with_context(|| {
        format!(
            "OPTEE_SRC={} is no source tree of OP-TEE OS: it has no readable mk/config.mk",
            tree.display()
        )
    })
}

/// The source to build.
enum TeeSource {
    /// Debian's source package.
    Debian,
    /// The user's tree.
    Own(PathBuf),
}

/// Returns the OP-TEE for a machine, and builds it if need be.
///
/// # Errors
/// Fails when a part cannot be fetched or OP-TEE does not build; names the build's log.
pub fn choose(
    paths: &Paths,
    suite: Suite,
    machine: &MachineConfig,
    virtualised: bool,
    parts: &Parts,
    refresh: bool,
    progress: &Progress,
) -> Result<Optee> {
    let own = std::env::var_os(SOURCE_VARIABLE).filter(|folder| !folder.is_empty());
    let board = machine.board.board();
    let special = machine.optee_guests.is_some() || !machine.optee_flags.is_empty();
    // Debian's binaries are for SMCs.
    let packaged_here = board.optee.packaged && machine.tee_abi == TeeAbi::Smc;
    let source = match own {
        Some(folder) => TeeSource::Own(folder.into()),
        None if virtualised && special || !packaged_here => TeeSource::Debian,
        None => return packaged(parts, virtualised),
    };
    let guests = virtualised.then_some(machine.optee_guests.unwrap_or(PACKAGED_GUESTS));
    let build = Build {
        paths,
        suite,
        board,
        abi: machine.tee_abi,
        guests,
        settings: &machine.optee_flags,
        key: key(parts)?,
        progress,
    };
    match source {
        TeeSource::Debian => build.debian(refresh),
        TeeSource::Own(tree) => build.own(&tree),
    }
}

/// A build of OP-TEE.
struct Build<'a> {
    paths: &'a Paths,
    suite: Suite,
    board: &'static Board,
    abi: TeeAbi,
    /// The number of VMs that OP-TEE has room for; `None` without virtualisation.
    guests: Option<u32>,
    /// The description's settings, which add to the flags or replace them.
    settings: &'a [String],
    /// The key that signs the suite's trusted applications, which come from packages. Each source
    /// version has another key.
    key: Vec<u8>,
    progress: &'a Progress,
}

fn key(parts: &Parts) -> Result<Vec<u8>> {
    let package = parts.package("optee-os-dev")?;
    let mut found = deb::read(&package.file, |path| path == KEY)?;
    match found.pop().map(|entry| entry.content) {
        Some(Content::File { data, .. }) => Ok(data),
        _ => bail!("{} {} has no {KEY}", package.name, package.version),
    }
}

/// Returns make's arguments after the output folder. `settings` replace flags of the same name.
fn flags(board: &Board, abi: TeeAbi, guests: Option<u32>, settings: &[String]) -> Vec<String> {
    let own = match guests {
        Some(guests) => vec![
            "CFG_NS_VIRTUALIZATION=y".into(),
            format!("CFG_VIRT_GUEST_COUNT={guests}"),
        ],
        None => vec!["CFG_NS_VIRTUALIZATION=n".into()],
    };
    let name = |flag: &str| flag.split('=').next().unwrap_or_default().to_owned();
    let replaced = |flag: &str| settings.iter().any(|setting| name(setting) == name(flag));
    let usual = FLAGS.into_iter().chain(board.optee_flags(abi));
    let usual = usual.filter(|flag| !replaced(flag));
    (usual.map(String::from))
        .chain(own)
        .chain(settings.iter().cloned())
        .collect()
}

impl Build<'_> {
    fn flags(&self) -> Vec<String> {
        flags(self.board, self.abi, self.guests, self.settings)
    }

    /// Returns the suite of the source. For FF-A it is always sid's 4.10: trixie's 4.5 has not run
    /// as SPMC.
    fn source_suite(&self) -> Suite {
        match self.abi {
            TeeAbi::Smc => self.suite,
            TeeAbi::Ffa => Suite::Sid,
        }
    }

    fn what(&self) -> String {
        let guests = match self.guests {
            Some(1) => "for 1 VM".into(),
            Some(guests) => format!("for {guests} VMs"),
            None => "not virtualised".into(),
        };
        let built = match self.abi {
            TeeAbi::Smc => guests,
            TeeAbi::Ffa => format!("{guests}, for FF-A"),
        };
        match self.settings {
            [] => built,
            settings => format!("{built}, {}", settings.join(" ")),
        }
    }

    fn ending(&self) -> String {
        let guests = self
            .guests
            .map_or_else(|| "native".into(), |guests| guests.to_string());
        let board = match self.board.optee.packaged {
            true => String::new(),
            false => format!("{}-", self.board.name),
        };
        let abi = match self.abi {
            TeeAbi::Smc => "",
            TeeAbi::Ffa => "ffa-",
        };
        match self.settings {
            [] => format!("{board}{abi}{guests}"),
            settings => format!("{board}{abi}{guests}-{:08x}", hash(&settings) as u32),
        }
    }

    /// Builds from Debian's source, in minutes, and keeps the result with the downloads.
    fn debian(&self, refresh: bool) -> Result<Optee> {
        let source = optee_source(self.paths, self.source_suite(), refresh, self.progress)?;
        let version = &source.orig.version;
        let name = format!("{version}-{}", self.ending());
        let kept = self.paths.built_optee(self.suite).join(&name);
        let flags = self.flags().join("\n");
        let key = hash(&self.key);
        let mut made_of = format!("OP-TEE {version}\nkey {key:016x}\n{flags}\n");
        let patches = self.board.optee.patches;
        for (_, patch) in patches {
            made_of += patch;
        }
        if !stamp::is_fresh(&kept, &made_of) {
            install_tools(self.paths)?;
            let out = std::path::absolute(self.paths.out().join("optee"))?;
            let title = format!("Building OP-TEE {version} {}", self.what());
            let step = self.progress.step(&title);
            let tree = out.join(self.board.source_name(version, patches));
            let logs = self.paths.build_logs();
            source.unpack(&tree, patches, &step, &logs.join("optee-patches.log"))?;
            let name = format!("{}-{name}", self.suite);
            let folder = out.join(&name);
            let log = logs.join(format!("optee-{name}.log"));
            step.run(&mut self.make(&tree, &folder)?, &log)?;
            for image in self.images() {
                let file = folder.join("core").join(image);
                let bytes = std::fs::read(&file)
                    .with_context(|| format!("{} was not built", file.display()))?;
                stamp::write(&kept.join(image), &bytes)?;
            }
            stamp::mark(&kept, &made_of)?;
            step.done();
        }
        self.optee(
            format!("built-{}", self.ending()),
            format!("{version}, built {}", self.what()),
            kept,
        )
    }

    /// Builds from the user's tree. Only the tree's own build knows what has changed there, so it
    /// runs each time.
    fn own(&self, tree: &Path) -> Result<Optee> {
        let tree = std::path::absolute(tree).context("the current folder no longer exists")?;
        let settings = settings(&tree)?;
        install_tools(self.paths)?;
        let kind = format!("own-{}", self.ending());
        let name = format!("{}-{kind}", self.suite);
        let folder = std::path::absolute(self.paths.out().join("optee").join(&name))?;
        let title = format!("Building OP-TEE in {} {}", tree.display(), self.what());
        let step = self.progress.step(&title);
        let log = self.paths.build_logs().join(format!("optee-{name}.log"));
        // Objects of another tree would be taken for this one's.
        if !stamp::is_fresh(&folder, &format!("{}\n", tree.display())) && folder.is_dir() {
            std::fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        stamp::mark(&folder, &format!("{}\n", tree.display()))?;
        step.run(&mut self.make(&tree, &folder)?, &log)?;
        step.done();
        let version = version(&settings).unwrap_or_else(|| "of an unknown version".into());
        let version = format!("{version}, own source, {}", self.what());
        self.optee(kind, version, folder.join("core"))
    }

    fn images(&self) -> &'static [&'static str] {
        self.board.tf_a.form.optee_images()
    }

    fn optee(&self, kind: String, version: String, folder: PathBuf) -> Result<Optee> {
        let read = |image: &&str| {
            let file = folder.join(image);
            std::fs::read(&file).with_context(|| file.display().to_string())
        };
        let images = self.images().iter().map(read).collect::<Result<Vec<_>>>()?;
        let content = hash(&images);
        Ok(Optee {
            virtualised: self.guests.is_some(),
            abi: self.abi,
            kind,
            version,
            is_built: true,
            static_tables: self.flags().iter().any(|flag| flag == STATIC_TABLES),
            images: self.images(),
            from: From::Folder(folder, content),
        })
    }

    fn make(&self, tree: &Path, folder: &Path) -> Result<Command> {
        let key = folder.with_file_name(format!("{}.pem", self.suite));
        if std::fs::read(&key).ok().as_ref() != Some(&self.key) {
            stamp::write(&key, &self.key)?;
        }
        let mut make = make::command(tree);
        // Python's cryptography module does not have to find OpenSSL's old algorithms.
        make.env("CRYPTOGRAPHY_OPENSSL_NO_LEGACY", "1")
            .arg(format!("O={}", folder.display()))
            .args(self.flags())
            .arg(format!("TA_SIGN_KEY={}", key.display()))
            .arg(format!("PYTHON3={PYTHON}"));
        Ok(make)
    }
}

/// Installs what only builds of OP-TEE and of firmware for FF-A need, and says so.
pub(crate) fn install_tools(paths: &Paths) -> Result<()> {
    let status = Command::new("sh")
        .arg(paths.root().join("qemu/setup.sh"))
        .arg("optee")
        .status()
        .context("sh cannot be run")?;
    if !status.success() {
        bail!("OP-TEE cannot be built without the packages that qemu/setup.sh lists");
    }
    Ok(())
}

/// Hashes content, to tell apart a user's changes. It does not resist an attacker.
pub(crate) fn hash(content: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}

/// Returns the version in OP-TEE's `mk/config.mk`.
fn version(settings: &str) -> Option<String> {
    let find = |name: &str| {
        let mut lines = settings.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.trim().strip_prefix("?="))?;
        Some(value.trim().to_owned())
    };
    let major = find("CFG_OPTEE_REVISION_MAJOR")?;
    let minor = find("CFG_OPTEE_REVISION_MINOR")?;
    let extra = find("CFG_OPTEE_REVISION_EXTRA").unwrap_or_default();
    Some(format!("{major}.{minor}.0{extra}"))
}
