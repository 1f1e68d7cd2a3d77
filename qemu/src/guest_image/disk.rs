// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Makes the disk that guests have their root file systems on: a partition for each, with a GUID
//! partition table (UEFI 2.10, chapter 5), whose entries have names.

use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

const SECTOR: u64 = 512;
/// The alignment of partitions in bytes.
const ALIGNMENT: u64 = 1 << 20;
/// The entries of the table, and the bytes of one.
const ENTRIES: usize = 128;
const ENTRY: usize = 128;
/// The sectors of a table's entries.
const TABLE_SECTORS: u64 = (ENTRIES * ENTRY) as u64 / SECTOR;
const HEADER: usize = 92;
/// The characters of a partition's name.
const NAME: usize = 36;
/// The type of a Linux file system, 0FC63DAF-8483-4772-8E79-3D69D8477DE4, as it is stored.
const LINUX: [u8; 16] = [
    0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4,
];
/// The bytes that are read at once; of these, zeroes are not written.
const CHUNK: usize = 64 << 10;

/// A partition to make.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Partition<'a> {
    /// The name, in ASCII.
    pub(crate) name: &'a str,
    /// The file with its content.
    pub(crate) content: &'a Path,
}

/// Makes a disk with these partitions.
///
/// # Errors
/// Fails when a file cannot be read or the disk cannot be written.
pub(crate) fn write(disk: &Path, partitions: &[Partition<'_>]) -> Result<()> {
    ensure!(
        partitions.len() <= ENTRIES,
        "a disk has {ENTRIES} partitions at most"
    );
    let failed = || format!("{} cannot be written", disk.display());
    let mut places = Vec::new();
    let mut end = ALIGNMENT;
    for partition in partitions {
        let path = partition.content;
        let content = File::open(path).with_context(|| path.display().to_string())?;
        let size = content.metadata()?.len().next_multiple_of(ALIGNMENT);
        places.push((content, end, size));
        end += size;
    }
    let size = end + ALIGNMENT;
    let file = File::create(disk).with_context(failed)?;
    file.set_len(size).with_context(failed)?;
    let mut entries = Vec::new();
    for (partition, (content, start, size)) in partitions.iter().zip(places) {
        copy(content, &file, start).with_context(failed)?;
        entries.extend(entry(partition.name, start / SECTOR, size / SECTOR));
    }
    entries.resize(ENTRIES * ENTRY, 0);
    let last = size / SECTOR - 1;
    let (first_table, second_table) = (2, last - TABLE_SECTORS);
    let pieces = [
        (0, protective(last).to_vec()),
        (1, header(1, last, first_table, &entries).to_vec()),
        (first_table, entries.clone()),
        (second_table, entries.clone()),
        (last, header(last, 1, second_table, &entries).to_vec()),
    ];
    for (sector, bytes) in pieces {
        file.write_all_at(&bytes, sector * SECTOR)
            .with_context(failed)?;
    }
    Ok(())
}

/// Copies a file to a place in another, which is zero there.
fn copy(mut from: File, to: &File, start: u64) -> std::io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut position = start;
    loop {
        let read = from.read(&mut chunk)?;
        if read == 0 {
            return Ok(());
        }
        if chunk[..read].iter().any(|&byte| byte != 0) {
            to.write_all_at(&chunk[..read], position)?;
        }
        position += read as u64;
    }
}

/// Returns an identifier that is the same at each build: a disk that is made again has the same.
fn guid(seed: u32) -> [u8; 16] {
    let mut guid = *b"postern\0\0\0\x08\x80disk";
    for (byte, part) in guid.iter_mut().skip(12).zip(seed.to_le_bytes()) {
        *byte ^= part;
    }
    // A custom one, version 8 (RFC 9562 5.8); its third field is little-endian here.
    guid[7] = 0x80;
    guid[8] = 0x80;
    guid
}

fn entry(name: &str, start: u64, sectors: u64) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    entry[..16].copy_from_slice(&LINUX);
    entry[16..32].copy_from_slice(&guid(crc(name.as_bytes())));
    entry[32..40].copy_from_slice(&start.to_le_bytes());
    entry[40..48].copy_from_slice(&(start + sectors - 1).to_le_bytes());
    for (unit, place) in name
        .encode_utf16()
        .take(NAME)
        .zip(entry[56..].chunks_mut(2))
    {
        place.copy_from_slice(&unit.to_le_bytes());
    }
    entry
}

fn header(at: u64, other: u64, table: u64, entries: &[u8]) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    let last = at.max(other);
    header[..8].copy_from_slice(b"EFI PART");
    header[8..12].copy_from_slice(&0x1_0000_u32.to_le_bytes());
    header[12..16].copy_from_slice(&(HEADER as u32).to_le_bytes());
    header[24..32].copy_from_slice(&at.to_le_bytes());
    header[32..40].copy_from_slice(&other.to_le_bytes());
    header[40..48].copy_from_slice(&(2 + TABLE_SECTORS).to_le_bytes());
    header[48..56].copy_from_slice(&(last - TABLE_SECTORS - 1).to_le_bytes());
    header[56..72].copy_from_slice(&guid(0));
    header[72..80].copy_from_slice(&table.to_le_bytes());
    header[80..84].copy_from_slice(&(ENTRIES as u32).to_le_bytes());
    header[84..88].copy_from_slice(&(ENTRY as u32).to_le_bytes());
    header[88..92].copy_from_slice(&crc(entries).to_le_bytes());
    let sum = crc(&header);
    header[16..20].copy_from_slice(&sum.to_le_bytes());
    header
}

/// Returns the sector that tells a PC that the disk is taken, up to its last sector.
fn protective(last: u64) -> [u8; SECTOR as usize] {
    let mut sector = [0; SECTOR as usize];
    let sectors = u32::try_from(last).unwrap_or(u32::MAX);
    sector[447..454].copy_from_slice(&[0, 2, 0, 0xee, 0xff, 0xff, 0xff]);
    sector[454..458].copy_from_slice(&1_u32.to_le_bytes());
    sector[458..462].copy_from_slice(&sectors.to_le_bytes());
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_have_names_and_content() {
        let folder = tempfile::tempdir().unwrap();
        let (io, app) = (
            folder.path().join("io.ext4"),
            folder.path().join("app.ext4"),
        );
        // Zeroes in the middle, and sizes that are no multiples of anything.
        let mut content = vec![7; CHUNK + 5];
        content[100..CHUNK].fill(0);
        std::fs::write(&io, &content).unwrap();
        std::fs::write(&app, vec![9; (1 << 20) + 1]).unwrap();
        let disk = folder.path().join("disk.img");
        let partitions =
            [("io", &io), ("app", &app)].map(|(name, content)| Partition { name, content });
        write(&disk, &partitions).unwrap();
        let bytes = std::fs::read(&disk).unwrap();
        let word = |at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().unwrap());
        let half = |at: usize| u32::from_le_bytes(*bytes[at..].first_chunk().unwrap());
        let last = bytes.len() as u64 / SECTOR - 1;
        assert_eq!(&bytes[510..520], b"\x55\xaaEFI PART");
        for at in [512, bytes.len() - 512] {
            let mut head = bytes[at..at + HEADER].to_vec();
            head[16..20].fill(0);
            assert_eq!(half(at + 16), crc(&head));
            assert_eq!(word(at + 24) * SECTOR, at as u64);
            assert_eq!(word(at + 24) + word(at + 32), 1 + last);
            let table = (word(at + 72) * SECTOR) as usize;
            assert_eq!(half(at + 88), crc(&bytes[table..table + ENTRIES * ENTRY]));
            let mut end = word(at + 40);
            for (number, (name, content)) in
                [("io", content.clone()), ("app", vec![9; (1 << 20) + 1])]
                    .into_iter()
                    .enumerate()
            {
                let entry = table + number * ENTRY;
                let start = word(entry + 32);
                assert!(start >= end, "{start} overlaps");
                end = word(entry + 40) + 1;
                let utf16: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
                assert_eq!(bytes[entry + 56..entry + 56 + utf16.len()], utf16);
                let place = (start * SECTOR) as usize;
                assert!((end - start) * SECTOR >= content.len() as u64);
                assert!(bytes[place..place + content.len()] == content);
            }
            assert!(end <= word(at + 48) + 1);
        }
        assert!(guid(1) != guid(2));
    }
}
