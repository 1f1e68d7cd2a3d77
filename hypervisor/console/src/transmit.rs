// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The transmit queue of the machine's UART, which is slow: 11.5 bytes per millisecond at 115,200
//! baud. No caller waits for it. Bytes go into a queue and from there into the UART's FIFO as it
//! has room: some at each addition to the queue, the rest in the transmit interrupt.
//!
//! Bytes of all owners leave in the order in which they were added. Each [`ByteOwner`] has a share
//! of the queue, and the queue's size is the sum of all shares, so no owner can take another's
//! room. A guest whose share is full is refused: it sees that in the flags of its own UART, and its
//! output resumes when there is room. An answer of flow control is refused in the same way and is
//! sent again later.

use super::flow::ANSWER_BYTES;
use super::mux::{Channel, Encoder};
use super::uart::{Registers, Uart};
use postern_base::ids::{MAX_VMS, VmIndex};
use postern_base::ring::Ring;
use postern_base::ticks::Ticks;

/// The most queued bytes of one guest: 44 ms at 115,200 baud.
pub const GUEST_SHARE: usize = 512;
/// The most queued bytes of lines per cause, a VM or none: twice the longest line.
pub const LINE_SHARE: usize = 4 * 1024;
/// The most queued bytes of the monitor's answers.
pub const ANSWER_SHARE: usize = 56 * 1024;
/// The most queued bytes of flow control's answers: two answers per VM.
pub const FLOW_SHARE: usize = 2 * MAX_VMS * ANSWER_BYTES;
/// The size of the queue in bytes: the sum of all shares.
pub const QUEUE: usize =
    ANSWER_SHARE + FLOW_SHARE + (MAX_VMS + 1) * LINE_SHARE + MAX_VMS * GUEST_SHARE;
/// The most bytes that one visit gives to the UART: twice the size of the largest FIFO, so that the
/// FIFO of a real PL011 is filled above its trigger, and the step down through the trigger
/// interrupts.
pub const MOST_AT_ONCE: usize = 64;

/// The owner of a queued byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteOwner {
    /// The monitor, which answers a user.
    Answer,
    /// Flow control.
    Flow,
    /// The hypervisor, for a log line or an event that this VM caused, or no VM.
    Lines(Option<VmIndex>),
    /// A guest.
    Guest(VmIndex),
}

impl ByteOwner {
    const COUNT: usize = 3 + 2 * MAX_VMS;

    const fn index(self) -> usize {
        match self {
            Self::Answer => 0,
            Self::Flow => 1,
            Self::Lines(None) => 2,
            Self::Lines(Some(vm)) => 3 + vm.get(),
            Self::Guest(vm) => 3 + MAX_VMS + vm.get(),
        }
    }

    const fn at(index: usize) -> Option<Self> {
        match index {
            0 => Some(Self::Answer),
            1 => Some(Self::Flow),
            2 => Some(Self::Lines(None)),
            _ => match VmIndex::new((index - 3) % MAX_VMS) {
                Some(vm) if index < 3 + MAX_VMS => Some(Self::Lines(Some(vm))),
                Some(vm) if index < Self::COUNT => Some(Self::Guest(vm)),
                _ => None,
            },
        }
    }

    /// Returns the most bytes of this owner that the queue holds.
    const fn share(self) -> usize {
        match self {
            Self::Answer => ANSWER_SHARE,
            Self::Flow => FLOW_SHARE,
            Self::Lines(_) => LINE_SHARE,
            Self::Guest(_) => GUEST_SHARE,
        }
    }

    /// Returns the channel that carries this owner's bytes.
    const fn channel(self) -> Channel {
        match self {
            Self::Answer | Self::Lines(_) => Channel::HYPERVISOR,
            Self::Flow => Channel::FLOW,
            Self::Guest(vm) => Channel::of_vm(vm),
        }
    }
}

/// Bytes with their owners, in order. `N` is twice the number of bytes that fit.
#[derive(Debug)]
pub struct OwnedBytes<const N: usize>(Ring<N>);

impl<const N: usize> OwnedBytes<N> {
    /// Creates an empty sequence.
    pub const fn new() -> Self {
        Self(Ring::new())
    }

    /// Returns whether there are no bytes.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a byte. The caller has checked that there is room.
    #[inline]
    pub fn push(&mut self, owner: ByteOwner, byte: u8) {
        let fits = self.0.push(owner.index() as u8) && self.0.push(byte);
        debug_assert!(fits, "the sum of the shares exceeds the queue");
    }

    /// Removes the oldest byte.
    #[inline]
    pub fn pop(&mut self) -> Option<(ByteOwner, u8)> {
        let owner = ByteOwner::at(usize::from(self.0.pop()?))?;
        Some((owner, self.0.pop()?))
    }
}

/// The queue and the state of its transmission.
pub struct Transmitter {
    queue: OwnedBytes<{ 2 * QUEUE }>,
    encoder: Encoder,
    /// The rest of the encoding of the byte that left the queue last.
    rest: Ring<4>,
    /// The number of queued bytes per owner, by [`ByteOwner::index`].
    waiting: [u16; ByteOwner::COUNT],
    /// The channels whose guests were refused, one bit per channel.
    refused: u16,
    /// The channels about which an answer of flow control was refused.
    unanswered: u16,
    /// Whether the transmit interrupt may be enabled.
    may_interrupt: bool,
    /// Whether the transmit interrupt is enabled.
    interrupts: bool,
    /// Whether an answer of the monitor waits for room, so that the interrupt has to resume the
    /// monitor.
    wanted: bool,
}

/// The counters have 16 bits, and an owner's index has 8.
const _: () = assert!(ANSWER_SHARE <= u16::MAX as usize && ByteOwner::COUNT <= u8::MAX as usize);

/// The channels whose guests can continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadyChannels(u16);

impl ReadyChannels {
    /// No channel.
    pub const NOBODY: Self = Self(0);

    /// Returns the channels.
    pub fn channels(self) -> impl Iterator<Item = Channel> {
        let numbers = (0..16).filter(move |number| self.0 & 1 << number != 0);
        numbers.filter_map(Channel::new)
    }
}

impl Transmitter {
    /// Creates an empty queue that does not use the transmit interrupt.
    pub const fn new() -> Self {
        Self {
            queue: OwnedBytes::new(),
            encoder: Encoder::new(),
            rest: Ring::new(),
            waiting: [0; ByteOwner::COUNT],
            refused: 0,
            unanswered: 0,
            may_interrupt: false,
            interrupts: false,
            wanted: false,
        }
    }

    /// Returns whether the queue is empty. The UART's FIFO may still hold bytes.
    pub const fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.rest.is_empty()
    }

    /// Returns the number of bytes of this owner that there is room for, whatever other owners do.
    pub fn room(&self, owner: ByteOwner) -> usize {
        owner.share() - usize::from(self.waiting[owner.index()])
    }

    /// Claims room for this number of bytes in an owner's share. Returns false, and claims nothing,
    /// if there is not enough room. The caller adds each byte once, at any later time, with
    /// [`Transmitter::push_claimed`].
    #[must_use]
    pub fn claim(&mut self, owner: ByteOwner, bytes: usize) -> bool {
        let fits = bytes <= self.room(owner);
        if fits {
            self.waiting[owner.index()] += bytes as u16;
        }
        fits
    }

    /// Adds a byte that the owner has claimed the room for.
    #[inline]
    pub fn push_claimed(&mut self, owner: ByteOwner, byte: u8) {
        self.queue.push(owner, byte);
    }

    /// Adds all bytes, or returns false and adds none if there is no room for all of them.
    #[must_use]
    pub fn push(&mut self, owner: ByteOwner, bytes: &[u8]) -> bool {
        let fits = self.claim(owner, bytes.len());
        if fits {
            bytes
                .iter()
                .for_each(|&byte| self.push_claimed(owner, byte));
        }
        fits
    }

    /// Adds a guest's byte. Returns false if the guest has to wait.
    #[inline]
    pub fn push_guest(&mut self, channel: Channel, byte: u8) -> bool {
        let Some(vm) = channel.vm() else {
            // No VM has this channel.
            return true;
        };
        let fits = self.push(ByteOwner::Guest(vm), &[byte]);
        if !fits {
            self.refused |= 1 << channel.get();
        }
        fits
    }

    /// Adds bytes of an answer. Bytes that there is no room for are lost.
    pub fn push_answer(&mut self, bytes: &[u8]) {
        let fit = bytes.len().min(self.room(ByteOwner::Answer));
        let _ = self.push(ByteOwner::Answer, &bytes[..fit]);
    }

    /// Adds an answer of flow control about a channel. Returns false if the caller has to send it
    /// again when the channel is ready.
    #[must_use]
    pub fn push_flow(&mut self, about: Channel, answer: &[u8; ANSWER_BYTES]) -> bool {
        let fits = self.push(ByteOwner::Flow, answer);
        if !fits && about.vm().is_some() {
            self.unanswered |= 1 << about.get();
        }
        fits
    }

    /// Returns the next byte for the line. The byte stays in `rest` until the caller removes it.
    #[inline]
    fn next(&mut self) -> Option<u8> {
        if self.rest.is_empty() {
            let (owner, byte) = self.queue.pop()?;
            self.waiting[owner.index()] -= 1;
            for &byte in self.encoder.encode(owner.channel(), byte).as_bytes() {
                // `rest` is empty and has room for one encoding.
                let _ = self.rest.push(byte);
            }
        }
        self.rest.peek()
    }

    /// Gives the UART the bytes that it has room for, at most [`MOST_AT_ONCE`]. Returns their
    /// number.
    #[inline]
    pub fn pump<R: Registers>(&mut self, uart: &Uart<R>) -> usize {
        let mut moved = 0;
        let mut room = 0;
        while moved < MOST_AT_ONCE
            && let Some(byte) = self.next()
        {
            if room == 0 {
                room = uart.room();
                if room == 0 {
                    break;
                }
            }
            room -= 1;
            uart.send(byte);
            let _ = self.rest.pop();
            moved += 1;
        }
        self.settle(uart);
        moved
    }

    /// Enables the transmit interrupt exactly while its handler has something to do, because the
    /// interrupt is level-sensitive.
    #[inline]
    fn settle<R: Registers>(&mut self, uart: &Uart<R>) {
        let something = !self.is_empty() || self.refused | self.unanswered != 0 || self.wanted;
        let interrupts = something && self.may_interrupt;
        if interrupts != self.interrupts {
            self.interrupts = interrupts;
            uart.set_transmit_interrupt(interrupts);
        }
    }

    /// Permits use of the transmit interrupt: its handler is ready from now on.
    pub fn allow_interrupt<R: Registers>(&mut self, uart: &Uart<R>) {
        self.may_interrupt = true;
        self.pump(uart);
    }

    /// Requests the interrupt although the queue may be empty, until [`Transmitter::take_wanted`].
    pub fn want_interrupt<R: Registers>(&mut self, uart: &Uart<R>) {
        self.wanted = true;
        self.settle(uart);
    }

    /// Returns whether the interrupt was requested and an answer of this number of bytes has room
    /// now. If so, ends the request.
    pub fn take_wanted<R: Registers>(&mut self, uart: &Uart<R>, bytes: usize) -> bool {
        let found = self.wanted && self.room(ByteOwner::Answer) >= bytes;
        if found {
            self.wanted = false;
            self.settle(uart);
        }
        found
    }

    /// Returns the channels whose guests were refused and now have room for half their share, and
    /// the channels about which an answer was refused. The caller lets them continue. For a channel
    /// that still has to wait, bytes of its own or of others are in the queue, so the interrupt
    /// comes again.
    pub fn take_ready<R: Registers>(&mut self, uart: &Uart<R>) -> ReadyChannels {
        let mut ready = 0;
        for vm in (0..MAX_VMS).filter_map(VmIndex::new) {
            if self.room(ByteOwner::Guest(vm)) >= GUEST_SHARE / 2 {
                ready |= self.refused & 1 << Channel::of_vm(vm).get();
            }
        }
        self.refused &= !ready;
        if self.room(ByteOwner::Flow) >= ANSWER_BYTES {
            ready |= core::mem::take(&mut self.unanswered);
        }
        self.settle(uart);
        ReadyChannels(ready)
    }

    /// Waits until all bytes have left the UART. Returns false if no byte left for `patience` on
    /// the clock `now`. For times without interrupts: at boot, at power-off, in a panic.
    pub fn flush<R: Registers>(
        &mut self,
        uart: &Uart<R>,
        mut now: impl FnMut() -> Ticks,
        patience: Ticks,
    ) -> bool {
        let mut since = now();
        loop {
            if self.pump(uart) > 0 {
                since = now();
            } else if self.is_empty() && !uart.is_busy() {
                return true;
            } else if now().since(since) > patience {
                return false;
            }
            core::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests;
