//! What waits to go out on the machine's UART, which is slow: 11.5 bytes in a millisecond at 115,200
//! baud. Nobody waits for it. Bytes go into a queue, and from there into the FIFO as it has room:
//! some whenever somebody adds to the queue, the others in the transmit interrupt.
//!
//! Bytes leave in the order in which they came, whoever's they are. So that the hypervisor's lines
//! always find room, and a guest that prints without end does not delay the others, each guest has
//! few bytes in the queue at a time. One that has is refused, which it sees in the flags of its
//! own UART, and told when it may go on.

use super::mux::{Channel, Encoder};
use super::ring::Ring;
use super::uart::{Registers, Uart};
use crate::ids::MAX_VMS;

/// Bytes that wait, those of all channels together.
pub const QUEUE: usize = 64 * 1024;
/// Bytes of one guest that wait: 44 ms at 115,200 baud.
pub const GUEST_SHARE: usize = 512;
/// The most bytes that one visit gives to the UART: twice what the largest FIFO holds, so that a FIFO of
/// the part is filled beyond its trigger, and its step back will interrupt.
pub const MOST_AT_ONCE: usize = 64;

/// All guests' shares are a small part of the queue: the rest is the hypervisor's.
const _: () = assert!(MAX_VMS * GUEST_SHARE <= QUEUE / 8);

/// The queue, and how far it has gone out.
pub struct Transmitter {
    /// A channel and a byte, alternately.
    queue: Ring<{ 2 * QUEUE }>,
    encoder: Encoder,
    /// What is left of the encoding of the byte that left the queue last.
    rest: Ring<4>,
    /// How many bytes of each guest are in the queue, by channel.
    waiting: [u16; MAX_VMS + 1],
    /// The channels that were refused, a bit each.
    refused: u16,
    /// Whether the transmit interrupt may be asked for.
    may_interrupt: bool,
    /// Whether it is asked for.
    interrupts: bool,
    /// Whether somebody else wants to be called by the interrupt, when there is room.
    wanted: bool,
}

/// Channels whose guests may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready(u16);

impl Ready {
    /// None.
    pub const NOBODY: Self = Self(0);

    /// The channels.
    pub fn channels(self) -> impl Iterator<Item = Channel> {
        let numbers = (0..16).filter(move |number| self.0 & 1 << number != 0);
        numbers.filter_map(Channel::new)
    }
}

impl Transmitter {
    /// Nothing waits, and the transmit interrupt is not used.
    pub const fn new() -> Self {
        Self {
            queue: Ring::new(),
            encoder: Encoder::new(),
            rest: Ring::new(),
            waiting: [0; MAX_VMS + 1],
            refused: 0,
            may_interrupt: false,
            interrupts: false,
            wanted: false,
        }
    }

    /// Whether nothing waits. Bytes may be in the UART's FIFO still.
    pub const fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.rest.is_empty()
    }

    /// The number of bytes that there is room for.
    pub const fn room(&self) -> usize {
        self.queue.room() / 2
    }

    /// Adds a guest's byte; false where the guest is to wait.
    #[inline]
    pub fn push_guest(&mut self, channel: Channel, byte: u8) -> bool {
        let Some(vm) = channel.vm() else {
            // Nobody has this channel.
            return true;
        };
        let waiting = &mut self.waiting[vm.get() + 1];
        if usize::from(*waiting) == GUEST_SHARE || self.queue.room() < 2 {
            self.refused |= 1 << channel.get();
            return false;
        }
        *waiting += 1;
        self.push(channel, byte)
    }

    /// Adds bytes of the hypervisor's; those that there is no room for are lost.
    pub fn push_own(&mut self, bytes: &[u8]) {
        let fit = bytes.len().min(self.room());
        for &byte in &bytes[..fit] {
            self.push(Channel::HYPERVISOR, byte);
        }
    }

    /// Adds an answer of the flow control's, which is of no channel's owner.
    pub fn push_flow(&mut self, bytes: &[u8]) {
        if bytes.len() <= self.room() {
            for &byte in bytes {
                self.push(Channel::FLOW, byte);
            }
        }
    }

    fn push(&mut self, channel: Channel, byte: u8) -> bool {
        self.queue.push(channel.get()) && self.queue.push(byte)
    }

    /// The next byte for the line, which stays until it is taken from `rest`.
    #[inline]
    fn next(&mut self) -> Option<u8> {
        if self.rest.is_empty() {
            let channel = Channel::new(self.queue.pop()?)?;
            let byte = self.queue.pop()?;
            if let Some(vm) = channel.vm() {
                self.waiting[vm.get() + 1] -= 1;
            }
            for &byte in self.encoder.encode(channel, byte).as_bytes() {
                // An encoding fits.
                let _ = self.rest.push(byte);
            }
        }
        self.rest.peek()
    }

    /// Gives the UART what it has room for, at most [`MOST_AT_ONCE`] bytes; how many.
    #[inline]
    pub fn pump<R: Registers>(&mut self, uart: &Uart<R>) -> usize {
        let mut moved = 0;
        while moved < MOST_AT_ONCE
            && let Some(byte) = self.next()
        {
            if !uart.try_send(byte) {
                break;
            }
            let _ = self.rest.pop();
            moved += 1;
        }
        self.settle(uart);
        moved
    }

    /// Has the UART interrupt as long as there is something to do in the interrupt, and no longer: it
    /// is level-sensitive.
    #[inline]
    fn settle<R: Registers>(&mut self, uart: &Uart<R>) {
        let something = !self.is_empty() || self.refused != 0 || self.wanted;
        let interrupts = something && self.may_interrupt;
        if interrupts != self.interrupts {
            self.interrupts = interrupts;
            uart.set_transmit_interrupt(interrupts);
        }
    }

    /// From now on the transmit interrupt is handled.
    pub fn allow_interrupt<R: Registers>(&mut self, uart: &Uart<R>) {
        self.may_interrupt = true;
        self.pump(uart);
    }

    /// Asks that the interrupt comes although nothing waits; [`Transmitter::take_wanted`] ends it.
    pub fn want_interrupt<R: Registers>(&mut self, uart: &Uart<R>) {
        self.wanted = true;
        self.settle(uart);
    }

    /// Whether somebody asked for the interrupt and there is room for `bytes` now.
    pub fn take_wanted<R: Registers>(&mut self, uart: &Uart<R>, bytes: usize) -> bool {
        let found = self.wanted && self.room() >= bytes;
        if found {
            self.wanted = false;
            self.settle(uart);
        }
        found
    }

    /// The guests that were refused and have room for half their share again. The caller has them
    /// go on. One that waits still has bytes in the queue, so the interrupt comes again.
    pub fn take_ready<R: Registers>(&mut self, uart: &Uart<R>) -> Ready {
        let mut ready = 0;
        for (channel, &waiting) in self.waiting.iter().enumerate() {
            if usize::from(waiting) <= GUEST_SHARE / 2 {
                ready |= self.refused & 1 << channel;
            }
        }
        self.refused &= !ready;
        self.settle(uart);
        Ready(ready)
    }

    /// Waits until all has left the UART; false where it gave up, because no byte left for `patience`
    /// on the clock `now`. For when there will be no interrupt: at boot, at the end, in a panic.
    pub fn flush<R: Registers>(
        &mut self,
        uart: &Uart<R>,
        mut now: impl FnMut() -> u64,
        patience: u64,
    ) -> bool {
        let mut since = now();
        loop {
            if self.pump(uart) > 0 {
                since = now();
            } else if self.is_empty() && !uart.is_busy() {
                return true;
            } else if now().saturating_sub(since) > patience {
                return false;
            }
            core::hint::spin_loop();
        }
    }
}

impl Default for Transmitter {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
