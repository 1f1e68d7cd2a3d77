// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Split virtqueues, the device's side (VIRTIO 1.2, 2.7).
//!
//! A device takes a [`Chain`] of descriptors with [`Queue::pop`], reads and writes its buffers, and gives it back with
//! [`Queue::push`]. The driver sees it after [`Queue::publish`], which also says whether the driver wants an interrupt.
//!
//! Each field of a ring and each descriptor is loaded once. Indirect descriptors are not offered.

mod chain;

pub use chain::{Buffer, Chain, ChainError};

use crate::ram::{GuestRam, OutsideRam};
use core::sync::atomic::{Ordering, fence};
use mediator::addr::Ipa;

/// The most descriptors of a queue, a power of two.
pub const MAX_SIZE: u16 = 256;

/// The offset of `idx` in either ring, behind `flags` (2.7.6, 2.7.8).
const INDEX: u64 = 2;
/// The offset of `ring` in either ring.
const RING: u64 = 4;
/// The bytes of an entry of the available ring.
const AVAILABLE_BYTES: u64 = 2;
/// The bytes of an entry of the used ring: id and length.
const USED_BYTES: u64 = 8;

/// The offset of the length in an entry of the used ring.
const USED_LENGTH: u64 = 4;

/// VIRTQ_AVAIL_F_NO_INTERRUPT and VIRTQ_USED_F_NO_NOTIFY.
const NO_EVENT: u16 = 1;

/// What a driver must never do: its device stops until it is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// A ring or the table of descriptors is not in RAM.
    #[error("a ring is outside of the guest's memory")]
    Memory(#[from] OutsideRam),
    /// The queue has no descriptors, too many, or not a power of two; or a ring is not aligned.
    #[error("a queue's size or a ring's alignment is wrong")]
    Shape,
    /// The index of the available ring moved by more than the queue's size.
    #[error("the index of an available ring moved by more than the queue's size")]
    Index,
    /// The number of a descriptor is not below the queue's size.
    #[error("there is no such descriptor")]
    Descriptor,
    /// A chain has more descriptors than the queue, so that it loops, or than the device takes ([`Chain::limit`]).
    #[error("a chain of descriptors loops, or is too long")]
    Length,
    /// A descriptor is indirect, which was not negotiated.
    #[error("an indirect descriptor")]
    Indirect,
    /// A buffer that the device reads follows one that it writes to.
    #[error("a buffer to read follows one to write to")]
    Order,
}

/// The addresses of a queue's three parts, as the driver wrote them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Areas {
    /// The table of descriptors.
    pub descriptors: u64,
    /// The available ring, which the driver writes.
    pub driver: u64,
    /// The used ring, which the device writes.
    pub device: u64,
}

/// The beginning of a chain that was taken from a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head(u16);

/// A split virtqueue.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    areas: Areas,
    size: u16,
    is_ready: bool,
    has_event_idx: bool,
    /// The available entry that is taken next.
    next: u16,
    /// The index of the available ring when it was loaded last.
    available: u16,
    /// The used entry that is written next.
    used: u16,
    /// The index of the used ring as the driver sees it.
    published: u16,
    /// Whether the driver was told to notify of no new chains (without EVENT_IDX only).
    is_muted: bool,
}

impl Queue {
    /// Returns a queue that the driver has not set up.
    pub const fn new() -> Self {
        Self {
            areas: Areas {
                descriptors: 0,
                driver: 0,
                device: 0,
            },
            size: 0,
            is_ready: false,
            has_event_idx: false,
            next: 0,
            available: 0,
            used: 0,
            published: 0,
            is_muted: false,
        }
    }

    /// Returns whether the driver has set the queue up.
    #[inline]
    pub const fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Sets the queue up: both rings begin at index zero.
    ///
    /// # Errors
    /// [`RingError::Shape`].
    pub fn start(&mut self, areas: Areas, size: u16, has_event_idx: bool) -> Result<(), RingError> {
        // 2.7: 16, 2 and 4 bytes.
        let is_aligned = areas.descriptors.is_multiple_of(16)
            && areas.driver.is_multiple_of(2)
            && areas.device.is_multiple_of(4);
        // No part wraps then.
        let highest = areas.descriptors.max(areas.driver).max(areas.device);
        let is_low = highest < 1 << 63;
        if !size.is_power_of_two() || size > MAX_SIZE || !is_aligned || !is_low {
            return Err(RingError::Shape);
        }
        *self = Self {
            areas,
            size,
            is_ready: true,
            has_event_idx,
            ..Self::new()
        };
        Ok(())
    }

    /// Returns whether the driver has made no chain available that was not taken. Loads the index only where all chains
    /// known before were taken.
    ///
    /// # Errors
    /// See [`RingError`].
    #[inline]
    pub fn is_empty(&mut self, ram: &impl GuestRam) -> Result<bool, RingError> {
        if !self.is_ready {
            return Ok(true);
        }
        if self.next == self.available {
            let index = ram.load_u16(at(self.areas.driver, INDEX))?;
            if index.wrapping_sub(self.next) > self.size {
                return Err(RingError::Index);
            }
            self.available = index;
            // What the driver wrote before the index is read after it.
            fence(Ordering::Acquire);
        }
        Ok(self.next == self.available)
    }

    /// Takes the next chain; `None` where there is none. The caller gives it back with [`Queue::push`].
    ///
    /// # Errors
    /// See [`RingError`].
    #[inline]
    pub fn pop(&mut self, ram: &impl GuestRam) -> Result<Option<Chain>, RingError> {
        Ok(self.pop_head(ram)?.map(|head| self.chain(head)))
    }

    /// Does [`Queue::pop`] without making the chain, which is [`Queue::chain`] of the result: a chain is large, and would be
    /// moved.
    ///
    /// # Errors
    /// See [`RingError`].
    #[inline]
    pub fn pop_head(&mut self, ram: &impl GuestRam) -> Result<Option<Head>, RingError> {
        if self.is_empty(ram)? {
            return Ok(None);
        }
        let entry = RING + AVAILABLE_BYTES * self.slot(self.next);
        let head = ram.load_u16(at(self.areas.driver, entry))?;
        if head >= self.size {
            return Err(RingError::Descriptor);
        }
        self.next = self.next.wrapping_add(1);
        Ok(Some(Head(head)))
    }

    /// Returns the chain that begins here.
    #[inline(always)]
    pub const fn chain(&self, head: Head) -> Chain {
        Chain::new(head.0, self.size, self.areas.descriptors)
    }

    /// Gives a chain back with what was written to it. The driver sees it after [`Queue::publish`].
    ///
    /// # Errors
    /// [`RingError::Memory`].
    #[inline]
    pub fn push(&mut self, ram: &impl GuestRam, chain: &Chain) -> Result<(), RingError> {
        let entry = RING + USED_BYTES * self.slot(self.used);
        ram.store_u32(at(self.areas.device, entry), chain.head().into())?;
        ram.store_u32(at(self.areas.device, entry + USED_LENGTH), chain.written())?;
        self.used = self.used.wrapping_add(1);
        Ok(())
    }

    /// Shows the driver the chains that were given back. Returns whether it wants an interrupt for them.
    ///
    /// # Errors
    /// [`RingError::Memory`].
    #[inline]
    pub fn publish(&mut self, ram: &impl GuestRam) -> Result<bool, RingError> {
        let before = self.published;
        if self.used == before {
            return Ok(false);
        }
        // Behind the entries and the buffers.
        fence(Ordering::Release);
        ram.store_u16(at(self.areas.device, INDEX), self.used)?;
        self.published = self.used;
        // Before the driver's wish is read: it writes its wish, then looks for used entries (2.7.7, 2.7.10).
        fence(Ordering::SeqCst);
        if self.has_event_idx {
            let used_event = RING + AVAILABLE_BYTES * u64::from(self.size);
            let event = ram.load_u16(at(self.areas.driver, used_event))?;
            Ok(passes(event, before, self.used))
        } else {
            Ok(ram.load_u16(at(self.areas.driver, 0))? & NO_EVENT == 0)
        }
    }

    /// Asks the driver to notify of the next chain, and returns whether there is one already: then none may be notified.
    ///
    /// # Errors
    /// See [`RingError`].
    #[inline]
    pub fn listen(&mut self, ram: &impl GuestRam) -> Result<bool, RingError> {
        Ok(!self.is_empty(ram)? || self.listen_to_empty(ram)?)
    }

    /// Does the same for a queue that [was empty](Queue::is_empty).
    ///
    /// # Errors
    /// See [`RingError`].
    #[inline]
    pub fn listen_to_empty(&mut self, ram: &impl GuestRam) -> Result<bool, RingError> {
        if self.has_event_idx {
            ram.store_u16(self.event(), self.available)?;
        } else if self.is_muted {
            ram.store_u16(at(self.areas.device, 0), 0)?;
            self.is_muted = false;
        } else {
            return Ok(false);
        }
        fence(Ordering::SeqCst);
        Ok(!self.is_empty(ram)?)
    }

    /// Tells the driver that it need not notify of new chains. It may do so all the same.
    ///
    /// # Errors
    /// [`RingError::Memory`].
    #[inline]
    pub fn mute(&mut self, ram: &impl GuestRam) -> Result<(), RingError> {
        // With EVENT_IDX the event stays behind.
        if self.is_ready && !self.has_event_idx && !self.is_muted {
            ram.store_u16(at(self.areas.device, 0), NO_EVENT)?;
            self.is_muted = true;
        }
        Ok(())
    }

    /// Returns the place of `avail_event`.
    const fn event(&self) -> Ipa {
        at(self.areas.device, RING + USED_BYTES * self.size as u64)
    }

    /// Returns the entry of a ring that an index stands for.
    #[inline]
    const fn slot(&self, index: u16) -> u64 {
        (index & self.size.wrapping_sub(1)) as u64
    }
}

/// Returns the address of a field of an area. No area is near the end of the address space.
#[inline]
const fn at(area: u64, offset: u64) -> Ipa {
    Ipa::new(area.wrapping_add(offset))
}

/// Returns whether an index that moves from `before` to `now` passes `event` (2.7.7.1).
#[inline]
const fn passes(event: u16, before: u16, now: u16) -> bool {
    now.wrapping_sub(event).wrapping_sub(1) < now.wrapping_sub(before)
}
