// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reads Debian packages: `ar` archives whose member `data.tar.*` has the files.

use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

#[cfg(test)]
mod tests;

/// A file of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The file's path, without a leading `/` or `./`.
    pub path: String,
    /// The file's content.
    pub content: Content,
}

/// The content of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A regular file.
    File {
        /// The permission bits.
        mode: u32,
        /// The file's bytes.
        data: Vec<u8>,
    },
    /// A symbolic or hard link. A hard link's target is a path like the entry's own.
    Link {
        /// The link's target.
        target: String,
        /// Whether the link is symbolic.
        symbolic: bool,
    },
}

/// Returns the files of a package whose paths pass `wanted`, in the archive's order, without
/// directories and devices.
///
/// # Errors
/// Fails when the file is no package or is damaged.
pub fn read(file: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<Entry>> {
    let open = File::open(file).with_context(|| format!("{} cannot be read", file.display()))?;
    read_from(BufReader::new(open), wanted)
        .with_context(|| format!("{} is no valid Debian package", file.display()))
}

fn read_from(from: impl Read, wanted: impl Fn(&str) -> bool) -> Result<Vec<Entry>> {
    let mut archive = ar::Archive::new(from);
    let mut version_seen = false;
    while let Some(member) = archive.next_entry() {
        let mut member = member?;
        let name = String::from_utf8_lossy(member.header().identifier()).into_owned();
        if name == "debian-binary" {
            let mut version = String::new();
            member.read_to_string(&mut version)?;
            if !version.starts_with("2.") {
                bail!("it is of format {}, not 2", version.trim());
            }
            version_seen = true;
        } else if let Some(ending) = name.strip_prefix("data.tar") {
            if !version_seen {
                bail!("there is no debian-binary before {name}");
            }
            return match ending {
                "" => read_tar(member, wanted),
                ".gz" => read_tar(flate2::read::GzDecoder::new(member), wanted),
                ".xz" => read_tar(lzma_rust2::XzReader::new(member, true), wanted),
                _ => bail!("{name} is compressed in an unknown format"),
            };
        }
    }
    bail!("there is no data.tar")
}

fn read_tar(from: impl Read, wanted: impl Fn(&str) -> bool) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    // The tar reader asks for a header at a time; the decompressor is slow with small reads.
    let mut archive = tar::Archive::new(BufReader::with_capacity(1 << 16, from));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = clean(&String::from_utf8_lossy(&entry.path_bytes()))?;
        if !wanted(&path) {
            continue;
        }
        let target = |entry: &tar::Entry<'_, _>| -> Result<String> {
            let target = entry.link_name_bytes().context("a link without a target")?;
            Ok(String::from_utf8_lossy(&target).into_owned())
        };
        let content = match entry.header().entry_type() {
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                let mut data = Vec::new();
                entry.read_to_end(&mut data)?;
                Content::File {
                    mode: entry.header().mode()? & 0o7777,
                    data,
                }
            }
            tar::EntryType::Symlink => Content::Link {
                target: target(&entry)?,
                symbolic: true,
            },
            tar::EntryType::Link => Content::Link {
                target: clean(&target(&entry)?)?,
                symbolic: false,
            },
            _ => continue,
        };
        entries.push(Entry { path, content });
    }
    Ok(entries)
}

/// Removes `./` from a path, and refuses a path that leads out of its folder.
fn clean(path: &str) -> Result<String> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => bail!("the path {path:?} leads out of the package"),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}
