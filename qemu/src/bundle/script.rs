// SPDX-License-Identifier: Apache-2.0 OR MIT
//! U-Boot scripts: their text, and the image that U-Boot takes them in.
//!
//! Every script sets a variable when a command fails and goes on: old versions of U-Boot's shell
//! have no better way that also works inside `source`.

use super::{Bundle, FIT, Piece, TREE, TREE_ROOM, board};
use crate::boot_tree;
use anyhow::{Context, Result};
use dtoolkit::model::{DeviceTree, DeviceTreeNode};
use dtoolkit::{Node, Property};
use std::fmt::Write;

/// Bytes of a property's value that U-Boot's `fdt set` has room for (`SCRATCHPAD`, 1024), less what
/// it may add.
const MOST_VALUE: usize = 1000;
/// Strings of a list that are written as such; U-Boot's shell takes 16 words or more in a command.
const MOST_STRINGS: usize = 8;

/// How U-Boot reads files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Medium {
    /// `load mmc`: an SD card or eMMC.
    #[default]
    Mmc,
    /// `load virtio`: a virtio disk.
    Virtio,
    /// `tftpboot`: a TFTP server.
    Tftp,
}

impl Medium {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Mmc, Self::Virtio, Self::Tftp];

    /// U-Boot's name of the interface; `None` for the network.
    pub(super) fn interface(self) -> Option<&'static str> {
        match self {
            Self::Mmc => Some("mmc"),
            Self::Virtio => Some("virtio"),
            Self::Tftp => None,
        }
    }
}

/// Where U-Boot loads the files from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct From {
    /// How.
    pub medium: Medium,
    /// Which device and which partition of it, where the medium has them.
    pub device: u32,
    /// See `device`.
    pub partition: u32,
}

impl Default for From {
    fn default() -> Self {
        Self {
            medium: Medium::default(),
            device: 0,
            partition: 1,
        }
    }
}

/// Returns the text that boots the merged tree.
pub(super) fn merged(bundle: &Bundle<'_>) -> String {
    files(bundle, "the tree that the bundle has", &booti(bundle))
}

/// Returns the text that starts the hypervisor as an EFI application, with the merged tree.
pub(super) fn efi(bundle: &Bundle<'_>) -> String {
    files(
        bundle,
        "the tree that the bundle has, by EFI",
        &bootefi(bundle),
    )
}

/// Returns the command that boots what has been loaded.
pub(super) fn booti(bundle: &Bundle<'_>) -> String {
    let (image, tree) = (bundle.hypervisor.region, bundle.tree.region);
    format!("booti {:#x} - {:#x}", image.address, tree.address)
}

/// Returns the command that starts what has been loaded as an EFI application. U-Boot knows the length of the last
/// file only, so the command has it.
pub(super) fn bootefi(bundle: &Bundle<'_>) -> String {
    let (image, tree) = (bundle.hypervisor.region, bundle.tree.region);
    format!(
        "bootefi {:#x}:{:x} {:#x}",
        image.address, image.size, tree.address
    )
}

/// Loads all files and starts the hypervisor.
fn files(bundle: &Bundle<'_>, tree: &str, command: &str) -> String {
    let mut text = head(bundle, tree);
    for piece in bundle.pieces() {
        load(
            &mut text,
            bundle.plan.from.medium,
            piece.region.address,
            piece,
        );
    }
    boot(&mut text, command);
    text
}

/// Returns the text that boots the FIT.
pub(super) fn fit(bundle: &Bundle<'_>, stage: u64) -> String {
    let mut text = head(bundle, "one file with hashes");
    let command = load_command(bundle.plan.from.medium, stage, FIT);
    let _ = writeln!(text, "{command} || setenv postern_ok no");
    boot(&mut text, &format!("bootm {stage:#x}"));
    text
}

/// Returns the text that boots U-Boot's own tree, to which it adds nodes.
///
/// # Errors
/// A property is larger than U-Boot takes.
pub(super) fn own_tree(bundle: &Bundle<'_>) -> Result<String> {
    let plan = bundle.plan;
    let mut text = head(bundle, "U-Boot's own tree");
    for piece in bundle.pieces().filter(|piece| piece.name != TREE) {
        load(&mut text, plan.from.medium, piece.region.address, piece);
    }
    let tree = bundle.tree.region.address;
    text += "# A copy with room, so that U-Boot's own stays as it is.\n";
    let _ = writeln!(
        text,
        "fdt move ${{fdtcontroladdr}} {tree:#x} {TREE_ROOM:#x} || setenv postern_ok no"
    );
    text += "fdt chosen\n";
    let mut additions = DeviceTree::new();
    board::add(
        &mut additions,
        &board::Additions {
            // U-Boot knows its RAM.
            memory: Vec::new(),
            ..plan.additions.clone()
        },
    )?;
    boot_tree::describe(
        &mut additions,
        &plan.system,
        &bundle.placed,
        plan.additions.static_tables,
    )?;
    for node in additions.root.children() {
        if node.name() != "chosen" {
            text += "# Where there is one already, U-Boot says FDT_ERR_EXISTS, and that does no harm.\n";
            let _ = writeln!(text, "fdt mknode / {}", node.name());
        }
        commands(&mut text, "", node)?;
    }
    boot(
        &mut text,
        &format!("booti {:#x} - {tree:#x}", bundle.hypervisor.region.address),
    );
    Ok(text)
}

fn head(bundle: &Bundle<'_>, tree: &str) -> String {
    let mut text = format!(
        "# Boots Postern with {tree}. Made by `postern-tool bundle`.\nsetenv postern_ok yes\n"
    );
    let from = bundle.plan.from;
    match from.medium.interface() {
        Some(interface) => {
            let _ = write!(
                text,
                "# Where U-Boot found this script by itself, it has said where. Else:\n\
                 if test -z \"${{devtype}}\"; then setenv devtype {interface}; setenv devnum {}; \
                 setenv distro_bootpart {}; fi\n",
                from.device, from.partition
            );
        }
        None => text += "if test -z \"${ipaddr}\"; then setenv autoload no; dhcp; fi\n",
    }
    text
}

fn load_command(medium: Medium, address: u64, name: &str) -> String {
    match medium.interface() {
        Some(_) => format!(
            "load ${{devtype}} ${{devnum}}:${{distro_bootpart}} {address:#x} ${{prefix}}{name}"
        ),
        None => format!("tftpboot {address:#x} {name}"),
    }
}

/// Loads a file, and compares its length with what the tree says.
fn load(text: &mut String, medium: Medium, address: u64, piece: &Piece) {
    let command = load_command(medium, address, &piece.name);
    let size = piece.region.size;
    let _ = write!(
        text,
        "{command} || setenv postern_ok no\n\
         test \"${{filesize}}\" = {size:x} || setenv postern_ok no\n"
    );
}

fn boot(text: &mut String, command: &str) {
    let _ = write!(
        text,
        "if test \"${{postern_ok}}\" = yes; then {command}; fi\n\
         echo Postern was not started: a file is missing or of another length, or U-Boot refused it\n"
    );
}

/// The commands that make what is in a node. `fdt mknode` puts a new node before its brothers, and
/// VMs have their console channels in the order of the tree: so the last comes first.
fn commands(text: &mut String, parent: &str, node: &DeviceTreeNode) -> Result<()> {
    let path = format!("{parent}/{}", node.name());
    for property in node.properties() {
        let (name, bytes) = (property.name(), property.value());
        let value = value(bytes).with_context(|| {
            format!(
                "{path}: {name} has {} bytes, and U-Boot's fdt command takes {MOST_VALUE}",
                bytes.len()
            )
        })?;
        let _ = writeln!(
            text,
            "fdt set {path} \"{name}\"{value} || setenv postern_ok no"
        );
    }
    let children: Vec<&DeviceTreeNode> = node.children().collect();
    for child in children.into_iter().rev() {
        let _ = writeln!(text, "fdt mknode {path} {}", child.name());
        commands(text, &path, child)?;
    }
    Ok(())
}

/// A property's value in the words of `fdt set`, with a blank before it; `None` where it is too
/// long.
fn value(bytes: &[u8]) -> Option<String> {
    if bytes.is_empty() {
        return Some(String::new());
    }
    if bytes.len() > MOST_VALUE {
        return None;
    }
    if let Some(strings) = strings(bytes) {
        return Some(strings.map(|text| format!(" \"{text}\"")).collect());
    }
    let (cells, rest) = bytes.as_chunks::<4>();
    if rest.is_empty() && cells.len() <= MOST_STRINGS {
        let cells: Vec<String> = cells
            .iter()
            .map(|cell| format!("{:#x}", u32::from_be_bytes(*cell)))
            .collect();
        return Some(format!(" \"<{}>\"", cells.join(" ")));
    }
    let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(format!(" \"[{}]\"", bytes.join(" ")))
}

/// The strings of a list that U-Boot's shell and its `fdt set` take as they are.
fn strings(bytes: &[u8]) -> Option<impl Iterator<Item = &str>> {
    let text = std::str::from_utf8(bytes.strip_suffix(b"\0")?).ok()?;
    let plain = |text: &str| {
        let good = |c: char| (c == ' ' || c.is_ascii_graphic()) && !"\"\\$`'".contains(c);
        !text.is_empty() && !text.starts_with(['<', '[']) && text.chars().all(good)
    };
    let all = || text.split('\0');
    (all().count() <= MOST_STRINGS && all().all(plain)).then(all)
}

/// Returns a script in the legacy image format, as `mkimage -T script -A arm64` writes it: a header
/// of 64 bytes, the length of each part, and a zero length behind the last.
///
/// # Errors
/// It is too long.
pub fn image(script: &str) -> Result<Vec<u8>> {
    const MAGIC: u32 = 0x2705_1956;
    const NAME: &[u8] = b"Postern";
    const LINUX: u8 = 5;
    const ARM64: u8 = 22;
    const SCRIPT: u8 = 6;
    let length = u32::try_from(script.len()).context("a script of gigabytes")?;
    let mut data = Vec::new();
    data.extend(length.to_be_bytes());
    data.extend([0; 4]);
    data.extend(script.as_bytes());
    let mut header = [0_u8; 64];
    header[..4].copy_from_slice(&MAGIC.to_be_bytes());
    header[12..16].copy_from_slice(&u32::try_from(data.len())?.to_be_bytes());
    header[24..28].copy_from_slice(&crc(&data).to_be_bytes());
    header[28..32].copy_from_slice(&[LINUX, ARM64, SCRIPT, 0]);
    header[32..32 + NAME.len()].copy_from_slice(NAME);
    // The header's own is made while its field is zero.
    let sum = crc(&header);
    header[4..8].copy_from_slice(&sum.to_be_bytes());
    let mut image = header.to_vec();
    image.extend(data);
    Ok(image)
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `mkimage -T script -A arm64 -O linux -C none -n Postern` of U-Boot 2023.01 makes of
    /// [`TEXT`] with `SOURCE_DATE_EPOCH=0`, up to the text.
    const MKIMAGE: [u8; 72] = [
        0x27, 0x05, 0x19, 0x56, 0x1f, 0x6c, 0xf0, 0x88, 0, 0, 0, 0, 0, 0, 0, 0x1c, //
        0, 0, 0, 0, 0, 0, 0, 0, 0xcb, 0x87, 0x68, 0x1b, 0x05, 0x16, 0x06, 0, //
        0x50, 0x6f, 0x73, 0x74, 0x65, 0x72, 0x6e, 0, 0, 0, 0, 0, 0, 0, 0, 0, //
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, //
        0, 0, 0, 0x14, 0, 0, 0, 0,
    ];
    const TEXT: &str = "echo hi\nbooti 1 - 2\n";

    #[test]
    fn a_script_image_is_what_mkimage_makes() {
        let image = image(TEXT).expect("short");
        assert_eq!(image[..72], MKIMAGE);
        assert_eq!(&image[72..], TEXT.as_bytes());
    }

    #[test]
    fn values_are_written_in_a_form_that_the_shell_leaves_alone() {
        let text = |bytes: &[u8]| value(bytes).expect("short");
        assert_eq!(text(b""), "");
        assert_eq!(text(b"a b\0c,d\0"), " \"a b\" \"c,d\"");
        assert_eq!(text(&[0, 0, 0, 2]), " \"<0x2>\"");
        assert_eq!(text(&[0, 0, 0, 1, 0xff, 0, 0, 0]), " \"<0x1 0xff000000>\"");
        // A variable, a quote, what looks like cells, an empty string.
        assert_eq!(text(b"$x\0"), " \"[24 78 00]\"");
        assert_eq!(text(b"\"\0"), " \"[22 00]\"");
        assert_eq!(text(b"<1>\0"), " \"<0x3c313e00>\"");
        assert_eq!(text(b"\0"), " \"[00]\"");
        assert_eq!(text(&[7; 36]).len(), 4 + 36 * 3);
        assert_eq!(value(&[0; 1001]), None);
    }
}
