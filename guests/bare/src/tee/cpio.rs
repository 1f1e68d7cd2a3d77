// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reads the initial RAM disk: an uncompressed cpio archive in the "newc" form.

use crate::machine::machine;

/// The initial RAM disk, empty where there is none.
pub fn initrd() -> &'static [u8] {
    match machine().initrd {
        // SAFETY: the loader put it there before the program began. It is mapped, it is none of the
        // free pages, and `memory` and `probe` write elsewhere.
        Some(range) => unsafe {
            core::slice::from_raw_parts(range.start as *const u8, range.bytes() as usize)
        },
        None => &[],
    }
}

const MAGIC: &[u8] = b"070701";
const HEADER: usize = 110;

/// The contents of the file whose name ends with `name`.
pub fn find<'a>(archive: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut at = 0;
    loop {
        let header = archive.get(at..at + HEADER)?;
        if !header.starts_with(MAGIC) {
            return None;
        }
        let field = |index: usize| {
            let text = core::str::from_utf8(&header[6 + index * 8..14 + index * 8]).ok()?;
            usize::from_str_radix(text, 16).ok()
        };
        let (size, name_size) = (field(6)?, field(11)?);
        let name_at = at + HEADER;
        let found = archive.get(name_at..(name_at + name_size).checked_sub(1)?)?;
        let data_at = (name_at + name_size).next_multiple_of(4);
        let data = archive.get(data_at..data_at + size)?;
        if found == b"TRAILER!!!" {
            return None;
        }
        if found.ends_with(name.as_bytes()) {
            return Some(data);
        }
        at = (data_at + size).next_multiple_of(4);
    }
}
