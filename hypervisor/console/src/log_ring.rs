// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The end of the log: a ring of lines, in which new lines replace the oldest.

/// A ring of text lines: `N` bytes including their newlines. `N` is at least 2.
#[derive(Clone, Debug)]
pub struct LogRing<const N: usize> {
    bytes: [u8; N],
    /// The position at which the oldest line begins, counted in all bytes that were ever added.
    first: u64,
    /// The position at which the next line will begin.
    end: u64,
}

/// The position at which a line begins. A reader at the position of a replaced line continues with
/// the oldest line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinePosition(u64);

impl<const N: usize> LogRing<N> {
    /// Creates an empty ring.
    pub const fn new() -> Self {
        Self {
            bytes: [0; N],
            first: 0,
            end: 0,
        }
    }

    const fn index(place: u64) -> usize {
        (place % N as u64) as usize
    }

    /// Adds a line. Cuts it if it is longer than the ring, and replaces newlines in it by blanks.
    pub fn push(&mut self, line: &[u8]) {
        let line = &line[..line.len().min(N - 1)];
        let end = self.end + line.len() as u64 + 1;
        while end - self.first > N as u64 {
            self.first = self.behind(self.first);
        }
        let without_newlines = line.iter().map(|&b| if b == b'\n' { b' ' } else { b });
        for byte in without_newlines.chain([b'\n']) {
            self.bytes[Self::index(self.end)] = byte;
            self.end += 1;
        }
    }

    /// Returns the position at which the line after the one at `place` begins.
    fn behind(&self, place: u64) -> u64 {
        let newline = (place..self.end).find(|&at| self.bytes[Self::index(at)] == b'\n');
        newline.map_or(self.end, |at| at + 1)
    }

    /// Returns the position at which the last `lines` lines begin.
    pub fn last(&self, lines: usize) -> LinePosition {
        let ends = (self.first..self.end).rev();
        let mut newlines = ends.filter(|&at| self.bytes[Self::index(at)] == b'\n');
        // The newline in front of the first of these lines ends the line before.
        LinePosition(newlines.nth(lines).map_or(self.first, |at| at + 1))
    }

    /// Returns the position at which the next line will begin.
    pub const fn end(&self) -> LinePosition {
        LinePosition(self.end)
    }

    /// Passes to `each` the bytes of the line at `place`, or of the oldest line after it. Returns
    /// the position of the next line, or `None` if there is no line.
    pub fn line(&self, place: LinePosition, each: impl FnMut(u8)) -> Option<LinePosition> {
        let place = place.0.max(self.first);
        if place >= self.end {
            return None;
        }
        let next = self.behind(place);
        let bytes = (place..next - 1).map(|at| self.bytes[Self::index(at)]);
        bytes.for_each(each);
        Some(LinePosition(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read<const N: usize>(ring: &LogRing<N>, lines: usize) -> Vec<String> {
        let mut found = Vec::new();
        let mut place = ring.last(lines);
        loop {
            let mut line = Vec::new();
            let Some(next) = ring.line(place, |byte| line.push(byte)) else {
                return found;
            };
            found.push(String::from_utf8(line).unwrap());
            place = next;
        }
    }

    #[test]
    fn ring_returns_its_last_lines() {
        let mut ring = LogRing::<16>::new();
        assert_eq!(read(&ring, 9), [""; 0]);
        ring.push(b"one");
        ring.push(b"");
        ring.push(b"th\nee");
        assert_eq!(read(&ring, 9), ["one", "", "th ee"]);
        assert_eq!(read(&ring, 2), ["", "th ee"]);
        assert_eq!(read(&ring, 0), [""; 0]);
        let begin = ring.last(9);
        ring.push(b"four");
        assert_eq!(read(&ring, 9), ["one", "", "th ee", "four"]);
        ring.push(b"5");
        assert_eq!(read(&ring, 9), ["", "th ee", "four", "5"]);
        // The line at `begin` was replaced, so the oldest remaining line is read.
        let mut line = Vec::new();
        ring.push(b"6");
        ring.push(b"7");
        assert!(ring.line(begin, |byte| line.push(byte)).is_some());
        assert_eq!(line, b"four");
        ring.push(b"more than sixteen bytes");
        assert_eq!(read(&ring, 9), ["more than sixte"]);
        assert_eq!(ring.line(ring.end(), |_| ()), None);
    }

    proptest! {
        /// The ring holds the longest tail of all lines that fits.
        #[test]
        fn ring_holds_longest_tail(lines in proptest::collection::vec("[a-z]{0,12}", 0..60)) {
            let mut ring = LogRing::<40>::new();
            for line in &lines {
                ring.push(line.as_bytes());
            }
            let mut room = 40;
            let mut expected = Vec::new();
            for line in lines.iter().rev() {
                if line.len() + 1 > room {
                    break;
                }
                room -= line.len() + 1;
                expected.insert(0, line.clone());
            }
            prop_assert_eq!(read(&ring, usize::MAX), expected.clone());
            for count in 0..expected.len() {
                let tail = &expected[expected.len() - count..];
                prop_assert_eq!(read(&ring, count), tail.to_vec());
            }
        }
    }
}
