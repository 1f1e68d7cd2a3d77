// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Builds the firmware: TF-A, from Debian's source, with an OP-TEE. Boards take it as one flash
//! image, or as files in RAM.

use crate::board::{BaseTree, Board, Form};
use crate::config::TeeAbi;
use crate::launch::Firmware;
use crate::make;
use crate::optee::{self, Optee};
use crate::parts::{self, Package, Parts, UBoot};
use crate::paths::Paths;
use crate::prepare::{Load, Suite};
use crate::progress::{Progress, Step};
use crate::stamp;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// TF-A's names of OP-TEE's images, in the order of [`optee::IMAGES`].
const BL32: [&str; 3] = ["BL32", "BL32_EXTRA1", "BL32_EXTRA2"];
/// The flash offset from which TF-A reads its FIP (`PLAT_QEMU_FIP_BASE`); BL1 is at 0.
const FIP: usize = 0x4_0000;
/// The size of a bank of the `virt` machine's flash in bytes.
const FLASH: usize = 64 << 20;
/// The manifest of the SPMC, beside OP-TEE's images.
const MANIFEST: &str = "spmc-manifest.dts";
/// The version of the recipe for the firmware; a change of the recipe increments it.
const RECIPE: u32 = 2;

/// A board's firmware.
#[derive(Clone, Debug)]
pub struct Built {
    /// What runs first.
    pub firmware: Firmware,
    /// The parts of the firmware that are in RAM at reset.
    pub loads: Vec<Load>,
}

/// Returns the firmware of a suite for a board with an OP-TEE, and builds it if need be.
///
/// # Errors
/// Fails when a part is not as expected or TF-A does not build; names the build's log.
pub fn build(
    paths: &Paths,
    suite: Suite,
    board: &Board,
    optee: &Optee,
    parts: &Parts,
    progress: &Progress,
) -> Result<Built> {
    let (bl33, tree) = match &board.tree {
        BaseTree::Qemu(tree) => (tree.entry(optee.virtualised), Some(tree.address)),
        BaseTree::Linux(tree) => (tree.bl33, None),
    };
    let build = Build {
        paths,
        suite,
        board,
        optee,
        bl33: &Bl33::InRam(bl33, tree),
        parts,
        progress,
    };
    build.run()
}

/// The flash image of a suite for a board with an OP-TEE and a U-Boot, which boots what it finds;
/// built if need be.
///
/// # Errors
/// As [`build`].
pub fn with_u_boot(
    paths: &Paths,
    suite: Suite,
    board: &Board,
    optee: &Optee,
    u_boot: &UBoot,
    parts: &Parts,
    progress: &Progress,
) -> Result<Built> {
    let build = Build {
        paths,
        suite,
        board,
        optee,
        bl33: &Bl33::UBoot(u_boot),
        parts,
        progress,
    };
    build.run()
}

/// What the firmware enters when it is done.
enum Bl33<'a> {
    /// What is at the first address at reset, as Linux would be: no part of the firmware. It gets
    /// the address of the tree, if the firmware has one.
    InRam(u64, Option<u64>),
    /// A U-Boot, which is in the flash.
    UBoot(&'a UBoot),
}

/// A build of TF-A.
struct Build<'a> {
    paths: &'a Paths,
    suite: Suite,
    board: &'a Board,
    optee: &'a Optee,
    bl33: &'a Bl33<'a>,
    parts: &'a Parts,
    progress: &'a Progress,
}

impl Build<'_> {
    fn run(&self) -> Result<Built> {
        let Self {
            paths,
            suite,
            board,
            optee,
            ..
        } = self;
        let (kind, what) = match self.bl33 {
            Bl33::InRam(address, tree) => {
                let tree = tree.map_or_else(String::new, |tree| format!(", tree at {tree:#x}"));
                (optee.kind.clone(), format!("BL33 at {address:#x}{tree}"))
            }
            Bl33::UBoot(u_boot) => (
                format!("{}-u-boot", optee.kind),
                format!("U-Boot {}", u_boot.version),
            ),
        };
        let tf_a = self.parts.tf_a();
        let folder = paths.out().join("tf-a");
        let images = folder.join(format!("{suite}-{kind}"));
        let (file, built) = match &board.tf_a.form {
            Form::Flash { .. } => {
                let flash = paths.built(*suite).join(format!("flash-{kind}.img"));
                let firmware = Firmware::Flash(flash.clone());
                let loads = Vec::new();
                (flash, Built { firmware, loads })
            }
            Form::Bl31 { optee, .. } => {
                let elf = paths.built(*suite).join(format!("bl31-{kind}.elf"));
                let loads = vec![Load {
                    file: images.join(optee::RAW_IMAGE),
                    address: *optee,
                }];
                let firmware = Firmware::Bl31(elf.clone());
                (elf, Built { firmware, loads })
            }
        };
        let mut made_of = format!(
            "TF-A {}, {}, recipe {RECIPE}, {what}, {}\n",
            tf_a.version,
            optee.made_of(),
            board.tf_a_flags(optee.abi).join(" ")
        );
        if let Some(ffa) = board.ffa(optee.abi) {
            made_of += ffa.manifest.1;
        }
        for (_, patch) in board.tf_a.patches {
            made_of += patch;
        }
        if stamp::is_fresh(&file, &made_of) && built.loads.iter().all(|load| load.file.exists()) {
            return Ok(built);
        }
        let title = format!("Building TF-A {} ({kind} OP-TEE)", tf_a.version);
        let step = self.progress.step(&title);
        let log = paths.build_logs().join(format!("tf-a-{suite}-{kind}.log"));
        let source = self.source(tf_a, &folder, &step, &log)?;
        optee.put(&images)?;
        if let Some(ffa) = board.ffa(optee.abi) {
            stamp::write(&images.join(MANIFEST), ffa.manifest.1.as_bytes())?;
            // TF-A's make compiles the manifest.
            optee::install_tools(paths)?;
        }
        let build = images.join("build");
        // TF-A's make does not notice that its options have changed.
        if build.exists() {
            std::fs::remove_dir_all(&build)
                .with_context(|| format!("{} cannot be removed", build.display()))?;
        }
        let abi = optee.abi;
        step.run(
            &mut make(&source, board, abi, &images, &build, self.bl33),
            &log,
        )?;
        let read = |name: String| {
            let file = build.join(name);
            std::fs::read(&file).with_context(|| format!("{} was not built", file.display()))
        };
        let bytes = match &board.tf_a.form {
            Form::Flash { results } => lay_out(
                &read(format!("{results}/bl1.bin"))?,
                &read(format!("{results}/fip.bin"))?,
            )?,
            Form::Bl31 { elf, .. } => read((*elf).to_owned())?,
        };
        stamp::write(&file, &bytes)?;
        stamp::mark(&file, &made_of)?;
        step.done();
        Ok(built)
    }

    /// Unpacks the source once, and another time for each board with patches.
    fn source(&self, tf_a: &Package, folder: &Path, step: &Step, log: &Path) -> Result<PathBuf> {
        let patches = self.board.tf_a.patches;
        let name = self.board.source_name(&tf_a.version, patches);
        let source = folder.join(name);
        if source.is_dir() {
            return Ok(source);
        }
        step.detail("unpacking");
        std::fs::create_dir_all(folder)
            .with_context(|| format!("{} cannot be made", folder.display()))?;
        // Unpacks beside the final place, so that half a tree is never taken for a whole one.
        let new = tempfile::tempdir_in(folder)?;
        let tree = parts::unpack(&tf_a.file, new.path())?;
        for (name, text) in patches {
            let file = new.path().join(name);
            stamp::write(&file, text.as_bytes())?;
            step.run(&mut parts::patch(&tree, &file), log)
                .with_context(|| format!("{name} does not apply to TF-A {}", tf_a.version))?;
        }
        std::fs::rename(tree, &source)?;
        Ok(source)
    }
}

fn make(
    source: &Path,
    board: &Board,
    abi: TeeAbi,
    images: &Path,
    build: &Path,
    bl33: &Bl33<'_>,
) -> Command {
    let mut make = make::command(source);
    make.arg(format!("BUILD_BASE={}", build.display()))
        // A warning of a newer compiler is no error.
        .args(["CROSS_COMPILE=aarch64-linux-gnu-", "E=0"])
        .args(board.tf_a_flags(abi));
    if let Some(ffa) = board.ffa(abi) {
        let manifest = images.join(MANIFEST);
        make.arg(format!("{}={}", ffa.manifest.0, manifest.display()));
    }
    match bl33 {
        Bl33::InRam(address, tree) => {
            make.arg(format!("PRELOADED_BL33_BASE={address:#x}"));
            if let Some(tree) = tree {
                make.arg("ARM_LINUX_KERNEL_AS_BL33=1")
                    .arg(format!("ARM_PRELOADED_DTB_BASE={tree:#x}"));
            }
        }
        Bl33::UBoot(u_boot) => {
            make.arg(format!("BL33={}", u_boot.file.display()));
        }
    }
    match board.tf_a.form {
        Form::Flash { .. } => make
            .args(
                BL32.iter()
                    .zip(optee::IMAGES)
                    .map(|(name, image)| format!("{name}={}", images.join(image).display())),
            )
            .args(["all", "fip"]),
        Form::Bl31 { .. } => make.arg("bl31"),
    };
    make
}

/// Lays out the flash as the CPU and BL1 expect it.
fn lay_out(bl1: &[u8], fip: &[u8]) -> Result<Vec<u8>> {
    if bl1.len() > FIP || fip.len() > FLASH - FIP {
        bail!("TF-A does not fit into the flash");
    }
    let mut flash = vec![0; FLASH];
    flash[..bl1.len()].copy_from_slice(bl1);
    flash[FIP..FIP + fip.len()].copy_from_slice(fip);
    Ok(flash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::BoardName;

    fn words(board: BoardName, bl33: &Bl33<'_>) -> String {
        words_for(board, TeeAbi::Smc, bl33)
    }

    fn words_for(board: BoardName, abi: TeeAbi, bl33: &Bl33<'_>) -> String {
        let at = Path::new;
        let board = board.board();
        let make = make(at("/tf-a"), board, abi, at("/optee"), at("/build"), bl33);
        let words = make.get_args().map(|word| word.to_string_lossy());
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn tf_a_is_built_for_its_board() {
        let virt = Bl33::InRam(0x4020_0000, Some(0x4000_0000));
        let v3 = words(BoardName::Virt, &virt);
        for word in [
            "PLAT=qemu",
            "QEMU_GICV3",
            "PRELOADED_BL33_BASE=0x40200000",
            "ARM_PRELOADED_DTB_BASE=0x40000000",
            "BL32=/optee/tee-header_v2.bin",
            "all fip",
        ] {
            assert!(v3.contains(word), "{word}: {v3}");
        }
        assert!(!words(BoardName::VirtGicv2, &virt).contains("GICV3"));
        let zcu102 = words(BoardName::Zcu102, &Bl33::InRam(0x20_0000, None));
        assert!(
            zcu102.ends_with("PRELOADED_BL33_BASE=0x200000 bl31"),
            "{zcu102}"
        );
        for word in ["PLAT=zynqmp", "ZYNQMP_CONSOLE=cadence0"] {
            assert!(zcu102.contains(word), "{word}: {zcu102}");
        }
        assert!(
            !zcu102.contains("BL32") && !zcu102.contains("DTB"),
            "{zcu102}"
        );
    }

    #[test]
    fn tf_a_for_ffa_has_spmd_and_a_manifest_instead_of_opteed() {
        let bl33 = Bl33::InRam(0x4400_0000, Some(0x4000_0000));
        let ffa = words_for(BoardName::Virt, TeeAbi::Ffa, &bl33);
        for word in [
            "PLAT=qemu",
            "SPD=spmd SPMD_SPM_AT_SEL2=0 SPMC_OPTEE=1",
            "QEMU_TOS_FW_CONFIG_DTS=/optee/spmc-manifest.dts",
            "QEMU_GICV3",
            "PRELOADED_BL33_BASE=0x44000000",
            "BL32=/optee/tee-header_v2.bin",
            "all fip",
        ] {
            assert!(ffa.contains(word), "{word}: {ffa}");
        }
        assert!(!ffa.contains("opteed"), "{ffa}");
        let smc = words(BoardName::Virt, &bl33);
        assert!(smc.contains("SPD=opteed"), "{smc}");
        assert!(!smc.contains("SPM") && !smc.contains("TOS_FW"), "{smc}");
    }

    #[test]
    fn flash_has_bl1_at_0_and_then_the_fip() {
        let flash = lay_out(b"bl1", b"fip").unwrap();
        assert_eq!(flash.len(), FLASH);
        assert_eq!(&flash[..4], b"bl1\0");
        assert_eq!(&flash[FIP - 1..FIP + 4], b"\0fip\0");
        assert!(lay_out(&vec![0; FIP + 1], b"").is_err());
        assert!(lay_out(b"", &vec![0; FLASH]).is_err());
    }
}
