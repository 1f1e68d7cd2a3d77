//! From a system's description to everything that QEMU needs: [`prepare`].

use crate::boot_tree;
use crate::config::{Machine, System};
use crate::paths::Paths;
use crate::progress::Progress;
use anyhow::Result;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

/// A Debian suite that the parts come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Suite {
    /// The stable release: what is tested most.
    #[default]
    Trixie,
    /// The newest OP-TEE and Linux that Debian has.
    Sid,
}

impl Suite {
    /// Debian's name for it.
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

/// What runs above the firmware, and which OP-TEE is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// The hypervisor on the virtualised OP-TEE: the product.
    Shared,
    /// Linux on the non-virtualised OP-TEE, no hypervisor: the baseline. The first VM's kernel,
    /// initramfs and command line are taken, and the whole machine.
    Native,
    /// The hypervisor on the non-virtualised OP-TEE, which it must refuse.
    Mismatched,
}

impl Flavour {
    /// Whether OP-TEE is the one built for virtualisation.
    #[must_use]
    pub fn virtualised_tee(self) -> bool {
        self == Self::Shared
    }
}

/// What to prepare.
#[derive(Clone, Debug)]
pub struct PrepareOptions {
    /// The checkout.
    pub paths: Paths,
    /// Where the parts come from.
    pub suite: Suite,
    /// What runs.
    pub flavour: Flavour,
    /// The system. The caller may have changed it, for example appended to a command line.
    pub system: System,
    /// The folder for what is made for this boot alone (`boot.dtb`); it is created.
    pub folder: PathBuf,
}

/// A file that QEMU puts into RAM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// The file.
    pub file: PathBuf,
    /// The physical address of its first byte.
    pub address: u64,
}

/// Which versions of the real parts run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    /// The Debian suite.
    pub suite: String,
    /// The package version of OP-TEE OS.
    pub optee: String,
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
    /// TF-A and OP-TEE, the first flash bank.
    pub flash: PathBuf,
    /// The boot device tree.
    pub tree: PathBuf,
    /// What is in RAM at reset: BL33 first, then kernels and initramfs.
    pub loads: Vec<Load>,
    /// The hypervisor's ELF file, for symbols; none for a native boot.
    pub hypervisor_elf: Option<PathBuf>,
    /// The machine.
    pub machine: Machine,
    /// The parts.
    pub versions: Versions,
}

impl Artifacts {
    /// QEMU's arguments, all but serial ports, monitor and control sockets.
    #[must_use]
    pub fn qemu_args(&self) -> Vec<OsString> {
        let mut args = machine_args(&self.machine);
        args.push("-drive".into());
        args.push(with_file(
            "if=pflash,unit=0,format=raw,readonly=on,file=",
            &self.flash,
            "",
        ));
        args.push("-dtb".into());
        args.push(self.tree.clone().into());
        for load in &self.loads {
            args.push("-device".into());
            let tail = format!(",addr={:#x},force-raw=on", load.address);
            args.push(with_file("loader,file=", &load.file, &tail));
        }
        args
    }
}

/// QEMU's arguments for the bare machine.
pub(crate) fn machine_args(machine: &Machine) -> Vec<OsString> {
    let text = format!(
        "-M virt,secure=on,virtualization=on,gic-version=3 -cpu cortex-a72 -smp {} -m {} \
         -nographic -net none",
        machine.cpus, machine.memory_mib
    );
    text.split_whitespace().map(OsString::from).collect()
}

/// A QEMU option with a file name in it, whose commas QEMU wants doubled.
fn with_file(head: &str, file: &Path, tail: &str) -> OsString {
    let file = file.to_string_lossy().replace(',', ",,");
    format!("{head}{file}{tail}").into()
}

/// Fetches, builds and composes what is missing or out of date, and says so while it takes long.
/// Takes a second when nothing changed, and needs no network once the parts are there.
///
/// # Errors
/// Names what could not be had or built, and where its log is.
pub fn prepare(options: &PrepareOptions, progress: &Progress) -> Result<Artifacts> {
    let _ = (options, progress, boot_tree::MODULES);
    anyhow::bail!("not yet")
}
