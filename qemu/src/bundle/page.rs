// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The page that says what to type.

use super::script::{self, Medium};
use super::{Bundle, EFI_TREE, FIT, GUESTS, HYPERVISOR, wants_optee};
use std::fmt::Write;

/// Returns the page's text.
pub(super) fn write(bundle: &Bundle<'_>) -> String {
    let mut text = String::from(
        "Postern for U-Boot\n==================\n\n\
         Made by `postern-tool bundle`. Put the files of this folder into the first folder of a FAT or ext4\n\
         partition, or on a TFTP server. The disk needs a partition table. docs/porting.md has the whole way.\n\n\
         File                   Address       Bytes       What\n",
    );
    for piece in bundle.pieces() {
        let address = format!("{:#x}", piece.region.address);
        let (name, size, what) = (&piece.name, piece.region.size, &piece.what);
        let _ = writeln!(text, "{name:22} {address:13} {size:<11} {what}");
    }
    if let Some(stage) = bundle.stage {
        let address = format!("{stage:#x}");
        let _ = writeln!(text, "{FIT:22} {address:13} {:11} all of them", "");
    }
    text += "\nThe tree names these addresses and lengths: make the bundle again when a file changes.\n";
    section(&mut text, "A disk, without a key pressed");
    text += "U-Boot's default bootcmd finds boot.scr on a bootable partition and runs it. To boot another way,\n\
             rename another script to boot.scr.\n\n\
             boot.scr            the files above, and the tree of this folder\n";
    if bundle.stage.is_some() {
        text += "boot-fit.scr        postern.itb: one file, whose hashes U-Boot checks\n";
    }
    text += "boot-efi.scr        as boot.scr, by U-Boot's EFI\n";
    text += "boot-own-tree.scr   U-Boot's own tree, with what firmware put there; the script adds the VMs\n";
    for medium in Medium::ALL {
        by_hand(&mut text, bundle, medium);
    }
    section(&mut text, "GRUB, systemd-boot, a unified kernel image");
    let _ = write!(
        text,
        "These start {HYPERVISOR} by EFI, and choose addresses themselves: {GUESTS} has the guests' files, and\n\
         {EFI_TREE} says where in it. For GRUB, in this order:\n\n\
         devicetree /{EFI_TREE}\nlinux /{HYPERVISOR}\ninitrd /{GUESTS}\n"
    );
    section(&mut text, "What the board needs");
    let (must, any) = wants_optee(&bundle.plan.system);
    if any {
        let vms = bundle.plan.system.vms.len();
        let _ = write!(
            text,
            "OP-TEE built with CFG_NS_VIRTUALIZATION=y and CFG_VIRT_GUEST_COUNT={vms} or more"
        );
        let _ = if must.is_empty() {
            writeln!(text, ".")
        } else {
            writeln!(
                text,
                "; without it there is no start of {}.",
                must.join(", ")
            )
        };
    }
    text += "TF-A starts U-Boot at EL2. U-Boot makes no kaslr-seed, and the tree of this folder has none. If neither firmware\n\
             (TRNG, DEN0098) nor the CPU (FEAT_RNG) has random numbers, guests boot without KASLR.\n";
    text
}

fn section(text: &mut String, title: &str) {
    let _ = write!(text, "\n{title}\n{}\n\n", "-".repeat(title.len()));
}

fn by_hand(text: &mut String, bundle: &Bundle<'_>, medium: Medium) {
    let from = bundle.plan.from;
    let load = |address: &str, file: &str| match medium.interface() {
        Some(interface) => format!(
            "load {interface} {}:{} {address} {file}",
            from.device, from.partition
        ),
        None => format!("tftpboot {address} {file}"),
    };
    let title = match medium {
        Medium::Mmc => "By hand: mmc",
        Medium::Virtio => "By hand: virtio",
        Medium::Tftp => "By hand: tftp",
    };
    section(text, title);
    if medium == Medium::Tftp {
        text.push_str("setenv autoload no; dhcp; setenv serverip ADDRESS\n");
    }
    if medium == Medium::Virtio {
        text.push_str("virtio scan\n");
    }
    for piece in bundle.pieces() {
        let address = format!("{:#x}", piece.region.address);
        let _ = writeln!(text, "{}", load(&address, &piece.name));
    }
    let (booti, bootefi) = (script::booti(bundle), script::bootefi(bundle));
    let _ = write!(
        text,
        "{booti}\n\nor, by U-Boot's EFI, instead of the last\n\n{bootefi}\n"
    );
    if let Some(stage) = bundle.stage {
        let address = format!("{stage:#x}");
        let _ = write!(text, "\nor\n\n{}\nbootm {address}\n", load(&address, FIT));
    }
    if medium == from.medium {
        let command = load("${scriptaddr}", "boot-own-tree.scr");
        let _ = write!(text, "\nor\n\n{command}\nsource ${{scriptaddr}}\n");
    }
}
