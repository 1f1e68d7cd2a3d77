// SPDX-License-Identifier: Apache-2.0 OR MIT
//! FlowState control for guests' input: how the other end of the UART finds out that a guest has room.
//!
//! It asks, by the guest's channel number on the channel [`mux::FLOW`](super::mux::Channel::FLOW), and gets one
//! answer on that channel: as soon as [`ANSWER_FROM`] bytes have room, how many have. What it sent before it asked
//! has arrived by then. Who never asks, a person at a plain terminal, never gets an answer, which would be noise to
//! them. A guest that does not read has its own answer wait, and nobody else's.

use super::mux::Channel;
use postern_devices::pl011::INPUT_QUEUE;

/// The least room that is worth an answer, bytes. Half of the queue, so that there are few answers and the guest
/// does not run dry.
pub const ANSWER_FROM: usize = INPUT_QUEUE / 2;
/// The length of an answer: the channel it is about, then the bytes that have room, low byte first.
pub const ANSWER_BYTES: usize = 3;

/// The state of one guest's console.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowState {
    asked: bool,
}

impl FlowState {
    /// Nobody has asked.
    pub const fn new() -> Self {
        Self { asked: false }
    }

    /// The other end wants to know. Asking twice before there is an answer is asking once.
    #[inline]
    pub const fn ask(&mut self) {
        self.asked = true;
    }

    /// What to tell about `channel`, in whose queue `room` bytes have room now: to be called whenever somebody has
    /// asked or there may be more room. The question stays until [`FlowState::told`].
    #[inline]
    pub fn answer(&self, channel: Channel, room: usize) -> Option<[u8; ANSWER_BYTES]> {
        if !self.asked || room < ANSWER_FROM {
            return None;
        }
        let [low, high] = u16::try_from(room).unwrap_or(u16::MAX).to_le_bytes();
        Some([channel.get(), low, high])
    }

    /// The answer is on its way.
    #[inline]
    pub const fn told(&mut self) {
        self.asked = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Channel = match Channel::new(1) {
        Some(channel) => channel,
        None => panic!("1 is a channel"),
    };

    #[test]
    fn who_has_not_asked_hears_nothing() {
        let flow = FlowState::new();
        assert_eq!(flow.answer(A, INPUT_QUEUE), None);
    }

    #[test]
    fn a_question_gets_one_answer_when_half_of_the_queue_is_free() {
        let mut flow = FlowState::new();
        flow.ask();
        flow.ask();
        assert_eq!(flow.answer(A, 0), None);
        assert_eq!(flow.answer(A, ANSWER_FROM - 1), None);
        assert_eq!(flow.answer(A, 0x0801), Some([1, 0x01, 0x08]));
        // Until it is on its way, the question waits for it.
        assert_eq!(flow.answer(A, 0x0802), Some([1, 0x02, 0x08]));
        flow.told();
        assert_eq!(flow.answer(A, INPUT_QUEUE), None);
        flow.ask();
        assert_eq!(flow.answer(A, INPUT_QUEUE), Some([1, 0x00, 0x10]));
    }
}
