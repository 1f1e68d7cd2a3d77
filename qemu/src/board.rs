// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The boards that QEMU emulates, one file each: `board` under `[machine]` chooses one.
//!
//! A board is data. It says how QEMU is started, where RAM is, how TF-A and OP-TEE are built, and
//! which serial port belongs to whom. The rest of the tool names no board.
//!
//! To add one: a file here with its [`Board`], a variant of [`BoardName`], a row in
//! `docs/configuration.md`.

mod virt;
mod virt_gicv2;

use serde::Deserialize;

/// A board that QEMU emulates.
#[derive(Debug)]
pub struct Board {
    /// The board's name in a description.
    pub name: &'static str,
    /// QEMU's argument `-M`: the board with EL3, secure memory and EL2.
    pub model: &'static str,
    /// QEMU's argument `-M` for the same board without firmware, where QEMU itself starts an arm64
    /// `Image` at EL2 and answers PSCI.
    pub model_without_firmware: &'static str,
    /// The places of what is in RAM at reset.
    pub map: Map,
    /// How TF-A is built.
    pub tf_a: TfA,
    /// How OP-TEE is built.
    pub optee: OpteePort,
    /// Nodes of the board's tree that a Linux without hypervisor cannot use. The devices belong to
    /// the secure world, or answer a non-secure access with an abort once the firmware has set the
    /// board up.
    pub not_for_linux: &'static [&'static str],
}

/// The physical addresses of what is in RAM at reset.
#[derive(Debug)]
pub struct Map {
    /// The start of RAM.
    pub ram: u64,
    /// The boot tree.
    pub tree: u64,
    /// The most bytes of the boot tree.
    pub tree_limit: usize,
    /// BL33 (the hypervisor) above an OP-TEE that is built for virtualisation.
    pub bl33: u64,
    /// BL33 above an OP-TEE that is not.
    pub native_bl33: u64,
    /// The kernels and initramfs, from here on.
    pub modules: u64,
}

impl Map {
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

/// How TF-A is built for a board.
#[derive(Debug)]
pub struct TfA {
    /// The arguments of TF-A's make.
    pub flags: &'static [&'static str],
}

/// How OP-TEE is built for a board.
#[derive(Debug)]
pub struct OpteePort {
    /// The flags of OP-TEE's make for this board: at least `PLATFORM`.
    pub flags: &'static [&'static str],
    /// Whether Debian's package has a build for this board. Without one, OP-TEE is always built.
    pub packaged: bool,
    /// The interrupt of asynchronous notifications: the three cells of a GIC's binding. Without it
    /// a Linux on the bare machine does not find OP-TEE.
    pub interrupt: [u32; 3],
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
}

impl BoardName {
    /// All names, in the order in which messages list them.
    pub const ALL: [Self; 2] = [Self::Virt, Self::VirtGicv2];

    /// Returns the board of this name.
    #[must_use]
    pub fn board(self) -> &'static Board {
        match self {
            Self::Virt => &virt::BOARD,
            Self::VirtGicv2 => &virt_gicv2::BOARD,
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
