// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The boards that QEMU emulates, one file each: `board` under `[machine]` chooses one.
//!
//! A board is data. It says how QEMU is started, where RAM is, how TF-A and OP-TEE are built, which
//! device tree describes it, and which serial port belongs to whom. The rest of the tool names no
//! board.
//!
//! To add one: a file here with its [`Board`], a variant of [`BoardName`], a row in
//! `docs/configuration.md`. What QEMU does not emulate of a board, and firmware waits for, is
//! mended by a patch of the firmware beside the board's file ([`TfA::patches`]), never in EL2.

mod imx8mp_evk;
mod virt;
mod virt_gicv2;
mod zcu102;

use crate::bundle::Range;
use crate::config::TeeAbi;
use serde::Deserialize;

/// A board that QEMU emulates.
#[derive(Debug)]
pub struct Board {
    /// The board's name in a description.
    pub name: &'static str,
    /// QEMU's argument `-M`: the board with EL3, secure memory and EL2.
    pub model: &'static str,
    /// The first QEMU that has the board: major and minor version.
    pub qemu: (u32, u32),
    /// The version of the GIC.
    pub gic_version: u32,
    /// What is added to [`Board::model`] for an SMMU in front of the PCIe bus, if QEMU has one for the board.
    pub iommu: Option<&'static str>,
    /// The CPUs; none where the description chooses them.
    pub cpu: Option<&'static str>,
    /// The most CPUs that firmware starts in QEMU.
    pub most_cpus: u32,
    /// The ranges of RAM, which fill up in this order.
    pub ram: &'static [Range],
    /// The least RAM in MiB, with which the firmware has its own.
    pub least_ram_mib: u64,
    /// The serial ports, in the order of QEMU's `-serial`.
    pub serials: &'static [Serial],
    /// Whether QEMU ends when firmware powers the board off.
    pub powers_off: bool,
    /// The device tree, and with it the places of what is in RAM at reset.
    pub tree: BaseTree,
    /// How TF-A is built.
    pub tf_a: TfA,
    /// How OP-TEE is built.
    pub optee: OpteePort,
    /// What differs for OP-TEE over FF-A, if the board has it.
    pub ffa: Option<Ffa>,
}

/// Who writes to a serial port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serial {
    /// The non-secure world: the hypervisor, or Linux without it.
    Console,
    /// The secure world; it goes to the file `optee.log`.
    Secure,
}

/// Where a board's device tree comes from.
#[derive(Debug)]
pub enum BaseTree {
    /// QEMU generates it, and puts the one that it is given where the firmware looks for it.
    Qemu(QemuTree),
    /// It is a file of Debian's kernel package, as on real boards. The tool adds what only firmware
    /// knows and places all files as `postern-tool bundle` does; BL33 is a few instructions that
    /// do what U-Boot's `booti` does.
    Linux(LinuxTree),
}

/// A tree that QEMU generates. The places of the files are fixed.
#[derive(Debug)]
pub struct QemuTree {
    /// The physical address of the tree.
    pub address: u64,
    /// The most bytes of the tree.
    pub limit: usize,
    /// The physical address of BL33 (the hypervisor) above an OP-TEE that is built for
    /// virtualisation.
    pub bl33: u64,
    /// The physical address of BL33 above an OP-TEE that is not.
    pub native_bl33: u64,
    /// The physical address from which on kernels and initramfs are loaded.
    pub modules: u64,
    /// Nodes that a Linux without hypervisor cannot use. The devices belong to the secure world, or
    /// answer a non-secure access with an abort once the firmware has set the board up.
    pub not_for_linux: &'static [&'static str],
}

impl QemuTree {
    /// Returns the physical address at which the firmware enters BL33.
    #[must_use]
    pub fn entry(&self, virtualised: bool) -> u64 {
        if virtualised {
            self.bl33
        } else {
            self.native_bl33
        }
    }
}

/// A tree in Debian's kernel package.
#[derive(Debug)]
pub struct LinuxTree {
    /// The path of the file, below the package's folder of trees.
    pub file: &'static str,
    /// RAM that belongs to the firmware, which the tree does not reserve.
    pub reserve: &'static [Range],
    /// The physical address of BL33: the instructions that enter the hypervisor.
    pub bl33: u64,
}

/// How TF-A is built for a board.
#[derive(Debug)]
pub struct TfA {
    /// The arguments of TF-A's make.
    pub flags: &'static [&'static str],
    /// Changes of TF-A's source, each a name and the text of a patch: what QEMU does not emulate.
    pub patches: &'static [(&'static str, &'static str)],
    /// What the build gives, and how it gets into the machine.
    pub form: Form,
}

/// The form of the firmware.
#[derive(Debug)]
pub enum Form {
    /// A flash image: BL1, and a FIP with all other stages and OP-TEE.
    Flash {
        /// The folder of the results below TF-A's `BUILD_BASE`.
        results: &'static str,
    },
    /// BL31 as an ELF file, at whose entry the first CPU starts. OP-TEE is in RAM.
    Bl31 {
        /// The ELF file, below TF-A's `BUILD_BASE`.
        elf: &'static str,
        /// The physical address of OP-TEE's raw image.
        optee: u64,
    },
}

impl Form {
    /// Returns the images of OP-TEE that the firmware takes, below its output folder `core`.
    #[must_use]
    pub fn optee_images(&self) -> &'static [&'static str] {
        match self {
            Self::Flash { .. } => &crate::optee::IMAGES,
            Self::Bl31 { .. } => &[crate::optee::RAW_IMAGE],
        }
    }
}

/// How OP-TEE is built for a board.
#[derive(Debug)]
pub struct OpteePort {
    /// The flags of OP-TEE's make for this board: at least `PLATFORM`.
    pub flags: &'static [&'static str],
    /// Changes of OP-TEE's source, as [`TfA::patches`]. A user's source is built as it is.
    pub patches: &'static [(&'static str, &'static str)],
    /// Whether Debian's package has a build for this board. Without one, OP-TEE is always built.
    pub packaged: bool,
    /// The interrupt of asynchronous notifications, the three cells of a GIC's binding, if the port
    /// has them.
    pub interrupt: Option<[u32; 3]>,
}

/// How firmware and OP-TEE are built for FF-A, with OP-TEE as SPMC at S-EL1.
#[derive(Debug)]
pub struct Ffa {
    /// The arguments of TF-A's make, in place of [`TfA::flags`].
    pub tf_a: &'static [&'static str],
    /// The variable of TF-A's make with the SPMC's manifest, and the manifest's source.
    pub manifest: (&'static str, &'static str),
    /// The flags of OP-TEE's make that are added to [`OpteePort::flags`].
    pub optee: &'static [&'static str],
}

impl Board {
    /// Returns what differs from the board's other fields for this ABI.
    pub(crate) fn ffa(&self, abi: TeeAbi) -> Option<&Ffa> {
        self.ffa.as_ref().filter(|_| abi == TeeAbi::Ffa)
    }

    /// Returns the arguments of TF-A's make for this ABI.
    pub(crate) fn tf_a_flags(&self, abi: TeeAbi) -> &'static [&'static str] {
        self.ffa(abi).map_or(self.tf_a.flags, |ffa| ffa.tf_a)
    }

    /// Returns the flags of OP-TEE's make for this board and ABI.
    pub(crate) fn optee_flags(&self, abi: TeeAbi) -> impl Iterator<Item = &'static str> {
        let more = self.ffa(abi).map_or(&[][..], |ffa| ffa.optee);
        self.optee.flags.iter().chain(more).copied()
    }

    /// Returns the ranges of a board with so much RAM.
    #[must_use]
    pub fn memory(&self, mib: u64) -> Vec<Range> {
        let mut left = mib << 20;
        let mut ranges = Vec::new();
        for range in self.ram {
            let size = range.size.min(left);
            if size > 0 {
                ranges.push(Range { size, ..*range });
            }
            left -= size;
        }
        ranges
    }

    /// Returns the most RAM of the board in MiB.
    #[must_use]
    pub fn most_ram_mib(&self) -> u64 {
        self.ram.iter().map(|range| range.size >> 20).sum()
    }

    /// Returns the name of a folder for a source of this version, of its own if the board changes it.
    pub(crate) fn source_name(&self, version: &str, patches: &[(&str, &str)]) -> String {
        let mut name = format!("source-{version}");
        if !patches.is_empty() {
            let texts: Vec<&str> = patches.iter().map(|(_, text)| *text).collect();
            name += &format!("-{}-{:08x}", self.name, crate::optee::hash(&texts) as u32);
        }
        name
    }

    /// Returns the CPU model: the board's own, else the description's, else the usual one.
    #[must_use]
    pub fn cpu<'a>(&'a self, described: Option<&'a str>) -> &'a str {
        self.cpu.or(described).unwrap_or(crate::config::DEFAULT_CPU)
    }
}

/// The name of a board, as a description has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BoardName {
    /// QEMU's `virt` machine with a GICv3.
    #[default]
    Virt,
    /// QEMU's `virt` machine with a GICv2.
    VirtGicv2,
    /// AMD's ZCU102, a Zynq UltraScale+ MPSoC.
    Zcu102,
    /// NXP's i.MX 8M Plus EVK.
    Imx8mpEvk,
}

impl BoardName {
    /// All names, in the order in which messages list them.
    pub const ALL: [Self; 4] = [Self::Virt, Self::VirtGicv2, Self::Zcu102, Self::Imx8mpEvk];

    /// Returns the board of this name.
    #[must_use]
    pub fn board(self) -> &'static Board {
        match self {
            Self::Virt => &virt::BOARD,
            Self::VirtGicv2 => &virt_gicv2::BOARD,
            Self::Zcu102 => &zcu102::BOARD,
            Self::Imx8mpEvk => &imx8mp_evk::BOARD,
        }
    }
}

impl std::fmt::Display for BoardName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.board().name)
    }
}

impl std::str::FromStr for BoardName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = Self::ALL.into_iter();
        all.find(|name| name.board().name == text).ok_or_else(|| {
            let names = Self::ALL.map(|name| name.to_string()).join(", ");
            format!("there is no board \"{text}\"; the boards are {names}")
        })
    }
}

#[cfg(test)]
mod tests;
