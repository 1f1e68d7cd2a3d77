// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The description of a system: the machine and the VMs on it, a TOML file such as
//! `guests/two.toml`. `docs/configuration.md` is its reference.

use crate::board::BoardName;
use anyhow::{Context, Result};
use serde::Deserialize;
use std::path::{Path, PathBuf};

mod abi;
mod board;
mod cpu;
mod devices;
mod files;
mod guests;
mod link;
mod machine;
mod parser_errors;
mod pci;
mod roles;
mod tee;
#[cfg(test)]
mod tests;

pub use abi::TeeAbi;
pub use cpu::CPUS;
pub use files::{fits, kernel_memory};
pub use link::{Link, LinkKind};
pub use pci::{Disk, Net};
pub(crate) use roles::HOST;
pub use tee::{
    Application, Device, Feature, Login, MAX_APPLICATIONS, MAX_PARTITIONS, PartitionId, Quota,
    TeePolicy, TeeQuota, Word,
};

/// The last shared interrupt of a GIC (IHI 0069H 2.2.1).
const MAX_SPI: u32 = 987;
/// The most VMs that the hypervisor takes.
pub const MAX_VMS: usize = 8;
/// The most vCPUs that one VM may have.
pub const MAX_VCPUS: u32 = 8;
/// The most CPUs that the machine may have: OP-TEE is built for four cores.
pub const MAX_CPUS: u32 = 4;
/// The CPU model of a machine for which neither board nor description names one.
pub const DEFAULT_CPU: &str = "cortex-a72";
/// How many VMs Debian's OP-TEE has room for at once.
pub const PACKAGED_GUESTS: u32 = 2;
/// The longest command line of a VM in bytes: the hypervisor's limit less the room for this tool's
/// own words.
const MAX_CMDLINE: usize = 2047 - 64;
/// The bytes of a block, in which stage 2 maps a guest's RAM.
const BLOCK: u64 = 2 << 20;

/// The description of one system.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct System {
    /// The machine.
    #[serde(default)]
    pub machine: MachineConfig,
    /// The VMs, in the order of their console channels.
    #[serde(rename = "vm", default)]
    pub vms: Vec<Vm>,
    /// The networks between VMs.
    #[serde(rename = "link", default)]
    pub links: Vec<Link>,
}

/// The `[machine]` table: the machine that QEMU emulates.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MachineConfig {
    /// The board.
    pub board: BoardName,
    /// Number of physical CPUs, 1 to 4, and no more than the board has.
    pub cpus: u32,
    /// CPU model, as for QEMU's `-cpu`, on a board that does not have its own; [`DEFAULT_CPU`] when
    /// absent.
    pub cpu: Option<String>,
    /// RAM in MiB, at least 512, or as much as the board's firmware needs.
    pub memory_mib: u64,
    /// The ABI of OP-TEE, for which the firmware is built.
    pub tee_abi: TeeAbi,
    /// The number of VMs that OP-TEE has room for at once, 1 to 8. When present, OP-TEE is built
    /// for it, from Debian's or the user's source; when absent, Debian's binary is used, which has
    /// room for [`PACKAGED_GUESTS`].
    pub optee_guests: Option<u32>,
    /// Settings of OP-TEE's build, `CFG_NAME=VALUE`, that add to Debian's or replace them. With any
    /// of them OP-TEE is built, for [`PACKAGED_GUESTS`] unless `optee_guests` gives a number.
    pub optee_flags: Vec<String>,
    /// Whether OP-TEE is built for virtualisation. An OP-TEE that is not serves one VM.
    pub optee_virtualised: bool,
    /// The SPI by which OP-TEE announces notifications, the boot tree's `/chosen/postern,optee-interrupt`: for an OP-TEE
    /// that does not add it to the tree itself.
    pub optee_spi: Option<u32>,
    /// What happens when no VM runs any more.
    pub when_all_off: WhenAllOff,
    /// Whether the PCIe devices are behind an SMMU, without which no VM can have them.
    pub iommu: bool,
    /// The disks on the PCIe bus.
    #[serde(rename = "disk")]
    pub disks: Vec<Disk>,
    /// The network cards on the PCIe bus.
    #[serde(rename = "net")]
    pub nets: Vec<Net>,
}

/// What the machine does when no VM runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenAllOff {
    /// The machine powers off.
    #[default]
    PowerOff,
    /// The machine stays on and waits for a command that starts a VM.
    Stay,
}

impl Default for MachineConfig {
    fn default() -> Self {
        Self {
            board: BoardName::default(),
            cpus: 4,
            cpu: None,
            memory_mib: 3072,
            tee_abi: TeeAbi::default(),
            optee_guests: None,
            optee_flags: Vec::new(),
            optee_virtualised: true,
            optee_spi: None,
            when_all_off: WhenAllOff::default(),
            iommu: false,
            disks: Vec::new(),
            nets: Vec::new(),
        }
    }
}

/// A `[[vm]]` table: one VM.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vm {
    /// The VM's name: 1 to 15 of `a`-`z`, `0`-`9` and `-`, starting with a letter.
    pub name: String,
    /// Number of vCPUs, 1 to 8.
    #[serde(default = "default_vcpus")]
    pub vcpus: u32,
    /// RAM: a number with `M` or `G`, a multiple of 2 MiB.
    #[serde(default)]
    pub memory: Memory,
    /// An arm64 kernel, relative to the TOML file; the suite's Debian kernel when absent.
    pub kernel: Option<PathBuf>,
    /// Which of the suite's Debian kernels the VM boots, when `kernel` is absent.
    #[serde(default)]
    pub linux: Linux,
    /// A bare-metal program of this workspace instead of a kernel: NAME stands for the package
    /// `guest-NAME` in `guests/NAME`.
    pub program: Option<String>,
    /// An initramfs, relative to the TOML file. When absent, one that this tool builds: Linux's, or
    /// for a program an archive of all trusted applications.
    pub initrd: Option<PathBuf>,
    /// The kernel's command line.
    #[serde(default = "default_cmdline")]
    pub cmdline: String,
    /// Whether the VM has the TEE.
    #[serde(default)]
    pub tee: Tee,
    /// Whether the VM starts with the machine; otherwise a monitor command starts it.
    #[serde(default = "yes")]
    pub autostart: bool,
    /// Whether the VM may give the monitor commands, through its second serial port.
    #[serde(default)]
    pub privileged: bool,
    /// Whether the VM has a watchdog, which resets it.
    #[serde(default)]
    pub watchdog: bool,
    /// Whether the VM has a virtio entropy device.
    #[serde(default)]
    pub rng: bool,
    /// A file with the content of a virtio disk, which the VM can only read, relative to the TOML file.
    pub disk: Option<PathBuf>,
    /// Which functions of the TEE the VM may use.
    #[serde(default)]
    pub tee_policy: TeePolicy,
    /// How much of the TEE's resources the VM may use.
    #[serde(default)]
    pub tee_quota: TeeQuota,
    /// The physical CPUs that may run the VM; all of them when absent.
    pub affinity: Option<Vec<u32>>,
    /// The length of SVE's vectors in bits; the VM has no SVE when absent.
    pub sve: Option<u32>,
    /// The devices of the machine that the VM has for itself: paths of nodes of the machine's device tree.
    #[serde(default)]
    pub devices: Vec<String>,
    /// A file with a partial device tree in Xen's form, which names devices as `devices` does, relative to the TOML file.
    pub partial_tree: Option<PathBuf>,
    /// What keeps these devices from memory that is not the VM's.
    #[serde(default)]
    pub dma: Dma,
}

/// What keeps a VM's devices from memory that is not the VM's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dma {
    /// An SMMU.
    #[default]
    Protected,
    /// Nothing: the guest is trusted with all memory of the machine.
    Unprotected,
}

fn yes() -> bool {
    true
}

fn default_vcpus() -> u32 {
    2
}

/// Returns the command line of a VM whose table has none.
#[must_use]
pub fn default_cmdline() -> String {
    "console=ttyAMA0 earlycon=pl011,0x9000000".into()
}

/// One of Debian's kernels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Linux {
    /// `linux-image-arm64`.
    #[default]
    Standard,
    /// `linux-image-rt-arm64`, which is fully preemptible. Its guests have `cyclictest`.
    Rt,
}

/// Whether a VM gets the TEE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tee {
    /// The boot fails when the VM cannot have the TEE.
    #[default]
    Required,
    /// The VM starts without the TEE when it cannot have it.
    Optional,
    /// The VM has no TEE.
    None,
}

impl Tee {
    /// Returns the value of the boot tree's `tee` property.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Optional => "optional",
            Self::None => "none",
        }
    }
}

/// An amount of RAM in bytes, a multiple of 2 MiB, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory(u64);

impl Memory {
    /// Returns the amount in KiB, the unit of the boot tree.
    #[must_use]
    pub fn kib(self) -> u64 {
        self.0 >> 10
    }

    /// Parses an amount such as "512M" or "1G".
    ///
    /// # Errors
    /// Returns a text that says which values are valid.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("\"{text}\" is no amount of memory; write for example \"512M\" or \"1G\"");
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let shift = match &text[digits.len()..] {
            "M" | "MiB" => 20,
            "G" | "GiB" => 30,
            _ => return Err(wrong()),
        };
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        // More than 1 TiB is a mistake; the limit also keeps the shift from losing bits.
        if number == 0 || number > 1 << 20 {
            return Err(wrong());
        }
        let bytes = number << shift;
        if !bytes.is_multiple_of(BLOCK) {
            return Err(format!(
                "\"{text}\" is not a multiple of 2 MiB; guests get RAM in blocks of 2 MiB"
            ));
        }
        Ok(Self(bytes))
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self(512 << 20)
    }
}

impl<'de> Deserialize<'de> for Memory {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;

        impl serde::de::Visitor<'_> for Text {
            type Value = Memory;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an amount in quotes, for example \"512M\" or \"1G\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Memory, E> {
                Memory::parse(text).map_err(E::custom)
            }
        }

        from.deserialize_str(Text)
    }
}

impl System {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Names the file, the key and the fix.
    pub fn load(file: &Path) -> Result<Self> {
        Self::load_with(file, Self::parse)
    }

    fn load_with(file: &Path, parse: impl FnOnce(&str) -> Result<Self>) -> Result<Self> {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("the system description {} cannot be read", file.display()))?;
        let mut system = parse(&text).with_context(|| format!("in {}", file.display()))?;
        let folder = file.parent().unwrap_or(Path::new("."));
        let disks = system.machine.disks.iter_mut();
        for path in disks.filter_map(|disk| disk.file.as_mut()) {
            *path = folder.join(&*path);
        }
        for vm in &mut system.vms {
            for path in [
                &mut vm.kernel,
                &mut vm.initrd,
                &mut vm.disk,
                &mut vm.partial_tree,
            ]
            .into_iter()
            .flatten()
            {
                *path = folder.join(&*path);
            }
        }
        Ok(system)
    }

    /// Reads and checks the text of a file; relative paths stay as they are.
    ///
    /// # Errors
    /// Names the key and the fix.
    pub fn parse(text: &str) -> Result<Self> {
        let mut system = Self::parse_unchecked(text)?;
        system.machine.fit_cpus();
        system.check().map_err(anyhow::Error::msg)?;
        Ok(system)
    }

    fn parse_unchecked(text: &str) -> Result<Self> {
        toml::from_str(text)
            .map_err(|error| anyhow::Error::msg(parser_errors::translate(&error.to_string())))
    }

    /// Returns the same system on another board, on fewer CPUs if that one has fewer.
    ///
    /// # Errors
    /// Fails when that board does not have what the description wants.
    pub fn on_board(mut self, board: BoardName) -> Result<Self, String> {
        self.machine.board = board;
        self.machine.fit_cpus();
        self.check()?;
        Ok(self)
    }

    /// Checks that OP-TEE has room for the VMs that must have it.
    ///
    /// # Errors
    /// Names the VMs and the keys that change the room.
    pub fn check_room(&self) -> Result<(), String> {
        let machine = &self.machine;
        let must = |vm: &&Vm| vm.autostart && vm.tee == Tee::Required;
        let names: Vec<&str> = (self.vms.iter().filter(must))
            .map(|vm| vm.name.as_str())
            .collect();
        let (room, optee, more) = match machine.optee_guests {
            _ if !machine.optee_virtualised => {
                let more = "drop optee_virtualised = false".to_owned();
                (1, "an OP-TEE without virtualisation serves", more)
            }
            Some(guests) => {
                let more = format!("raise machine.optee_guests to {}", names.len());
                (guests, "machine.optee_guests has OP-TEE built for", more)
            }
            None => {
                let more = format!("set machine.optee_guests = {}", names.len());
                let optee = match machine.tee_abi {
                    TeeAbi::Smc => "Debian's OP-TEE has room for",
                    TeeAbi::Ffa => "the OP-TEE for FF-A is built for",
                };
                (PACKAGED_GUESTS, optee, more)
            }
        };
        if names.len() <= room as usize {
            return Ok(());
        }
        Err(format!(
            "{} VMs start with tee = \"required\" ({}), and {optee} {room}: {more}, \
             or set tee = \"optional\" or \"none\" for some of them",
            names.len(),
            names.join(", ")
        ))
    }

    /// Checks the limits that a type cannot express.
    fn check(&self) -> Result<(), String> {
        let machine = &self.machine;
        machine.check()?;
        self.check_vms(machine.cpus, Some(machine.memory_mib))
    }

    /// Checks the limits of the VMs that a type cannot express, on a machine with `cpus` CPUs and
    /// `memory_mib` MiB of RAM, where that is known.
    fn check_vms(&self, cpus: u32, memory_mib: Option<u64>) -> Result<(), String> {
        let machine = &self.machine;
        if let Some(spi) = machine.optee_spi.filter(|spi| *spi > MAX_SPI) {
            return Err(format!(
                "machine.optee_spi = {spi} is no SPI: they are 0 to {MAX_SPI}; \
                 take OP-TEE's CFG_CORE_ASYNC_NOTIF_GIC_INTID less 32"
            ));
        }
        if self.vms.is_empty() {
            return Err("there is no [[vm]]; add one, which needs only a name".into());
        }
        if self.vms.len() > MAX_VMS {
            return Err(format!(
                "there are {} [[vm]]; the hypervisor takes at most {MAX_VMS}",
                self.vms.len()
            ));
        }
        let at_boot = || self.vms.iter().filter(|vm| vm.autostart);
        if machine.when_all_off == WhenAllOff::PowerOff && at_boot().next().is_none() {
            return Err(
                "every [[vm]] has autostart = false: let one start with the machine, \
                 or set machine.when_all_off = \"stay\""
                    .into(),
            );
        }
        let wanted = self.vms.iter().filter(|vm| vm.takes_ram_at_boot());
        let wanted = wanted.map(|vm| vm.memory.kib() >> 10).sum::<u64>();
        if let Some(memory_mib) = memory_mib
            && wanted >= memory_mib
        {
            return Err(format!(
                "the VMs that start with the machine have {wanted} MiB of memory together; \
                 machine.memory_mib = {memory_mib}: raise it, lower theirs, or give one autostart = false"
            ));
        }
        for (index, vm) in self.vms.iter().enumerate() {
            vm.check(cpus)
                .map_err(|why| format!("vm \"{}\": {why}", vm.name))?;
            if self.vms[..index].iter().any(|other| other.name == vm.name) {
                return Err(format!(
                    "vm \"{}\": the name is taken; give each VM one of its own",
                    vm.name
                ));
            }
            self.machine
                .check_protection(vm)
                .map_err(|why| format!("vm \"{}\": {why}", vm.name))?;
            vm.check_devices(&self.vms[..index])
                .map_err(|why| format!("vm \"{}\": {why}", vm.name))?;
            for other in &self.vms[..index] {
                if let Some(device) = vm.tee_policy.shared_device(&other.tee_policy) {
                    return Err(format!(
                        "vm \"{}\": tee_policy.devices: vm \"{}\" owns \"{}\"; remove it from one of them",
                        vm.name,
                        other.name,
                        device.word()
                    ));
                }
            }
        }
        self.machine.check_bus(&self.vms)?;
        self.check_links()
    }
}

/// Returns whether this is a name for a VM or a link.
fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(is_name_character)
        && name.len() <= 15
}

fn is_name_character(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
}

impl Vm {
    fn check(&self, cpus: u32) -> Result<(), String> {
        if !is_name(&self.name) {
            return Err(
                "name must be 1 to 15 of a-z, 0-9 and -, and start with a letter".to_owned(),
            );
        }
        if !(1..=MAX_VCPUS).contains(&self.vcpus) {
            return Err(format!(
                "vcpus = {}: it must be 1 to {MAX_VCPUS}",
                self.vcpus
            ));
        }
        if let Some(program) = &self.program {
            if program.is_empty() || !program.chars().all(is_name_character) {
                return Err(format!(
                    "program = \"{program}\": it must be the name of a folder in guests/, of a-z, 0-9 and -"
                ));
            }
            if self.kernel.is_some() {
                return Err(
                    "program and kernel exclude each other: a program is booted in the kernel's place"
                        .into(),
                );
            }
        }
        if self.linux != Linux::Standard && (self.kernel.is_some() || self.program.is_some()) {
            return Err(
                "linux chooses among Debian's kernels: remove it, or remove kernel or program"
                    .into(),
            );
        }
        if self.cmdline.contains('\0') || self.cmdline.len() > MAX_CMDLINE {
            return Err(format!(
                "cmdline must be at most {MAX_CMDLINE} bytes, without a zero byte"
            ));
        }
        self.tee_policy.check()?;
        self.tee_quota.check()?;
        let restricted =
            self.tee_policy != TeePolicy::default() || self.tee_quota != TeeQuota::default();
        if restricted && self.tee == Tee::None {
            return Err(
                "it has tee = \"none\": remove tee_policy and tee_quota, or give it the TEE".into(),
            );
        }
        if let Some(bits) = self.sve
            && !(bits.is_multiple_of(128) && (128..=2048).contains(&bits))
        {
            return Err(format!(
                "sve = {bits}: it must be a multiple of 128, 128 to 2048; without SVE leave it out"
            ));
        }
        if let Some(affinity) = &self.affinity {
            if affinity.is_empty() {
                return Err("affinity = []: leave it out to allow every CPU".into());
            }
            if let Some(cpu) = affinity.iter().find(|&&cpu| cpu >= cpus) {
                return Err(format!(
                    "affinity names CPU {cpu}; the machine has 0 to {}",
                    cpus - 1
                ));
            }
        }
        Ok(())
    }
}
