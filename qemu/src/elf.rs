// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reads the few properties of ELF files that this tool needs. All files are 64-bit little-endian.

use anyhow::{Context, Result, bail};
use object::elf::{DT_NEEDED, PT_DYNAMIC, PT_LOAD, SHF_ALLOC, SHF_WRITE};
use object::read::elf::{Dyn, ElfFile64, ProgramHeader};
use object::{LittleEndian, Object, ObjectSection, ObjectSymbol, SectionFlags};

type Elf<'a> = ElfFile64<'a, LittleEndian>;

fn parse(file: &[u8]) -> Result<Elf<'_>> {
    Elf::parse(file).context("it is no 64-bit ELF file")
}

/// Returns the bytes of a named section.
///
/// # Errors
/// Fails when the file is no ELF file or has no such section.
pub fn section<'a>(file: &'a [u8], name: &str) -> Result<&'a [u8]> {
    let elf = parse(file)?;
    let section = elf
        .section_by_name(name)
        .with_context(|| format!("it has no section {name}"))?;
    section
        .data()
        .with_context(|| format!("its section {name} is damaged"))
}

/// Returns the names of the libraries that a program or library is linked with; none when it is
/// static.
///
/// # Errors
/// Fails when the file is no ELF file or is damaged.
pub fn needed(file: &[u8]) -> Result<Vec<String>> {
    let elf = parse(file)?;
    let endian = LittleEndian;
    let segments = elf.elf_program_headers();
    let Some(dynamic) = segments.iter().find(|s| s.p_type(endian) == PT_DYNAMIC) else {
        return Ok(Vec::new());
    };
    let entries = dynamic
        .dynamic(endian, file)
        .context("its dynamic section is damaged")?
        .unwrap_or_default();
    let strings = section(file, ".dynstr")?;
    let mut names = Vec::new();
    for entry in entries {
        if entry.d_tag(endian) == DT_NEEDED {
            let at = usize::try_from(entry.d_val(endian))?;
            let name = strings
                .get(at..)
                .and_then(|rest| rest.split(|&byte| byte == 0).next())
                .context("a library's name lies outside the string table")?;
            names.push(String::from_utf8_lossy(name).into_owned());
        }
    }
    Ok(names)
}

/// Returns the bytes of memory from the first loadable segment to the end of the last,
/// zero-initialised memory included.
///
/// # Errors
/// Fails when the file is no ELF file or has nothing to load.
pub fn extent(file: &[u8]) -> Result<u64> {
    let elf = parse(file)?;
    let endian = LittleEndian;
    let segments = || {
        let all = elf.elf_program_headers().iter();
        all.filter(|segment| segment.p_type(endian) == PT_LOAD)
    };
    let start = segments().map(|segment| segment.p_paddr(endian)).min();
    let ends = segments().map(|segment| {
        segment
            .p_paddr(endian)
            .saturating_add(segment.p_memsz(endian))
    });
    let (start, end) = start.zip(ends.max()).context("it has nothing to load")?;
    Ok(end - start)
}

/// A section that occupies memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The section's name.
    pub name: String,
    /// The section's size in memory in bytes.
    pub bytes: u64,
    /// Whether the section is writable.
    pub writable: bool,
    /// Whether the file has the section's bytes, and not only zeroes.
    pub in_file: bool,
}

/// Returns the non-empty sections that occupy memory, by address.
///
/// # Errors
/// Fails when the file is no ELF file or is damaged.
pub fn sections(file: &[u8]) -> Result<Vec<Section>> {
    let elf = parse(file)?;
    let mut found: Vec<(u64, Section)> = Vec::new();
    for section in elf.sections() {
        let SectionFlags::Elf { sh_flags, .. } = section.flags() else {
            continue;
        };
        if sh_flags.0 & SHF_ALLOC.0 == 0 || section.size() == 0 {
            continue;
        }
        let name = section.name().context("a section's name is damaged")?;
        found.push((
            section.address(),
            Section {
                name: name.into(),
                bytes: section.size(),
                writable: sh_flags.0 & SHF_WRITE.0 != 0,
                in_file: section.file_range().is_some(),
            },
        ));
    }
    found.sort_by_key(|(address, _)| *address);
    Ok(found.into_iter().map(|(_, section)| section).collect())
}

/// Returns the address of a symbol as linked.
///
/// # Errors
/// Fails when the file is no ELF file or has no such symbol.
pub fn symbol(file: &[u8], name: &str) -> Result<u64> {
    let elf = parse(file)?;
    elf.symbols()
        .find(|symbol| symbol.name() == Ok(name))
        .map(|symbol| symbol.address())
        .with_context(|| format!("it has no symbol {name}"))
}

/// Returns the loadable segments as they are in memory, from the lowest physical address on,
/// without the zeroes at the end, which the file does not have either.
///
/// # Errors
/// Fails when the file is no ELF file, is damaged, or its segments are further apart than 256 MiB.
pub fn flatten(file: &[u8]) -> Result<Vec<u8>> {
    const LIMIT: u64 = 256 << 20;
    let elf = parse(file)?;
    let endian = LittleEndian;
    let mut loads = Vec::new();
    for segment in elf.elf_program_headers() {
        if segment.p_type(endian) == PT_LOAD && segment.p_filesz(endian) > 0 {
            let data = segment
                .data(endian, file)
                .ok()
                .context("a segment lies outside the file")?;
            loads.push((segment.p_paddr(endian), data));
        }
    }
    let Some(base) = loads.iter().map(|(address, _)| *address).min() else {
        bail!("it has nothing to load");
    };
    let mut image = Vec::new();
    for (address, data) in loads {
        let at = address - base;
        if at > LIMIT || data.len() as u64 > LIMIT {
            bail!("its segments are too far apart for an image");
        }
        let at = usize::try_from(at)?;
        let end = at + data.len();
        if image.len() < end {
            image.resize(end, 0);
        }
        image[at..end].copy_from_slice(data);
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns an ELF file with these loadable segments: physical address and bytes.
    fn elf(segments: &[(u64, &[u8])]) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        file.extend([2, 0, 183, 0, 1, 0, 0, 0]);
        for word in [0_u64, 64, 0] {
            file.extend(word.to_le_bytes());
        }
        let count = u16::try_from(segments.len()).unwrap();
        file.extend([0; 4]);
        for half in [64_u16, 56, count, 64, 0, 0] {
            file.extend(half.to_le_bytes());
        }
        let mut at = 64 + 56 * segments.len() as u64;
        for (address, data) in segments {
            file.extend([1, 0, 0, 0, 7, 0, 0, 0]);
            let size = data.len() as u64;
            // The virtual address differs, so that a mix-up would show.
            for word in [at, address + (7 << 32), *address, size, size + 64, 4096] {
                file.extend(word.to_le_bytes());
            }
            at += size;
        }
        for (_, data) in segments {
            file.extend(*data);
        }
        file
    }

    #[test]
    fn flatten_places_segments_by_physical_address() {
        let file = elf(&[(0x1008, b"data"), (0x1000, b"text"), (0x2000, b"")]);
        assert_eq!(flatten(&file).unwrap(), b"text\0\0\0\0data");
        // In memory every one of these segments is 64 bytes longer than in the file.
        assert_eq!(extent(&file).unwrap(), 0x1000 + 64);
    }

    #[test]
    fn invalid_elf_is_an_error() {
        let mut cut = elf(&[(0, b"text")]);
        cut.pop();
        let cases: [(Vec<u8>, &str); 4] = [
            (b"MZ".to_vec(), "no 64-bit ELF"),
            (elf(&[]), "nothing to load"),
            (elf(&[(0, b"a"), (1 << 40, b"b")]), "too far apart"),
            (cut, "outside the file"),
        ];
        for (file, wanted) in cases {
            let error = flatten(&file).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error:?} is not {wanted:?}");
        }
        assert!(extent(&elf(&[])).is_err());
    }

    #[test]
    fn libraries_and_sections_of_real_program_are_found() {
        // This test itself is linked with the C library.
        let file = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(needed(&file).unwrap().contains(&"libc.so.6".to_owned()));
        assert!(section(&file, ".interp").unwrap().starts_with(b"/lib"));
        assert!(section(&file, ".no-such").is_err());
        let sections = sections(&file).unwrap();
        let find = |name: &str| {
            sections
                .iter()
                .find(|section| section.name == name)
                .unwrap()
        };
        assert!(!find(".text").writable && find(".text").in_file);
        assert!(find(".bss").writable && !find(".bss").in_file);
        assert!(sections.iter().all(|section| section.name != ".symtab"));
        assert_ne!(symbol(&file, "main").unwrap(), 0);
        assert!(symbol(&file, "no-such").is_err());
        assert_eq!(needed(&elf(&[(0, b"x")])).unwrap(), Vec::<String>::new());
    }
}
