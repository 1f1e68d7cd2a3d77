// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The bytes of two consoles.
//!
//! A driver waits for each chunk that it sends until the device has used it: Linux with interrupts off. So a chunk is
//! used at once, whatever the other end does. Its bytes go to the other end's buffers, else wait in EL2 for some, as
//! many as [`MOST_WAITING`](crate::console::MOST_WAITING). What finds no room there is dropped, and so is all that is
//! sent to an end without a driver.

use super::{BUDGET, Card, Link, MOST_RECEIVING, Port};
use crate::net::{RECEIVE, TRANSMIT};
use crate::queue::{ChainError, Queue, RingError};
use crate::ram::GuestRam;

/// The bytes that cost as much as a descriptor: a call moves about as many as can wait.
const BYTES_OF_COST: usize = 64;
/// The most descriptors of a chain, of either end.
const MOST_DESCRIPTORS: u16 = MOST_RECEIVING;

impl Link<'_> {
    /// Moves bytes after a notification: the sender's chunks, or those that wait for the receiver's new buffers. Returns
    /// whether more may be left that could be moved at once. The caller [refreshes](Link::refresh) the link.
    pub(super) fn move_bytes<R: GuestRam>(
        &mut self,
        port: usize,
        queue: usize,
        rams: &[R],
    ) -> bool {
        let (Some(first), Some(second)) = (rams.first(), rams.get(1)) else {
            return false;
        };
        let [one, other] = self.ports.as_mut_slice() else {
            return false;
        };
        let from = if queue == TRANSMIT { port } else { port ^ 1 };
        let (sender, receiver, sender_ram, receiver_ram) = if from == 0 {
            (one, other, first, second)
        } else {
            (other, one, second, first)
        };
        let mut budget = BUDGET;
        let mut delivery = Delivery {
            budget: BUDGET,
            bytes: 0,
        };
        let is_unfinished = loop {
            if let Err(error) = delivery.go_on(receiver, receiver_ram) {
                receiver.transport.break_down(error);
            }
            // The sender is not kept by a receiver whose descriptors take less than a byte each.
            if budget == 0 || delivery.budget == 0 && delivery.bytes >= BUDGET {
                break true;
            }
            if queue != TRANSMIT {
                break false;
            }
            match take_chunk(sender, receiver, sender_ram) {
                Ok(Some(cost)) => budget = budget.saturating_sub(cost),
                Ok(None) => break false,
                Err(error) => {
                    sender.transport.break_down(error);
                    break false;
                }
            }
        };
        let count = &mut sender.counters.sent;
        *count = count.wrapping_add(delivery.bytes.into());
        let count = &mut receiver.counters.received;
        *count = count.wrapping_add(delivery.bytes.into());
        for (port, queue) in [(from, TRANSMIT), (from ^ 1, RECEIVE)] {
            self.publish(port, queue, rams);
        }
        is_unfinished
    }
}

/// Takes a chunk of the sender's. Returns its cost; `None` if there is none. An error is the sender's.
fn take_chunk<R: GuestRam>(
    sender: &mut Port<'_>,
    receiver: &mut Port<'_>,
    ram: &R,
) -> Result<Option<u32>, RingError> {
    let queue = &mut sender.transport.queues()[TRANSMIT];
    // Asked for before it is looked at again: the driver may add a chunk meanwhile, and not notify of it.
    if !queue.listen(ram)? {
        return Ok(None);
    }
    let Some(head) = queue.pop_head(ram)? else {
        return Ok(None);
    };
    let mut chain = queue.chain(head);
    chain.limit(MOST_DESCRIPTORS);
    let mut kept = 0;
    if let Card::Console(console) = &mut receiver.card
        && receiver.transport.is_live()
    {
        kept = match chain.read(ram, console.room()) {
            Ok(bytes) => bytes,
            Err(ChainError::Buffer) => 0,
            Err(ChainError::Ring(error)) => return Err(error),
        };
    }
    let rest = chain.skip_readable(ram)?;
    // Only now: nobody would deliver bytes of a chain that is an error.
    if let Card::Console(console) = &mut receiver.card {
        console.append(kept);
    }
    let dropped = &mut sender.counters.dropped;
    *dropped = dropped.wrapping_add(rest);
    queue.push(ram, &chain)?;
    let cost = usize::from(chain.descriptors()).wrapping_add(kept / BYTES_OF_COST);
    Ok(Some(cost as u32))
}

/// What one call delivers.
struct Delivery {
    /// The descriptors that it may still load.
    budget: u32,
    /// The bytes that it has delivered.
    bytes: u32,
}

impl Delivery {
    /// Copies what waits to the receiver's buffers. An error is the receiver's.
    fn go_on<R: GuestRam>(&mut self, receiver: &mut Port<'_>, ram: &R) -> Result<(), RingError> {
        let Card::Console(console) = &mut receiver.card else {
            return Ok(());
        };
        if !receiver.transport.is_live() {
            return Ok(());
        }
        let queue = &mut receiver.transport.queues()[RECEIVE];
        let mut taken = 0;
        let end = loop {
            let waiting = console.waiting().get(taken..).unwrap_or_default();
            // It notifies of the next buffer where there is none.
            if waiting.is_empty() || self.budget == 0 {
                break Ok(());
            }
            match fill_buffer(queue, ram, waiting) {
                Ok(Some((written, descriptors))) => {
                    taken = taken.saturating_add(written);
                    self.budget = self.budget.saturating_sub(descriptors);
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        // Once, since it moves what is left.
        self.bytes = self.bytes.wrapping_add(console.remove(taken) as u32);
        end
    }
}

/// Fills a receiver's buffer. Returns the bytes and the number of descriptors; `None` if there is no buffer.
fn fill_buffer<R: GuestRam>(
    queue: &mut Queue,
    ram: &R,
    bytes: &[u8],
) -> Result<Option<(usize, u32)>, RingError> {
    if !queue.listen(ram)? {
        return Ok(None);
    }
    let Some(head) = queue.pop_head(ram)? else {
        return Ok(None);
    };
    let mut chain = queue.chain(head);
    chain.limit(MOST_DESCRIPTORS);
    let written = match chain.write(ram, bytes) {
        Ok(written) => written,
        Err(ChainError::Buffer) => {
            chain.discard();
            0
        }
        Err(ChainError::Ring(error)) => return Err(error),
    };
    queue.push(ram, &chain)?;
    Ok(Some((written, chain.descriptors().into())))
}
