// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A shared buffer, and the memory behind an RPC message.

use crate::addr::PAGE_SIZE;
use crate::host::SharedPage;
use crate::memory::MessageLocation;
use crate::memory::pin::PageNumber;
use alloc::vec::Vec;
use ffa_proto::Handle;

/// The origin of a buffer, which determines how it can end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Provenance {
    /// The guest registered it, names it in its calls, and unregisters it.
    Registered,
    /// OP-TEE requested it from the guest, and returns it. The guest does not name it in calls.
    Allocated,
}

/// The state of a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BufferState {
    /// OP-TEE is being told. Not usable yet; the cookie is in use.
    Coming,
    /// Usable.
    Live,
    /// OP-TEE is being asked to forget it. Not usable any more.
    Going,
    /// OP-TEE and the guest have forgotten it. It ends with the last call that uses it.
    Gone,
}

/// A guest's buffer whose pages OP-TEE knows.
#[derive(Debug)]
pub(crate) struct Buffer {
    pub(crate) provenance: Provenance,
    pub(crate) state: BufferState,
    /// Size in bytes.
    pub(crate) size: u64,
    /// Offset into the first page.
    pub(crate) offset: u64,
    /// Number of calls that use it.
    pub(crate) users: u32,
    /// Number of times that calls in flight name it to OP-TEE. A message in the buffer does not count: OP-TEE
    /// does not know of it.
    pub(crate) in_flight: u32,
    /// Number of pages, whether `pages` is filled in or not.
    pub(crate) count: u32,
    /// The SPMC's name for it, over FF-A.
    pub(crate) handle: Handle,
    /// OP-TEE was told of it since it last ended its use, over FF-A.
    pub(crate) is_told: bool,
    /// The pages, all pinned. Empty until the buffer is live.
    pub(crate) pages: Vec<PageNumber>,
}

impl Buffer {
    /// Returns how many pages `size` bytes from `offset` on occupy, or `None` for zero bytes and on overflow.
    pub(crate) fn pages(size: u64, offset: u64) -> Option<u32> {
        let bytes = size.checked_add(offset)?;
        if size == 0 {
            return None;
        }
        u32::try_from(bytes.div_ceil(PAGE_SIZE)).ok()
    }

    /// Returns whether `size` bytes from `offset` on are inside.
    pub(crate) fn holds(&self, offset: u64, size: u64) -> bool {
        offset.checked_add(size).is_some_and(|end| end <= self.size)
    }

    /// Returns the location of `offset` in guest memory, with as much of what follows as a message may need.
    pub(crate) fn location(&self, offset: u64) -> Option<MessageLocation> {
        let left = self.size.checked_sub(offset)?;
        let at = self.offset.checked_add(offset)?;
        let page = usize::try_from(at / PAGE_SIZE).ok()?;
        let first = self.pages.get(page)?.ipa().checked_add(at % PAGE_SIZE)?;
        let second = self.pages.get(page + 1).map(|next| next.ipa());
        Some(MessageLocation::new(first, second, left))
    }
}

/// Memory for RPC messages: OP-TEE sees the mediator's page, the guest its own. Neither sees the other's, so
/// the guest's memory needs no pin: each copy looks it up.
#[derive(Debug)]
pub(crate) struct RpcBuffer {
    /// The mediator's page, which OP-TEE knows.
    pub(crate) shadow: SharedPage,
    /// The guest's memory.
    pub(crate) guest: MessageLocation,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Ipa;

    #[test]
    fn page_counts_do_not_truncate() {
        assert_eq!(Buffer::pages(0, 0), None);
        assert_eq!(Buffer::pages(1, 0), Some(1));
        assert_eq!(Buffer::pages(1, 4095), Some(1));
        assert_eq!(Buffer::pages(2, 4095), Some(2));
        assert_eq!(Buffer::pages(64 << 20, 0), Some(16_384));
        assert_eq!(Buffer::pages(u64::MAX, 0), None);
        assert_eq!(Buffer::pages(u64::MAX, 1), None);
        assert_eq!(Buffer::pages((u64::from(u32::MAX) + 2) * 4096, 0), None);
    }

    #[test]
    fn message_location_follows_the_pages() {
        let page = |ipa| PageNumber::of(Ipa::new(ipa)).unwrap();
        let buffer = Buffer {
            provenance: Provenance::Registered,
            state: BufferState::Live,
            size: 6000,
            offset: 0xf00,
            users: 0,
            in_flight: 0,
            count: 2,
            handle: Handle::NONE,
            is_told: false,
            pages: alloc::vec![page(0x5000), page(0x9000)],
        };
        assert_eq!(
            buffer.location(0),
            Some(MessageLocation::new(
                Ipa::new(0x5f00),
                Some(Ipa::new(0x9000)),
                6000
            ))
        );
        assert_eq!(
            buffer.location(0x110),
            Some(MessageLocation::new(Ipa::new(0x9010), None, 6000 - 0x110))
        );
        assert_eq!(buffer.location(6001), None);
        assert!(buffer.holds(0, 6000) && buffer.holds(6000, 0));
        assert!(!buffer.holds(1, 6000) && !buffer.holds(u64::MAX, 2));
    }
}
