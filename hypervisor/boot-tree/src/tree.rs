// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Small readers over the boot device tree.
//!
//! The tree comes from firmware and a boot loader, so it is not hostile, but it is written by
//! people: nothing here panics on a malformed one.

use super::flat::{Entries, Fdt, FdtNode, number};
use mediator::addr::Pa;

use super::error::BootError;
use postern_base::range::PaRange;

/// The size in bytes of the largest tree that is read: the limit of Linux's boot protocol.
pub const MAX_TREE: usize = 2 << 20;

/// The bytes that a device tree says it has, from its header, when the header is one.
pub fn total_size(tree: &[u8]) -> Option<usize> {
    let magic: [u8; 4] = tree.get(..4)?.try_into().ok()?;
    let size: [u8; 4] = tree.get(4..8)?.try_into().ok()?;
    (u32::from_be_bytes(magic) == 0xd00d_feed).then_some(u32::from_be_bytes(size) as usize)
}

/// Opens the tree at the start of `tree`; bytes behind it are ignored.
pub(super) fn open(tree: &[u8]) -> Result<Fdt<'_>, BootError<'_>> {
    parse(tree).map_err(BootError::NotATree)
}

/// As [`open`], or what is wrong with the tree.
pub(super) fn parse(tree: &[u8]) -> Result<Fdt<'_>, &'static str> {
    let whole = total_size(tree)
        .and_then(|size| tree.get(..size))
        .unwrap_or(tree);
    Fdt::new(whole)
}

/// The value of the property `name`.
pub(super) fn bytes<'t>(node: FdtNode<'t>, name: &str) -> Option<&'t [u8]> {
    node.property(name)
}

/// The value of the property `name` as one NUL-terminated UTF-8 string; `None` where the
/// property is absent or is something else.
pub(super) fn string<'t>(node: FdtNode<'t>, name: &str) -> Option<&'t str> {
    let text = node.property(name)?.strip_suffix(b"\0")?;
    let text = core::str::from_utf8(text).ok()?;
    (!text.contains('\0')).then_some(text)
}

/// The value of the property `name` as one cell; `None` where it is absent or longer.
pub(super) fn cell(node: FdtNode<'_>, name: &str) -> Option<u32> {
    node.property(name)?.try_into().ok().map(u32::from_be_bytes)
}

/// Whether a property without a value is there, or what is wrong with it: `name = <0>` is not a way to say no.
pub(super) fn flag(node: FdtNode<'_>, name: &str) -> Result<bool, &'static str> {
    match bytes(node, name) {
        None => Ok(false),
        Some([]) => Ok(true),
        Some(_) => Err("has a value: leave the value or the property out"),
    }
}

/// The 32-bit cells of a property's value; bytes that do not fill a cell are left out.
pub(super) fn cells(value: &[u8]) -> impl Iterator<Item = u32> + '_ {
    value
        .as_chunks::<4>()
        .0
        .iter()
        .map(|cell| u32::from_be_bytes(*cell))
}

/// The strings of a string list, such as `compatible`.
pub(super) fn strings<'t>(node: FdtNode<'t>, name: &str) -> impl Iterator<Item = &'t str> {
    let value = bytes(node, name).unwrap_or_default();
    let value = value.strip_suffix(b"\0").unwrap_or_default();
    value
        .split(|&byte| byte == 0)
        .filter_map(|text| core::str::from_utf8(text).ok())
}

/// Whether `compatible` lists one of `wanted`.
pub(super) fn is_compatible(node: FdtNode<'_>, wanted: &[&str]) -> bool {
    strings(node, "compatible").any(|text| wanted.contains(&text))
}

/// Whether the node's `status` lets the normal world use it: absent or okay.
pub(super) fn is_enabled(node: FdtNode<'_>) -> bool {
    node.property("status").is_none() || matches!(string(node, "status"), Some("okay" | "ok"))
}

/// The entries of `reg`, or what is wrong with it.
pub(super) fn regs(node: FdtNode<'_>) -> Result<Entries<'_, 2>, &'static str> {
    let regs = node.reg().ok_or("is missing")?;
    regs.map_err(|()| "does not match #address-cells and #size-cells")
}

/// The `index`-th range of `reg`, or what is wrong with it. Addresses are taken as they are: [`Located`] has a device's.
///
/// [`Located`]: super::bus::Located
pub(super) fn reg(node: FdtNode<'_>, index: usize) -> Result<PaRange, &'static str> {
    let [start, bytes] = regs(node)?.nth(index).ok_or("has too few ranges")?;
    range(start, bytes)
}

/// One entry of `reg` as a range, or what is wrong with it.
pub(super) fn range(start: &[u8], bytes: &[u8]) -> Result<PaRange, &'static str> {
    let start = narrow(start).ok_or("has an address above 64 bits")?;
    PaRange::new(Pa::new(start), size(bytes)?).ok_or("passes the end of the address space")
}

/// The size in one entry of `reg`, or what is wrong with it.
pub(super) fn size(bytes: &[u8]) -> Result<u64, &'static str> {
    narrow(bytes).ok_or("has a size above 64 bits")
}

fn narrow(bytes: &[u8]) -> Option<u64> {
    number(bytes)?.try_into().ok()
}
