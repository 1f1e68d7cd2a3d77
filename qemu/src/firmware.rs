// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Builds the firmware: one flash image with TF-A, from Debian's source, and an OP-TEE.

use crate::board::Board;
use crate::make;
use crate::optee::{self, Optee};
use crate::parts::{self, Package, Parts, UBoot};
use crate::paths::Paths;
use crate::prepare::Suite;
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
/// The version of the recipe for the flash image; a change of the recipe increments it.
const RECIPE: u32 = 2;

/// Returns the flash image of a suite for a board with an OP-TEE, and builds it if need be.
///
/// # Errors
/// Fails when a part is not as expected or TF-A does not build; names the build's log.
pub fn flash(
    paths: &Paths,
    suite: Suite,
    board: &Board,
    optee: &Optee,
    parts: &Parts,
    progress: &Progress,
) -> Result<PathBuf> {
    let bl33 = Bl33::InRam(board.map.entry(optee.virtualised));
    build(paths, suite, board, optee, &bl33, parts, progress)
}

/// The flash image of a suite with an OP-TEE and a U-Boot, which boots what it finds; built if need
/// be.
///
/// # Errors
/// As [`flash`].
pub fn flash_with_u_boot(
    paths: &Paths,
    suite: Suite,
    board: &Board,
    optee: &Optee,
    u_boot: &UBoot,
    parts: &Parts,
    progress: &Progress,
) -> Result<PathBuf> {
    let bl33 = Bl33::UBoot(u_boot);
    build(paths, suite, board, optee, &bl33, parts, progress)
}

/// What the firmware enters when it is done.
enum Bl33<'a> {
    /// What is at this address at reset, as Linux would be: no part of the firmware.
    InRam(u64),
    /// A U-Boot, which is in the flash.
    UBoot(&'a UBoot),
}

fn build(
    paths: &Paths,
    suite: Suite,
    board: &Board,
    optee: &Optee,
    bl33: &Bl33<'_>,
    parts: &Parts,
    progress: &Progress,
) -> Result<PathBuf> {
    let (kind, what) = match bl33 {
        Bl33::InRam(address) => (optee.kind.clone(), format!("BL33 at {address:#x}")),
        Bl33::UBoot(u_boot) => (
            format!("{}-u-boot", optee.kind),
            format!("U-Boot {}", u_boot.version),
        ),
    };
    let flash = paths.built(suite).join(format!("flash-{kind}.img"));
    let tf_a = parts.tf_a();
    let made_of = format!(
        "TF-A {}, {}, recipe {RECIPE}, {what}, tree at {:#x}\n",
        tf_a.version,
        optee.made_of(),
        board.map.tree
    );
    if stamp::is_fresh(&flash, &made_of) {
        return Ok(flash);
    }
    let step = progress.step(&format!("Building TF-A {} ({kind} OP-TEE)", tf_a.version));
    let folder = paths.out().join("tf-a");
    let source = unpack(tf_a, &folder, &step)?;
    let images = folder.join(format!("{suite}-{kind}"));
    optee.put(&images)?;
    let build = images.join("build");
    // TF-A's make does not notice that its options have changed.
    if build.exists() {
        std::fs::remove_dir_all(&build)
            .with_context(|| format!("{} cannot be removed", build.display()))?;
    }
    let log = paths.build_logs().join(format!("tf-a-{suite}-{kind}.log"));
    step.run(&mut make(&source, board, &images, &build, bl33), &log)?;
    let release = build.join("qemu/release");
    let read = |name: &str| {
        let file = release.join(name);
        std::fs::read(&file).with_context(|| format!("{} was not built", file.display()))
    };
    stamp::write(&flash, &lay_out(&read("bl1.bin")?, &read("fip.bin")?)?)?;
    stamp::mark(&flash, &made_of)?;
    step.done();
    Ok(flash)
}

/// Unpacks the source once.
fn unpack(tf_a: &Package, folder: &Path, step: &Step) -> Result<PathBuf> {
    let source = folder.join(format!("source-{}", tf_a.version));
    if source.is_dir() {
        return Ok(source);
    }
    step.detail("unpacking");
    std::fs::create_dir_all(folder)
        .with_context(|| format!("{} cannot be made", folder.display()))?;
    // Unpacks beside the final place, so that half a tree is never taken for a whole one.
    let new = tempfile::tempdir_in(folder)?;
    let tree = parts::unpack(&tf_a.file, new.path())?;
    std::fs::rename(tree, &source)?;
    Ok(source)
}

fn make(source: &Path, board: &Board, images: &Path, build: &Path, bl33: &Bl33<'_>) -> Command {
    let mut make = make::command(source);
    make.arg(format!("BUILD_BASE={}", build.display()))
        .args([
            "CROSS_COMPILE=aarch64-linux-gnu-",
            // A warning of a newer compiler is no error.
            "E=0",
        ])
        .args(board.tf_a.flags)
        .args(
            BL32.iter()
                .zip(optee::IMAGES)
                .map(|(variable, image)| format!("{variable}={}", images.join(image).display())),
        )
        .args(["all", "fip"]);
    match bl33 {
        Bl33::InRam(address) => make
            .arg("ARM_LINUX_KERNEL_AS_BL33=1")
            .arg(format!("PRELOADED_BL33_BASE={address:#x}"))
            .arg(format!("ARM_PRELOADED_DTB_BASE={:#x}", board.map.tree)),
        Bl33::UBoot(u_boot) => make.arg(format!("BL33={}", u_boot.file.display())),
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
