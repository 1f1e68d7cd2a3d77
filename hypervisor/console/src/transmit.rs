// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What waits to go out on the machine's UART, which is slow: 11.5 bytes in a millisecond at 115,200
//! baud. Nobody waits for it. Bytes go into a queue, and from there into the FIFO as it has room:
//! some whenever somebody adds to the queue, the others in the transmit interrupt.
//!
//! Bytes leave in the order in which they came, whoever's they are. Each [`ByteOwner`] has a share of the
//! queue, and the queue is as large as all shares together: so no owner keeps another from it. A guest
//! whose share is full is refused, which it sees in the flags of its own UART, and told when it may go
//! on. An answer of the flow control's is refused likewise, and comes again.

use super::flow::ANSWER_BYTES;
use super::mux::{Channel, Encoder};
use super::uart::{Registers, Uart};
use postern_base::ids::{MAX_VMS, VmIndex};
use postern_base::ring::Ring;
use postern_base::ticks::Ticks;

/// Bytes of one guest that wait: 44 ms at 115,200 baud.
pub const GUEST_SHARE: usize = 512;
/// Bytes of lines that wait of which one VM is the cause, or none: two of the longest.
pub const LINE_SHARE: usize = 4 * 1024;
/// Bytes of the monitor's answers that wait.
pub const ANSWER_SHARE: usize = 56 * 1024;
/// Bytes of the flow control's answers that wait: two for each VM.
pub const FLOW_SHARE: usize = 2 * MAX_VMS * ANSWER_BYTES;
/// Bytes that wait, those of all owners together.
pub const QUEUE: usize =
    ANSWER_SHARE + FLOW_SHARE + (MAX_VMS + 1) * LINE_SHARE + MAX_VMS * GUEST_SHARE;
/// The most bytes that one visit gives to the UART: twice what the largest FIFO holds, so that a FIFO of
/// the part is filled beyond its trigger, and its step back will interrupt.
pub const MOST_AT_ONCE: usize = 64;

/// Whose bytes they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteOwner {
    /// The monitor's, which answers a user.
    Answer,
    /// The flow control's.
    Flow,
    /// The hypervisor's, which logs something or tells an event: of which this VM is the cause, or none.
    Lines(Option<VmIndex>),
    /// A guest's.
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

    /// The most bytes of it that wait.
    const fn share(self) -> usize {
        match self {
            Self::Answer => ANSWER_SHARE,
            Self::Flow => FLOW_SHARE,
            Self::Lines(_) => LINE_SHARE,
            Self::Guest(_) => GUEST_SHARE,
        }
    }

    /// Where its bytes are to be heard.
    const fn channel(self) -> Channel {
        match self {
            Self::Answer | Self::Lines(_) => Channel::HYPERVISOR,
            Self::Flow => Channel::FLOW,
            Self::Guest(vm) => Channel::of_vm(vm),
        }
    }
}

/// Bytes and whose they are, in their order. `N` is twice as many as fit.
#[derive(Debug)]
pub struct OwnedBytes<const N: usize>(Ring<N>);

impl<const N: usize> OwnedBytes<N> {
    /// None.
    pub const fn new() -> Self {
        Self(Ring::new())
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a byte, for which there is room.
    #[inline]
    pub fn push(&mut self, owner: ByteOwner, byte: u8) {
        let fits = self.0.push(owner.index() as u8) && self.0.push(byte);
        debug_assert!(fits, "the shares are more than the queue");
    }

    /// Removes the oldest byte.
    #[inline]
    pub fn pop(&mut self) -> Option<(ByteOwner, u8)> {
        let owner = ByteOwner::at(usize::from(self.0.pop()?))?;
        Some((owner, self.0.pop()?))
    }
}

/// The queue, and how far it has gone out.
pub struct Transmitter {
    queue: OwnedBytes<{ 2 * QUEUE }>,
    encoder: Encoder,
    /// What is left of the encoding of the byte that left the queue last.
    rest: Ring<4>,
    /// How many bytes of each owner wait, by [`ByteOwner::index`].
    waiting: [u16; ByteOwner::COUNT],
    /// The channels whose guests were refused, a bit each.
    refused: u16,
    /// The channels about which an answer of the flow control's was refused.
    unanswered: u16,
    /// Whether the transmit interrupt may be asked for.
    may_interrupt: bool,
    /// Whether it is asked for.
    interrupts: bool,
    /// Whether an answer of the monitor's waits for room, and is to be called by the interrupt.
    wanted: bool,
}

/// What is counted in 16 bits.
const _: () = assert!(ANSWER_SHARE <= u16::MAX as usize && ByteOwner::COUNT <= u8::MAX as usize);

/// Channels whose guests may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadyChannels(u16);

impl ReadyChannels {
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

    /// Whether nothing waits. Bytes may be in the UART's FIFO still.
    pub const fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.rest.is_empty()
    }

    /// Returns how many bytes of this owner there is room for, whatever others do.
    pub fn room(&self, owner: ByteOwner) -> usize {
        owner.share() - usize::from(self.waiting[owner.index()])
    }

    /// Takes so many bytes of its share for an owner; false, and none of it, where that is more than
    /// there is room for. The bytes come by [`Transmitter::push_claimed`], once, whenever their time is.
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

    /// Adds bytes, all or none: none, and false, where there is no room for them.
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

    /// Adds a guest's byte; false where the guest is to wait.
    #[inline]
    pub fn push_guest(&mut self, channel: Channel, byte: u8) -> bool {
        let Some(vm) = channel.vm() else {
            // Nobody has this channel.
            return true;
        };
        let fits = self.push(ByteOwner::Guest(vm), &[byte]);
        if !fits {
            self.refused |= 1 << channel.get();
        }
        fits
    }

    /// Adds bytes of an answer; those that there is no room for are lost.
    pub fn push_answer(&mut self, bytes: &[u8]) {
        let fit = bytes.len().min(self.room(ByteOwner::Answer));
        let _ = self.push(ByteOwner::Answer, &bytes[..fit]);
    }

    /// Adds an answer of the flow control's about a channel; false where it is to come again, when the
    /// channel is ready.
    #[must_use]
    pub fn push_flow(&mut self, about: Channel, answer: &[u8; ANSWER_BYTES]) -> bool {
        let fits = self.push(ByteOwner::Flow, answer);
        if !fits && about.vm().is_some() {
            self.unanswered |= 1 << about.get();
        }
        fits
    }

    /// The next byte for the line, which stays until it is taken from `rest`.
    #[inline]
    fn next(&mut self) -> Option<u8> {
        if self.rest.is_empty() {
            let (owner, byte) = self.queue.pop()?;
            self.waiting[owner.index()] -= 1;
            for &byte in self.encoder.encode(owner.channel(), byte).as_bytes() {
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

    /// Has the UART interrupt as long as there is something to do in the interrupt, and no longer: it
    /// is level-sensitive.
    #[inline]
    fn settle<R: Registers>(&mut self, uart: &Uart<R>) {
        let something = !self.is_empty() || self.refused | self.unanswered != 0 || self.wanted;
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

    /// Whether somebody asked for the interrupt and there is room for an answer of so many bytes now.
    pub fn take_wanted<R: Registers>(&mut self, uart: &Uart<R>, bytes: usize) -> bool {
        let found = self.wanted && self.room(ByteOwner::Answer) >= bytes;
        if found {
            self.wanted = false;
            self.settle(uart);
        }
        found
    }

    /// The guests that were refused and have room for half their share again, and those about which an answer
    /// was. The caller has them go on. One that waits still has bytes in the queue, or others have, so
    /// the interrupt comes again.
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

    /// Waits until all has left the UART; false where it gave up, because no byte left for `patience`
    /// on the clock `now`. For when there will be no interrupt: at boot, at the end, in a panic.
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
