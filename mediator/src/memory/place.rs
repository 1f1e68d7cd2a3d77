//! Where in guest memory a message lies.

use crate::addr::{Ipa, PAGE_SIZE};
use crate::host::{GuestMemoryError, Host};

/// Up to two pieces of guest memory that a message lies in: from an address to the end of its
/// page, and the page that follows in the buffer, which may be anywhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    at: Ipa,
    second: Option<Ipa>,
    /// Bytes of the message's memory that are in the first piece.
    first: u64,
    /// Bytes that belong to the message's memory, in both pieces.
    len: u64,
}

impl Place {
    /// From `at` on, `limit` bytes at most, the second piece in the page `second`.
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

    /// One whole page.
    pub(crate) fn page(at: Ipa) -> Self {
        Self::new(at, None, PAGE_SIZE)
    }

    /// Nowhere: nothing can be read there, and what is written goes nowhere.
    pub(crate) const fn nowhere() -> Self {
        Self {
            at: Ipa::new(0),
            second: None,
            first: 0,
            len: 0,
        }
    }

    /// Whether it is in no memory at all.
    pub(crate) const fn is_nowhere(&self) -> bool {
        self.len == 0
    }

    /// Whether `size` bytes from `offset` on belong to the message's memory.
    pub(crate) fn holds(&self, offset: usize, size: usize) -> bool {
        offset as u64 + size as u64 <= self.len
    }

    /// Copies out of guest memory, each byte once.
    #[inline]
    pub(crate) fn read<H: Host>(
        &self,
        host: &H,
        offset: usize,
        into: &mut [u8],
    ) -> Result<(), GuestMemoryError> {
        match self.whole(offset, into.len()) {
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
        let (to, rest) = self.split(offset, into.len())?;
        match rest {
            None => host.read_guest(to, into),
            Some((second, cut)) => {
                let (head, tail) = into.split_at_mut(cut);
                host.read_guest(to, head)?;
                host.read_guest(second, tail)
            }
        }
    }

    /// Copies to guest memory.
    #[inline]
    pub(crate) fn write<H: Host>(
        &self,
        host: &H,
        offset: usize,
        bytes: &[u8],
    ) -> Result<(), GuestMemoryError> {
        match self.whole(offset, bytes.len()) {
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
        let (to, rest) = self.split(offset, bytes.len())?;
        match rest {
            None => host.write_guest(to, bytes),
            Some((second, cut)) => {
                let (head, tail) = bytes.split_at(cut);
                host.write_guest(to, head)?;
                host.write_guest(second, tail)
            }
        }
    }

    /// Where `size` bytes from `offset` on begin, if they are all in the first piece, as nearly always.
    #[inline]
    fn whole(&self, offset: usize, size: usize) -> Option<Ipa> {
        let end = (offset as u64).checked_add(size as u64)?;
        let is_whole = end <= self.first;
        // An offset within a page does not wrap.
        is_whole.then(|| Ipa::new(self.at.get().wrapping_add(offset as u64)))
    }

    /// Where `size` bytes from `offset` on begin, and, if they go on in the second page, where
    /// and after how many bytes.
    #[allow(
        clippy::type_complexity,
        reason = "two addresses and a length, used twice above"
    )]
    fn split(
        &self,
        offset: usize,
        size: usize,
    ) -> Result<(Ipa, Option<(Ipa, usize)>), GuestMemoryError> {
        let outside = GuestMemoryError(self.at);
        if !self.holds(offset, size) {
            return Err(outside);
        }
        let first = (PAGE_SIZE - self.at.page_offset()) as usize;
        if offset + size <= first {
            return Ok((self.at.checked_add(offset as u64).ok_or(outside)?, None));
        }
        let second = self.second.ok_or(outside)?;
        if offset >= first {
            return Ok((
                second.checked_add((offset - first) as u64).ok_or(outside)?,
                None,
            ));
        }
        let to = self.at.checked_add(offset as u64).ok_or(outside)?;
        Ok((to, Some((second, first - offset))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces() {
        let place = Place::new(Ipa::new(0x5f00), Some(Ipa::new(0x9000)), 600);
        assert!(place.holds(0, 600) && !place.holds(1, 600));
        assert_eq!(place.split(0, 256), Ok((Ipa::new(0x5f00), None)));
        assert_eq!(
            place.split(0, 257),
            Ok((Ipa::new(0x5f00), Some((Ipa::new(0x9000), 256))))
        );
        assert_eq!(
            place.split(255, 2),
            Ok((Ipa::new(0x5fff), Some((Ipa::new(0x9000), 1))))
        );
        assert_eq!(place.split(256, 8), Ok((Ipa::new(0x9000), None)));
        assert!(place.split(593, 8).is_err());
        let alone = Place::new(Ipa::new(0x5f00), None, 600);
        assert!(alone.holds(0, 256) && !alone.holds(0, 257));
    }
}
