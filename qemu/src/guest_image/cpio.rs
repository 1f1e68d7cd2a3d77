// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Writes the archive format of an initramfs (`newc`).

use super::rootfs::Node;
use anyhow::{Context, Result};
use cpio::newc::{Builder, trailer};
use std::io::Write;

const DIRECTORY: u32 = 0o040_000;
const DEVICE: u32 = 0o020_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// Returns an archive of these entries, in which parents come first. All files belong to root and
/// have time 0, so that the same content gives the same bytes.
pub(super) fn archive<'a>(entries: impl Iterator<Item = (&'a str, &'a Node)>) -> Result<Vec<u8>> {
    let mut archive = Vec::new();
    for (index, (path, node)) in entries.enumerate() {
        let (mode, data): (u32, &[u8]) = match node {
            Node::Directory => (DIRECTORY | 0o755, &[]),
            Node::File { mode, data } => (FILE | mode, data),
            Node::Link { target } => (LINK | 0o777, target.as_bytes()),
            Node::CharacterDevice { .. } => (DEVICE | 0o600, &[]),
        };
        let links = if matches!(node, Node::Directory) {
            2
        } else {
            1
        };
        let mut builder = Builder::new(path)
            .ino(u32::try_from(index)? + 1)
            .mode(mode)
            .nlink(links);
        if let Node::CharacterDevice { major, minor } = node {
            builder = builder.rdev_major(*major).rdev_minor(*minor);
        }
        let length = u32::try_from(data.len()).with_context(|| format!("{path} is too long"))?;
        let mut writer = builder.write(&mut archive, length);
        writer.write_all(data)?;
        writer.finish()?;
    }
    Ok(trailer(archive)?)
}

#[cfg(test)]
mod tests {
    use super::super::rootfs::RootFs;
    use super::*;
    use cpio::newc::Reader;
    use std::io::Read;

    #[test]
    fn archive_reads_back() {
        let mut root = RootFs::skeleton();
        root.file("usr/bin/tool", 0o755, b"abc".to_vec());
        root.link("usr/bin/other", "tool");
        let bytes = archive(root.entries()).unwrap();
        let mut rest: &[u8] = &bytes;
        let mut seen = Vec::new();
        loop {
            let mut reader = Reader::new(rest).unwrap();
            let entry = reader.entry().clone();
            if entry.is_trailer() {
                break;
            }
            let mut data = Vec::new();
            reader.read_to_end(&mut data).unwrap();
            rest = reader.finish().unwrap();
            seen.push((
                entry.name().to_owned(),
                entry.mode(),
                data,
                entry.rdev_minor(),
            ));
        }
        let find = |name: &str| seen.iter().position(|entry| entry.0 == name).unwrap();
        let of = |name: &str| &seen[find(name)];
        assert_eq!(of("usr/bin/tool").1, 0o100_755);
        assert_eq!(of("usr/bin/tool").2, b"abc");
        assert_eq!(
            (of("lib").1, of("lib").2.as_slice()),
            (0o120_777, &b"usr/lib"[..])
        );
        assert_eq!(of("usr/bin/other").2, b"tool");
        assert_eq!((of("dev/console").1, of("dev/console").3), (0o020_600, 1));
        assert_eq!(of("usr").1, 0o040_755);
        // The kernel does not create missing parents.
        assert!(find("usr") < find("usr/bin") && find("usr/bin") < find("usr/bin/tool"));
    }
}
