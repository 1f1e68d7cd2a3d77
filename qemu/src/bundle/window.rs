// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The load window: where in RAM U-Boot puts the files.

use postern_boot_tree::Memory;

/// Files begin at multiples of this: the hypervisor must, and a kernel may then be mapped where it
/// is.
const ALIGNMENT: u64 = 2 << 20;
/// What is left alone above the start of RAM where the user names no address: U-Boot's scripts and
/// usual load addresses, and on most boards parts of the firmware, are there.
const LOWEST: u64 = 128 << 20;

/// A range of physical memory, as a user writes it: `0x80000000:512M`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The physical address of its first byte.
    pub start: u64,
    /// Its length in bytes, never 0.
    pub size: u64,
}

impl std::str::FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("\"{text}\" is no range; write START:SIZE, for example 0x80000000:512M");
        let (start, size) = text.split_once(':').ok_or_else(wrong)?;
        let range = number(start)
            .zip(number(size))
            .map(|(start, size)| Self { start, size })
            .filter(|range| range.size > 0 && range.start.checked_add(range.size).is_some());
        range.ok_or_else(wrong)
    }
}

/// Reads a number, decimal or with 0x, with K, M or G behind it or not.
pub(super) fn number(text: &str) -> Option<u64> {
    let (digits, shift) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(digits) if text.ends_with('K') => (digits, 10),
        Some(digits) if text.ends_with('M') => (digits, 20),
        Some(digits) => (digits, 30),
        None => (text, 0),
    };
    let number = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?,
        None => digits.parse().ok()?,
    };
    number.checked_mul(1 << shift)
}

/// The places of all files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// In the order of what was asked for.
    pub places: Vec<u64>,
    /// Where a FIT of them is loaded to, if there is room for it as well.
    pub stage: Option<u64>,
}

/// Why there is no load window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WindowError {
    /// The files do not fit where the user wants them.
    Address { address: u64, bytes: u64 },
    /// The address is not a multiple of [`ALIGNMENT`].
    Unaligned(u64),
    /// They fit nowhere.
    NoRoom { bytes: u64 },
}

impl std::fmt::Display for WindowError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        match *self {
            Self::Address { address, bytes } => write!(
                f,
                "{} MiB from {address:#x} on are not all free RAM: choose another --load-address",
                mib(bytes)
            ),
            Self::Unaligned(address) => write!(
                f,
                "{address:#x} is not a multiple of 2 MiB: choose another --load-address"
            ),
            Self::NoRoom { bytes } => write!(
                f,
                "no {} MiB of RAM in one piece, {} MiB or more above its start: give a --load-address below, \
                 or smaller kernels and RAM disks",
                mib(bytes),
                mib(LOWEST)
            ),
        }
    }
}

impl Window {
    /// Chooses places for files of so many bytes each, and behind them for a FIT of `fit` bytes.
    pub(super) fn choose(
        free: &Memory,
        address: Option<u64>,
        sizes: impl IntoIterator<Item = u64>,
        fit: u64,
    ) -> Result<Self, WindowError> {
        let mut offset = 0_u64;
        let mut offsets = Vec::new();
        for size in sizes {
            offsets.push(offset);
            offset = offset.saturating_add(size).next_multiple_of(ALIGNMENT);
        }
        let bytes = offset;
        let at = |start: u64, stage: bool| Self {
            places: offsets.iter().map(|offset| start + offset).collect(),
            stage: stage.then_some(start + bytes),
        };
        let holds = |start: u64, bytes: u64| {
            let end = start.checked_add(bytes);
            end.is_some_and(|end| {
                free.iter()
                    .any(|range| range.start().get() <= start && end <= range.end().get())
            })
        };
        if let Some(address) = address {
            return if !address.is_multiple_of(ALIGNMENT) {
                Err(WindowError::Unaligned(address))
            } else if holds(address, bytes) {
                Ok(at(address, holds(address, bytes.saturating_add(fit))))
            } else {
                Err(WindowError::Address { address, bytes })
            };
        }
        let ram = free.iter().next().map_or(0, |range| range.start().get());
        let starts = || {
            free.iter()
                .map(|range| range.start().get().max(ram.saturating_add(LOWEST)))
                .filter_map(|start| start.checked_next_multiple_of(ALIGNMENT))
        };
        for (bytes, stage) in [(bytes.saturating_add(fit), true), (bytes, false)] {
            if let Some(start) = starts().find(|&start| holds(start, bytes)) {
                return Ok(at(start, stage));
            }
        }
        Err(WindowError::NoRoom { bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mediator::addr::Pa;
    use postern_base::range::PaRange;

    const MIB: u64 = 1 << 20;

    fn memory(ranges: &[(u64, u64)]) -> Memory {
        let mut memory = Memory::new();
        for &(start, end) in ranges {
            let range = PaRange::between(Pa::new(start), Pa::new(end));
            memory.insert(range).expect("room");
        }
        memory
    }

    #[test]
    fn ranges_are_read_in_the_units_of_people() {
        let read = |text: &str| text.parse::<Range>().ok().map(|r| (r.start, r.size));
        assert_eq!(read("0x80000000:512M"), Some((0x8000_0000, 512 * MIB)));
        assert_eq!(read("2G:0x1000"), Some((2 << 30, 0x1000)));
        assert_eq!(read("0:4K"), Some((0, 4096)));
        for text in [
            "",
            "1",
            "1:",
            ":1",
            "1:0",
            "x:1",
            "-1:1",
            "0xffffffffffffffff:2",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn files_are_placed_one_after_the_other_in_free_ram() {
        let free = memory(&[(0x4000_0000, 0x4900_0000), (0x4a00_0000, 0x6000_0000)]);
        let choose = |address, sizes: &[u64], fit| {
            Window::choose(&free, address, sizes.iter().copied(), fit)
        };
        // The hole is skipped.
        let window = choose(None, &[MIB, 40 * MIB, 1], 64 * MIB).expect("room");
        assert_eq!(window.places, [0x4a00_0000, 0x4a20_0000, 0x4ca0_0000]);
        assert_eq!(window.stage, Some(0x4cc0_0000));
        // Without it there is room, but not for the FIT.
        let window = choose(None, &[300 * MIB], 300 * MIB).expect("room");
        assert_eq!((window.places, window.stage), (vec![0x4a00_0000], None));
        let window = choose(Some(0x4000_0000), &[MIB], 1).expect("room");
        assert_eq!(window.places, [0x4000_0000]);
        let text = |result: Result<Window, WindowError>| result.expect_err("wrong").to_string();
        assert!(text(choose(Some(0x4010_0000), &[1], 1)).contains("0x40100000 is not a multiple"));
        assert!(text(choose(Some(0x48e0_0000), &[4 * MIB], 1)).contains("--load-address"));
        assert!(text(choose(None, &[400 * MIB], 1)).contains("no 400 MiB of RAM in one piece"));
    }
}
