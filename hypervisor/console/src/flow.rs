// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Flow control of guests' input: how the other end of the UART learns that a guest has room.
//!
//! The other end sends a guest's channel number on the channel
//! [`mux::FLOW`](super::mux::Channel::FLOW). It gets one answer on that channel, as soon as
//! [`ANSWER_FROM`] bytes have room: the number of bytes that have room. All bytes that it sent
//! before the question have arrived by then. A person at a plain terminal never asks, and so never
//! gets an answer, which would be noise there. A guest that does not read delays its own answer
//! only.

use super::mux::Channel;
use postern_devices::pl011::INPUT_QUEUE;

/// The least room that is answered, in bytes: half of the queue, so that answers are few and the
/// guest's queue does not run empty.
pub const ANSWER_FROM: usize = INPUT_QUEUE / 2;
/// The length of an answer in bytes: the channel, then the number of bytes that have room, low byte
/// first.
pub const ANSWER_BYTES: usize = 3;

/// The flow-control state of one guest's console.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowState {
    asked: bool,
}

impl FlowState {
    /// Creates a state without a question.
    pub const fn new() -> Self {
        Self { asked: false }
    }

    /// Records a question. A second question before the answer changes nothing.
    #[inline]
    pub const fn ask(&mut self) {
        self.asked = true;
    }

    /// Returns the answer about `channel`, whose queue has room for `room` bytes now, if one is
    /// due. The caller calls this after each question and whenever there may be more room. The
    /// question stays until [`FlowState::told`].
    #[inline]
    pub fn answer(&self, channel: Channel, room: usize) -> Option<[u8; ANSWER_BYTES]> {
        if !self.asked || room < ANSWER_FROM {
            return None;
        }
        let [low, high] = u16::try_from(room).unwrap_or(u16::MAX).to_le_bytes();
        Some([channel.get(), low, high])
    }

    /// Removes the question: its answer was sent.
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
    fn no_question_gets_no_answer() {
        let flow = FlowState::new();
        assert_eq!(flow.answer(A, INPUT_QUEUE), None);
    }

    #[test]
    fn question_gets_one_answer_when_half_of_the_queue_is_free() {
        let mut flow = FlowState::new();
        flow.ask();
        flow.ask();
        assert_eq!(flow.answer(A, 0), None);
        assert_eq!(flow.answer(A, ANSWER_FROM - 1), None);
        assert_eq!(flow.answer(A, 0x0801), Some([1, 0x01, 0x08]));
        // Until the answer is sent, the question stays.
        assert_eq!(flow.answer(A, 0x0802), Some([1, 0x02, 0x08]));
        flow.told();
        assert_eq!(flow.answer(A, INPUT_QUEUE), None);
        flow.ask();
        assert_eq!(flow.answer(A, INPUT_QUEUE), Some([1, 0x00, 0x10]));
    }
}
