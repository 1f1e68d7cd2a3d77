// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Prepares everything that QEMU needs from a system's description: [`prepare`].

use crate::board::BoardName;
use crate::config::{self, Linux, MachineConfig, System, Vm};
use crate::guest_image::Drivers;
use crate::launch::{Firmware, Wiring};
use crate::parts::Parts;
use crate::parts::deb::{self, Content};
use crate::paths::Paths;
use crate::progress::Progress;
use crate::{cargo, elf, firmware, guest_image, optee, parts, stamp};
use anyhow::{Context, Result, bail};
use guest_agent::role::Role;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

mod guests;
mod placed;
mod roles;
pub(crate) use guests::Guests;
use placed::{Boots, Entered};
use roles::Roles;

/// The name of the emulator.
pub const QEMU: &str = "qemu-system-aarch64";
/// The environment variable that, when set, makes [`prepare`] ask Debian for newer parts than the
/// cache's.
pub const UPDATE_VARIABLE: &str = "POSTERN_UPDATE";
/// The target of the hypervisor and of bare-metal programs.
pub const BARE_TARGET: &str = "aarch64-unknown-none-softfloat";
const GUEST_TARGET: &str = "aarch64-unknown-linux-musl";

/// A Debian suite that the parts come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Suite {
    /// The stable release, which is tested most.
    #[default]
    Trixie,
    /// Debian's newest OP-TEE and Linux.
    Sid,
}

impl Suite {
    /// Returns Debian's name of the suite.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Trixie => "trixie",
            Self::Sid => "sid",
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

impl std::str::FromStr for Suite {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "trixie" => Ok(Self::Trixie),
            "sid" => Ok(Self::Sid),
            _ => Err(format!("there is no suite \"{text}\"; it is trixie or sid")),
        }
    }
}

/// The program above the firmware, and the kind of OP-TEE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// The hypervisor on the virtualised OP-TEE: the product.
    Shared,
    /// Linux on the non-virtualised OP-TEE, no hypervisor: the baseline. The first VM's kernel,
    /// initramfs and command line get the whole machine.
    Native,
    /// The hypervisor on the non-virtualised OP-TEE, which it must refuse.
    Mismatched,
    /// A bare-metal program that replaces the hypervisor, at EL2 on the virtualised OP-TEE. The
    /// first VM's program, RAM disk and command line get the whole machine.
    Bare,
}

impl Flavour {
    /// Returns whether OP-TEE is built for virtualisation.
    #[must_use]
    pub fn virtualised_tee(self) -> bool {
        matches!(self, Self::Shared | Self::Bare)
    }

    /// Returns how the consoles reach the host.
    #[must_use]
    pub fn wiring(self) -> Wiring {
        match self {
            Self::Shared | Self::Mismatched => Wiring::Multiplexed,
            Self::Native | Self::Bare => Wiring::Plain,
        }
    }
}

/// The options of [`prepare`].
#[derive(Clone, Debug)]
pub struct PrepareOptions {
    /// The checkout.
    pub paths: Paths,
    /// The suite that the parts come from.
    pub suite: Suite,
    /// The program above the firmware.
    pub flavour: Flavour,
    /// The system. The caller may have changed it, for example extended a command line.
    pub system: System,
    /// The folder for files of this boot alone (`boot.dtb`); it is created.
    pub folder: PathBuf,
}

/// A file that QEMU puts into RAM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// The path of the file.
    pub file: PathBuf,
    /// The physical address of the file's first byte.
    pub address: u64,
}

/// The versions of the real parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    /// The Debian suite.
    pub suite: String,
    /// The package version of OP-TEE OS, and what is special about a build.
    pub optee: String,
    /// Whether OP-TEE is built here rather than a package's binary.
    pub optee_is_built: bool,
    /// The package version of xtest and its TAs.
    pub xtest: String,
    /// The release of the guest kernel, as `uname -r` says it.
    pub linux: String,
    /// The package version of TF-A.
    pub tf_a: String,
}

/// Everything that QEMU needs.
#[derive(Clone, Debug)]
pub struct Artifacts {
    /// QEMU's program.
    pub qemu: PathBuf,
    /// TF-A and OP-TEE.
    pub firmware: Firmware,
    /// The boot device tree.
    pub tree: PathBuf,
    /// Whether QEMU places the tree; otherwise it is among the loads.
    pub placed_by_qemu: bool,
    /// The files in RAM at reset: first what the firmware enters, then kernels and initramfs, then
    /// parts of the firmware.
    pub loads: Vec<Load>,
    /// The RAM that kernels and initramfs take, in bytes.
    pub modules: u64,
    /// What the guests do with devices and links, in the order of the VMs.
    pub roles: Vec<Role>,
    /// The ELF file of the hypervisor or its replacement, for symbols; none for a native boot.
    pub hypervisor_elf: Option<PathBuf>,
    /// The machine.
    pub machine: MachineConfig,
    /// The versions of the real parts.
    pub versions: Versions,
}

/// Returns QEMU's arguments for the bare machine.
fn machine_args(machine: &MachineConfig) -> Vec<OsString> {
    let board = machine.board.board();
    let text = format!(
        "-M {} -cpu {} -smp {} -m {} -nographic -net none",
        machine.model(),
        board.cpu(machine.cpu.as_deref()),
        machine.cpus,
        machine.memory_mib
    );
    text.split_whitespace().map(OsString::from).collect()
}

/// Returns a QEMU option with a file name, in which commas are doubled.
fn with_file(head: &str, file: &Path, tail: &str) -> OsString {
    let file = file.to_string_lossy().replace(',', ",,");
    format!("{head}{file}{tail}").into()
}

/// Fetches, builds and composes what is missing or out of date, and reports progress when it takes
/// long. It takes a second when nothing changed, and needs no network once the parts are there. In
/// a checkout one process at a time does it; others wait.
///
/// # Errors
/// Names what could not be fetched or built, and its log.
pub fn prepare(options: &PrepareOptions, progress: &Progress) -> Result<Artifacts> {
    let roles = Roles::of(&options.system, options.flavour);
    let options = &PrepareOptions {
        system: roles.told(&options.system),
        ..options.clone()
    };
    let PrepareOptions {
        paths,
        suite,
        flavour,
        system,
        folder,
    } = options;
    let _lock = lock(paths, progress)?;
    let qemu = parts::qemu(paths, system.machine.least_qemu(), progress)?;
    for disk in &system.machine.disks {
        disk.make()?;
    }
    let update = wants_update();
    let abi = system.machine.tee_abi;
    let parts = guests::fetch(paths, *suite, Linux::Standard, abi, update, progress)?;
    let virtualised = flavour.virtualised_tee() && system.machine.optee_virtualised;
    let optee = optee::choose(
        paths,
        *suite,
        &system.machine,
        virtualised,
        &parts,
        update,
        progress,
    )?;
    let board = system.machine.board.board();
    let built = firmware::build(paths, *suite, board, &optee, &parts, progress)?;
    let drivers = Drivers {
        abi,
        devices: roles.any(),
    };
    let guests = Guests::build(
        paths,
        *suite,
        &system.vms,
        drivers,
        &parts,
        update,
        progress,
    )?;
    let versions = Versions {
        suite: suite.name().into(),
        optee: optee.version.clone(),
        optee_is_built: optee.is_built,
        xtest: parts.package("optee-test-qemu")?.version.clone(),
        linux: guests.release().to_owned(),
        tf_a: parts.tf_a().version.clone(),
    };
    let kernel = |vm: &Vm| guests.kernel(vm, progress);
    let initrd = |vm: &Vm| guests.initrd(vm, roles.has(vm));
    let first = system.vms.first().context("there is no [[vm]]")?;
    let (image, elf, boots) = match flavour {
        Flavour::Shared | Flavour::Mismatched => {
            let hypervisor = build_bare(paths, "postern", "postern", progress)?;
            let files = system.vms.iter().map(|vm| Ok((kernel(vm)?, initrd(vm))));
            let files = files.collect::<Result<_>>()?;
            let boots = Boots::Vms(files, optee.static_tables);
            (hypervisor.image, Some(hypervisor.elf), boots)
        }
        Flavour::Native => {
            if first.program.is_some() {
                bail!(
                    "vm \"{}\" is no Linux: its program cannot run natively",
                    first.name
                );
            }
            (kernel(first)?, None, Boots::Linux(initrd(first)))
        }
        Flavour::Bare => {
            let name = first.program.as_deref().with_context(|| {
                format!(
                    "vm \"{}\" has no program to run on the bare machine",
                    first.name
                )
            })?;
            let program = build_program(paths, name, progress)?;
            let boots = Boots::Program(initrd(first));
            (program.image, Some(program.elf), boots)
        }
    };
    let entered = Entered { image, boots };
    let placed = placed::place(options, &qemu, &entered, virtualised, &parts)?;
    let machine = roles.make_disk(system, &guests, folder)?;
    let tree = folder.join("boot.dtb");
    stamp::write(&tree, &placed.tree)?;
    let mut loads = placed.loads;
    loads.extend(placed.tree_address.map(|address| Load {
        file: tree.clone(),
        address,
    }));
    loads.extend(built.loads);
    Ok(Artifacts {
        qemu,
        firmware: built.firmware,
        tree,
        placed_by_qemu: placed.tree_address.is_none(),
        loads,
        modules: placed.modules,
        roles: roles.into(),
        hypervisor_elf: elf,
        machine,
        versions,
    })
}

/// Returns a board's tree from Debian's kernel package.
///
/// # Errors
/// Fails when the package does not have it.
fn kernel_tree(parts: &Parts, file: &str) -> Result<Vec<u8>> {
    for package in parts.packages(|name| name.starts_with("linux-")) {
        let found = deb::read(&package.file, |path| path.ends_with(file))?;
        if let Some(Content::File { data, .. }) = found.into_iter().next().map(|file| file.content)
        {
            return Ok(data);
        }
    }
    bail!("Debian's kernel package has no {file}")
}

/// Returns the flash image with TF-A, Debian's virtualised OP-TEE and Debian's U-Boot; fetched and
/// built if need be.
///
/// # Errors
/// As [`prepare`].
pub fn u_boot_flash(paths: &Paths, suite: Suite, progress: &Progress) -> Result<Firmware> {
    let _lock = lock(paths, progress)?;
    let parts = parts::fetch(paths, suite, Linux::Standard, wants_update(), progress)?;
    let optee = optee::packaged(&parts, true)?;
    let u_boot = parts::u_boot(paths, progress)?;
    let board = BoardName::Virt.board();
    let built = firmware::with_u_boot(paths, suite, board, &optee, &u_boot, &parts, progress)?;
    Ok(built.firmware)
}

/// Whether the user asks for newer parts than those in the cache.
pub(crate) fn wants_update() -> bool {
    std::env::var_os(UPDATE_VARIABLE).is_some_and(|value| !value.is_empty())
}

/// Checks that a VM's memory holds what it boots.
pub(crate) fn fits_into(vm: &Vm, kernel: &Path, initrd: &Path) -> Result<()> {
    let initrd = std::fs::metadata(initrd).with_context(|| initrd.display().to_string())?;
    config::fits(vm.memory, config::kernel_memory(kernel)?, initrd.len())
}

/// Locks the checkout for as long as the returned value lives.
pub(crate) fn lock(paths: &Paths, progress: &Progress) -> Result<File> {
    let path = paths.out().join("lock");
    stamp::write_if_missing(&path)?;
    let file = File::open(&path).with_context(|| path.display().to_string())?;
    let step = progress.step("Waiting for another run that is building in this checkout");
    file.lock()
        .with_context(|| format!("{} cannot be locked", path.display()))?;
    drop(step);
    Ok(file)
}

/// A built bare-metal program: the hypervisor or a guest.
pub(crate) struct BareProgram {
    pub(crate) elf: PathBuf,
    /// The raw arm64 `Image`.
    pub(crate) image: PathBuf,
}

/// Builds the program `guests/NAME`.
fn build_program(paths: &Paths, name: &str, progress: &Progress) -> Result<BareProgram> {
    if !paths.guests().join(name).join("Cargo.toml").is_file() {
        bail!("program = \"{name}\": there is no package in guests/{name}; correct the name");
    }
    build_bare(
        paths,
        &format!("guest-{name}"),
        &format!("program-{name}"),
        progress,
    )
}

pub(crate) fn build_bare(
    paths: &Paths,
    package: &str,
    image: &str,
    progress: &Progress,
) -> Result<BareProgram> {
    let elf = cargo::build(paths, package, BARE_TARGET, progress)?;
    let file = std::fs::read(&elf).with_context(|| elf.display().to_string())?;
    let flat = image_of(&file).with_context(|| elf.display().to_string())?;
    let image = paths.out().join("images").join(format!("{image}.img"));
    if std::fs::read(&image).ok().as_deref() != Some(&flat[..]) {
        stamp::write(&image, &flat)?;
    }
    Ok(BareProgram { elf, image })
}

/// Returns the raw `Image` in an ELF file, whose header must ask for all the memory that the
/// program uses.
pub(crate) fn image_of(file: &[u8]) -> Result<Vec<u8>> {
    let flat = elf::flatten(file)?;
    let Some(size) = guest_image::image_size(&flat) else {
        bail!("it does not begin with an arm64 Image header");
    };
    let needed = elf::extent(file)?;
    if size < needed {
        bail!("its Image header asks for {size} bytes of memory; it uses {needed}");
    }
    Ok(flat)
}

/// Returns the device tree that this QEMU generates for the machine.
///
/// # Errors
/// Fails when QEMU cannot be run, or does not make this machine.
pub fn dump_tree(qemu: &Path, machine: &MachineConfig, folder: &Path) -> Result<Vec<u8>> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("{} cannot be made", folder.display()))?;
    let file = tempfile::NamedTempFile::new_in(folder)?;
    let mut command = Command::new(qemu);
    let dump = with_file("dumpdtb=", file.path(), "");
    command
        .args(machine_args(machine))
        .arg("-machine")
        .arg(dump);
    let output = command.stdin(Stdio::null()).output().with_context(|| {
        let qemu = qemu.display();
        format!("{qemu} cannot be run; `make` installs what is missing")
    })?;
    if !output.status.success() {
        bail!(
            "{} cannot emulate this machine: {}",
            qemu.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(std::fs::read(file.path())?)
}
