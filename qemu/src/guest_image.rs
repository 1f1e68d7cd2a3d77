// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Builds the image that a guest boots: Debian's kernel, and an initramfs with Debian's OP-TEE
//! client, xtest and trusted applications, whose first process is the agent. All guests and native
//! runs boot the same image.

mod cpio;
mod disk;
mod ext4;
mod kernel;
mod rootfs;

use crate::config::{Linux, TeeAbi};
use crate::parts::deb::{self, Content};
use crate::parts::{Package, Parts};
use crate::paths::Paths;
use crate::prepare::Suite;
use crate::progress::{Progress, Step};
use crate::stamp;
use anyhow::{Context, Result, bail};
pub(crate) use disk::{Partition, write as write_disk};
pub(crate) use kernel::image_size;
use rootfs::RootFs;
use std::path::{Path, PathBuf};

/// The version of the recipe for the image; a change of the recipe increments it.
const RECIPE: u32 = 3;
/// The version of the recipe for what guests with devices boot besides.
const DEVICE_RECIPE: u32 = 2;
/// The folder of the modules, and in newer packages of the kernel; the kernel's release follows.
const MODULES: &str = "usr/lib/modules/";
/// The modules that a guest needs; their dependencies are added.
const DRIVERS: &[&str] = &[
    "evdev",
    "gpio_keys",
    "sbsa_gwdt",
    "tee",
    "optee",
    "optee_rng",
];
/// The modules of FF-A. `ffa_module` finds the partitions, and no module depends on it.
const FFA_DRIVERS: &[&str] = &["ffa_core", "ffa_module"];
/// A module that older kernels cannot load by themselves when ext4 asks for it: there is no `modprobe`. In newer ones
/// ext4 does not ask, and there is no such module.
const CRC32C: &str = "crc32c_generic";
/// The modules that a guest needs besides for disks, network cards, links and random numbers.
const DEVICE_DRIVERS: &[&str] = &[
    "virtio_blk",
    "virtio_rng",
    "virtio_net",
    "virtio_mmio",
    CRC32C,
    "ext4",
    "nvme_tcp",
    "nvmet_tcp",
];
/// The folder of the TA development kit that has OP-TEE's own TAs, such as PKCS#11.
const OPTEE_TAS: &str = "usr/lib/optee-os-dev/vexpress-qemu_armv8a-virtualized/ta/";
/// The folder in which the supplicant looks for TAs.
const TAS: &str = "usr/lib/optee_armtz/";
/// The folder of the libraries.
const LIBRARIES: &str = "usr/lib/aarch64-linux-gnu/";

/// A kernel and an initramfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestImage {
    /// The kernel, a raw arm64 `Image`.
    pub kernel: PathBuf,
    /// The initramfs, compressed with gzip.
    pub initrd: PathBuf,
    /// The kernel's release, as `uname -r` says it.
    pub release: String,
    /// What guests with devices or links boot, if there are any.
    pub devices: Option<DeviceImage>,
}

/// The files for guests with devices or links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceImage {
    /// The initramfs with the drivers.
    pub initrd: PathBuf,
    /// The root file system, an ext4 image.
    pub root: PathBuf,
}

/// What drivers guests need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drivers {
    /// The ABI by which they reach OP-TEE.
    pub abi: TeeAbi,
    /// Whether there are guests with devices or links.
    pub devices: bool,
}

impl Drivers {
    /// Returns the modules that every guest loads, in an order that [`kernel::modules`] completes.
    fn of_every_guest(self) -> Vec<&'static str> {
        let ffa = match self.abi {
            TeeAbi::Smc => &[][..],
            TeeAbi::Ffa => FFA_DRIVERS,
        };
        ffa.iter().chain(DRIVERS).copied().collect()
    }
}

/// Builds a suite's image with `agent`, a static program, as its `/init`, and with these drivers; if
/// there are guests with devices, also what they boot.
///
/// # Errors
/// Fails when a package is not as expected; names it.
pub fn build(
    paths: &Paths,
    suite: Suite,
    linux: Linux,
    drivers: Drivers,
    parts: &Parts,
    agent: &Path,
    progress: &Progress,
) -> Result<GuestImage> {
    let folder = paths.built_guest(suite, linux, drivers.abi);
    let wanted = drivers.of_every_guest();
    let kernel = folder.join("Image");
    let base = folder.join("base.cpio.gz");
    let note = folder.join("release");
    let mut made_of = inputs(parts);
    if wanted != DRIVERS {
        made_of += &format!("modules {}\n", wanted.join(" "));
    }
    if !(stamp::is_fresh(&base, &made_of) && kernel.exists() && note.exists()) {
        let step = progress.step(&format!("Building the guest image of Debian {suite}"));
        let (release, image) = take_kernel(parts, &step)?;
        stamp::write(&kernel, &image.raw)?;
        stamp::write(&note, release.as_bytes())?;
        let mut root = programs(parts, false, &step)?;
        add_modules(&mut root, "order", &image.modules, &wanted)?;
        step.detail("compressing");
        stamp::write(&base, &gzip(&cpio::archive(root.entries())?)?)?;
        stamp::mark(&base, &made_of)?;
        step.done();
    }
    let initrd = folder.join("initrd.gz");
    // The kernel unpacks concatenated archives, so a new agent needs no new base.
    let agent = std::fs::read(agent).with_context(|| agent.display().to_string())?;
    let mut init = RootFs::default();
    init.file("init", 0o755, agent);
    let mut whole = std::fs::read(&base).with_context(|| base.display().to_string())?;
    whole.extend(gzip(&cpio::archive(init.entries())?)?);
    write_if_new(&initrd, &whole)?;
    let devices = if drivers.devices {
        Some(device_image(&folder, parts, whole, &made_of, progress)?)
    } else {
        None
    };
    let release = std::fs::read_to_string(&note).with_context(|| note.display().to_string())?;
    Ok(GuestImage {
        kernel,
        initrd,
        release,
        devices,
    })
}

/// Builds what guests with devices boot. `initrd` is that of guests without.
fn device_image(
    folder: &Path,
    parts: &Parts,
    mut initrd: Vec<u8>,
    made_of: &str,
    progress: &Progress,
) -> Result<DeviceImage> {
    let drivers = folder.join("drivers.cpio.gz");
    let made_of = format!("{made_of}device recipe {DEVICE_RECIPE}\n");
    let image = DeviceImage {
        initrd: folder.join("initrd-devices.gz"),
        root: folder.join("root.ext4"),
    };
    if !(stamp::is_fresh(&drivers, &made_of) && stamp::is_fresh(&image.root, &made_of)) {
        let step = progress.step("Building the root file system of guests with devices");
        let (_, kernel) = take_kernel(parts, &step)?;
        let mut modules = RootFs::default();
        let mut wanted = DEVICE_DRIVERS.to_vec();
        wanted.retain(|name| *name != CRC32C || kernel::has(&kernel.modules, name));
        add_modules(&mut modules, "devices", &kernel.modules, &wanted)?;
        stamp::write(&drivers, &gzip(&cpio::archive(modules.entries())?)?)?;
        ext4::make(&programs(parts, true, &step)?, &image.root)?;
        stamp::mark(&drivers, &made_of)?;
        stamp::mark(&image.root, &made_of)?;
        step.done();
    }
    initrd.extend(std::fs::read(&drivers).with_context(|| drivers.display().to_string())?);
    write_if_new(&image.initrd, &initrd)?;
    Ok(image)
}

fn write_if_new(file: &Path, content: &[u8]) -> Result<()> {
    if std::fs::read(file).ok().as_deref() == Some(content) {
        return Ok(());
    }
    stamp::write(file, content)
}

/// Builds an archive of all trusted applications of a suite for guests other than Linux: the files
/// `UUID.ta`, uncompressed.
///
/// # Errors
/// Fails when a package is not as expected; names it.
pub fn applications(
    paths: &Paths,
    suite: Suite,
    parts: &Parts,
    progress: &Progress,
) -> Result<PathBuf> {
    let archive = paths.built(suite).join("applications.cpio");
    let made_of = inputs(parts);
    if !stamp::is_fresh(&archive, &made_of) {
        let step = progress.step(&format!("Collecting the TAs of Debian {suite}"));
        let mut root = RootFs::default();
        let sources = [("optee-test-qemu", TAS), ("optee-os-dev", OPTEE_TAS)];
        for (package, folder) in sources {
            take(&mut root, parts.package(package)?, |path| {
                let name = path.strip_prefix(folder)?;
                name.ends_with(".ta").then(|| name.to_owned())
            })?;
        }
        if root.entries().next().is_none() {
            bail!("no package has trusted applications");
        }
        stamp::write(&archive, &cpio::archive(root.entries())?)?;
        stamp::mark(&archive, &made_of)?;
        step.done();
    }
    Ok(archive)
}

/// Lists everything that the image's base is made of.
fn inputs(parts: &Parts) -> String {
    let mut text = format!("recipe {RECIPE}\n");
    for package in parts.packages(|name| name != "optee-os") {
        text += &format!("{} {}\n", package.name, package.version);
    }
    text
}

/// A kernel from its packages.
struct Kernel {
    raw: Vec<u8>,
    /// The path and content of every module; a module is decompressed when it is needed.
    modules: Vec<(String, Vec<u8>)>,
}

fn take_kernel(parts: &Parts, step: &Step) -> Result<(String, Kernel)> {
    let is_kernel = |path: &str| {
        path.starts_with("boot/vmlinuz-")
            || (path.starts_with(MODULES) && path.ends_with("/vmlinuz"))
    };
    let is_module = |path: &str| path.starts_with(MODULES) && path.contains(".ko");
    let mut found = None;
    let mut modules = Vec::new();
    for package in parts.packages(|name| name.starts_with("linux-")) {
        step.detail(format!("reading {}", package.name));
        for entry in deb::read(&package.file, |path| is_kernel(path) || is_module(path))? {
            let Content::File { data, .. } = entry.content else {
                continue;
            };
            if is_module(&entry.path) {
                modules.push((entry.path, data));
            } else {
                found = Some((release_of(&entry.path), data));
            }
        }
    }
    let (release, data) = found.context("the kernel's packages have no vmlinuz")?;
    let raw = kernel::raw_image(data).context("Debian's kernel")?;
    Ok((release, Kernel { raw, modules }))
}

/// Returns the release in `boot/vmlinuz-R` or `usr/lib/modules/R/vmlinuz`.
fn release_of(path: &str) -> String {
    let rest = path
        .strip_prefix("boot/vmlinuz-")
        .or_else(|| path.strip_prefix(MODULES)?.strip_suffix("/vmlinuz"));
    rest.unwrap_or_default().to_owned()
}

/// Adds modules, their dependencies, and a list of them in loading order.
fn add_modules(
    root: &mut RootFs,
    list: &str,
    all: &[(String, Vec<u8>)],
    wanted: &[&str],
) -> Result<()> {
    let mut order = String::new();
    for (name, data) in kernel::modules(all, wanted)? {
        order += &format!("{name}.ko\n");
        root.file(&format!("modules/{name}.ko"), 0o644, data);
    }
    root.file(&format!("modules/{list}"), 0o644, order.into_bytes());
    Ok(())
}

/// Returns everything but the kernel's modules. A disk has room for `pkcs11-tool` and its libraries as well.
fn programs(parts: &Parts, on_disk: bool, step: &Step) -> Result<RootFs> {
    let mut root = RootFs::skeleton();
    step.detail("reading the TEE's client side");
    take(&mut root, parts.package("busybox-static")?, |path| {
        (path == "usr/bin/busybox").then(|| path.to_owned())
    })?;
    root.busybox_links();
    take(&mut root, parts.package("optee-test-qemu")?, |path| {
        let wanted = path == "usr/bin/xtest"
            || path.starts_with(TAS)
            || path.starts_with("usr/lib/tee-supplicant/");
        wanted.then(|| path.to_owned())
    })?;
    take(&mut root, parts.package("optee-os-dev")?, |path| {
        let name = path.strip_prefix(OPTEE_TAS)?;
        Some(format!("{TAS}{name}"))
    })?;
    take(&mut root, parts.package("tee-supplicant")?, |path| {
        (path == "usr/sbin/tee-supplicant").then(|| path.to_owned())
    })?;
    for package in parts.packages(|name| name == "rt-tests") {
        take(&mut root, package, |path| {
            (path == "usr/bin/cyclictest").then(|| path.to_owned())
        })?;
    }
    if on_disk {
        take(&mut root, parts.package("opensc")?, |path| {
            (path == "usr/bin/pkcs11-tool").then(|| path.to_owned())
        })?;
    }
    let mut libraries = RootFs::default();
    let has_libraries =
        |name: &str| name.starts_with("lib") || ["zlib1g", "opensc-pkcs11"].contains(&name);
    for package in parts.packages(has_libraries) {
        take(&mut libraries, package, |path| {
            let name = path.strip_prefix(LIBRARIES)?;
            (!name.contains('/') && name.contains(".so.")).then(|| path.to_owned())
        })?;
    }
    root.link_libraries(&libraries, LIBRARIES)?;
    for path in [
        "usr/bin/busybox",
        "usr/bin/xtest",
        "usr/sbin/tee-supplicant",
    ] {
        if !root.has(path) {
            bail!("no package has {path}");
        }
    }
    Ok(root)
}

/// Copies into the tree those files of a package to which `place` gives a path.
fn take(
    root: &mut RootFs,
    package: &Package,
    place: impl Fn(&str) -> Option<String>,
) -> Result<()> {
    for entry in deb::read(&package.file, |path| place(path).is_some())? {
        let path = place(&entry.path).unwrap_or(entry.path);
        match entry.content {
            Content::File { mode, data } => root.file(&path, mode, data),
            Content::Link { target, symbolic } => {
                // A hard link's target is a path from the root.
                let target = if symbolic {
                    target
                } else {
                    format!("/{target}")
                };
                root.link(&path, &target);
            }
        }
    }
    Ok(())
}

fn gzip(data: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, data)?;
    Ok(encoder.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_comes_from_kernel_path() {
        let paths = [
            "boot/vmlinuz-6.12.1+deb13-arm64",
            "usr/lib/modules/6.12.1+deb13-arm64/vmlinuz",
        ];
        for path in paths {
            assert_eq!(release_of(path), "6.12.1+deb13-arm64");
        }
    }
}
