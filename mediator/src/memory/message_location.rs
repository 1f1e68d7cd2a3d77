// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The location of a message in guest memory.

use crate::addr::{Ipa, PAGE_SIZE};
use crate::host::{GuestMemoryError, Host};

/// Up to two pieces of guest memory that contain a message: from an address to the end of its page, and the
/// following page of the buffer, which may be anywhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct MessageLocation {
    at: Ipa,
    second: Option<Ipa>,
    /// Bytes of the message's memory in the first piece.
    first: u64,
    /// Bytes of the message's memory in both pieces.
    len: u64,
}

impl MessageLocation {
    /// Creates a location that begins at `at` and has at most `limit` bytes, with the second piece in the page
    /// `second`.
    pub(crate) fn new(at: Ipa, second: Option<Ipa>, limit: u64) -> Self {
        let first = PAGE_SIZE - at.page_offset();
        let reach = if second.is_some() {
            first + PAGE_SIZE
        } else {
            first
        };
        let len = limit.min(reach);
        Self {
            at,
            second,
            first: first.min(len),
            len,
        }
    }

    /// Creates the location of one whole page.
    pub(crate) fn page(at: Ipa) -> Self {
        Self::new(at, None, PAGE_SIZE)
    }

    /// Creates an empty location: reads and writes fail.
    pub(crate) const fn none() -> Self {
        Self {
            at: Ipa::new(0),
            second: None,
            first: 0,
            len: 0,
        }
    }

    /// Returns whether the location is empty.
    pub(crate) const fn is_none(&self) -> bool {
        self.len == 0
    }

    /// Returns whether `size` bytes from `offset` on belong to the message's memory.
    pub(crate) fn holds(&self, offset: usize, size: usize) -> bool {
        offset as u64 + size as u64 <= self.len
    }

    /// Copies out of guest memory, each byte once.
    #[inline(always)]
    pub(crate) fn read<H: Host>(
        &self,
        host: &H,
        offset: usize,
        into: &mut [u8],
    ) -> Result<(), GuestMemoryError> {
        match self.in_first_piece(offset, into.len()) {
            Some(from) => host.read_guest(from, into),
            None => self.read_split(host, offset, into),
        }
    }

    #[cold]
    fn read_split<H: Host>(
        &self,
        host: &H,
        offset: usize,
        into: &mut [u8],
    ) -> Result<(), GuestMemoryError> {
        let (cut, at) = self.split(offset, into.len())?;
        let (head, tail) = into.split_at_mut(cut);
        for (at, piece) in at.into_iter().zip([head, tail]) {
            if !piece.is_empty() {
                host.read_guest(at, piece)?;
            }
        }
        Ok(())
    }

    /// Copies to guest memory.
    #[inline]
    pub(crate) fn write<H: Host>(
        &self,
        host: &H,
        offset: usize,
        bytes: &[u8],
    ) -> Result<(), GuestMemoryError> {
        match self.in_first_piece(offset, bytes.len()) {
            Some(to) => host.write_guest(to, bytes),
            None => self.write_split(host, offset, bytes),
        }
    }

    #[cold]
    fn write_split<H: Host>(
        &self,
        host: &H,
        offset: usize,
        bytes: &[u8],
    ) -> Result<(), GuestMemoryError> {
        let (cut, at) = self.split(offset, bytes.len())?;
        let (head, tail) = bytes.split_at(cut);
        for (at, piece) in at.into_iter().zip([head, tail]) {
            if !piece.is_empty() {
                host.write_guest(at, piece)?;
            }
        }
        Ok(())
    }

    /// Returns the address of `size` bytes from `offset` on if all of them are in the first piece, which is the
    /// usual case.
    #[inline]
    fn in_first_piece(&self, offset: usize, size: usize) -> Option<Ipa> {
        let end = (offset as u64).checked_add(size as u64)?;
        let is_inside = end <= self.first;
        // An offset within a page does not wrap.
        is_inside.then(|| Ipa::new(self.at.get().wrapping_add(offset as u64)))
    }

    /// Returns how many of `size` bytes from `offset` on are in the first piece, and their addresses in both
    /// pieces. The address of an empty part has no meaning.
    fn split(&self, offset: usize, size: usize) -> Result<(usize, [Ipa; 2]), GuestMemoryError> {
        let outside = GuestMemoryError(self.at);
        if !self.holds(offset, size) {
            return Err(outside);
        }
        let first = (PAGE_SIZE - self.at.page_offset()) as usize;
        let cut = first.saturating_sub(offset).min(size);
        let head = Ipa::new(self.at.get().wrapping_add(offset as u64));
        if cut == size {
            return Ok((cut, [head; 2]));
        }
        let second = self.second.ok_or(outside)?;
        let tail = second.checked_add((offset + cut - first) as u64);
        Ok((cut, [head, tail.ok_or(outside)?]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces() {
        let location = MessageLocation::new(Ipa::new(0x5f00), Some(Ipa::new(0x9000)), 600);
        assert!(location.holds(0, 600) && !location.holds(1, 600));
        let (here, there) = (Ipa::new(0x5f00), Ipa::new(0x9000));
        assert_eq!(location.split(0, 256), Ok((256, [here; 2])));
        assert_eq!(location.split(0, 257), Ok((256, [here, there])));
        assert_eq!(location.split(255, 2), Ok((1, [Ipa::new(0x5fff), there])));
        let (cut, [_, tail]) = location.split(256, 8).unwrap();
        assert_eq!((cut, tail), (0, there));
        let (cut, [_, tail]) = location.split(300, 8).unwrap();
        assert_eq!((cut, tail), (0, Ipa::new(0x902c)));
        assert!(location.split(593, 8).is_err());
        let alone = MessageLocation::new(Ipa::new(0x5f00), None, 600);
        assert!(alone.holds(0, 256) && !alone.holds(0, 257));
    }
}
