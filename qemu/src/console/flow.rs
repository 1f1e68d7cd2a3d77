// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Flow control for guests' input: a guest is sent no more bytes than its emulated UART has room
//! for; the rest waits here. `docs/console.md` has the rules; the other end is
//! `hypervisor/console/src/flow.rs`.

use super::{Channel, Mux};
use std::collections::{HashMap, VecDeque};

/// The room of each guest before the first byte, in bytes.
const INITIAL: usize = 4096;
/// The most bytes that wait for one guest.
const LONGEST: usize = 4 << 20;

/// More bytes wait for a guest than are kept: the guest does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputFullError;

impl std::fmt::Display for InputFullError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "the guest does not read: {} MiB of input wait for it already",
            LONGEST >> 20
        )
    }
}

impl std::error::Error for InputFullError {}

/// The state of one guest's input.
#[derive(Debug)]
struct Window {
    /// The number of bytes that the guest certainly has room for.
    room: usize,
    /// Whether a question to the hypervisor is open. Nothing is sent until the answer comes,
    /// because the answer counts from the question on.
    asked: bool,
    waiting: VecDeque<u8>,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            room: INITIAL,
            asked: false,
            waiting: VecDeque::new(),
        }
    }
}

/// The sending end of all consoles. The caller writes the bytes that its methods return to the
/// UART, in order.
#[derive(Debug)]
pub struct FlowControl {
    mux: Mux,
    /// Whether a hypervisor answers questions.
    multiplexed: bool,
    windows: HashMap<u8, Window>,
    /// The part of an answer that has arrived.
    answer: Vec<u8>,
}

impl FlowControl {
    /// Returns the sending end for a machine with the hypervisor.
    #[must_use]
    pub fn multiplexed() -> Self {
        Self::new(Mux::multiplexed(), true)
    }

    /// Returns the sending end for a machine without it: the UART belongs to the guest, and QEMU
    /// itself waits for room.
    #[must_use]
    pub fn plain() -> Self {
        Self::new(Mux::plain(), false)
    }

    fn new(mux: Mux, multiplexed: bool) -> Self {
        Self {
            mux,
            multiplexed,
            windows: HashMap::new(),
            answer: Vec::new(),
        }
    }

    /// Sends bytes to a console, or queues them until there is room. The monitor reads at once.
    ///
    /// # Errors
    /// Fails when too much waits already.
    pub fn send(&mut self, channel: Channel, bytes: &[u8]) -> Result<Vec<u8>, InputFullError> {
        match channel {
            Channel::Vm(number) if self.multiplexed => {
                let window = self.windows.entry(number).or_default();
                if window.waiting.len() + bytes.len() > LONGEST {
                    return Err(InputFullError);
                }
                window.waiting.extend(bytes);
                Ok(self.flush(number))
            }
            _ => Ok(self.mux.encode(channel, bytes)),
        }
    }

    /// Takes bytes of [`Channel::Flow`], cut anywhere.
    pub fn take_answers(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut wire = Vec::new();
        for &byte in bytes {
            self.answer.push(byte);
            if let [number, low, high] = self.answer[..] {
                self.answer.clear();
                let window = self.windows.entry(number).or_default();
                // An answer without a question would be an error of the hypervisor.
                if window.asked {
                    window.asked = false;
                    window.room = usize::from(u16::from_le_bytes([low, high]));
                    wire.extend(self.flush(number));
                }
            }
        }
        wire
    }

    /// Sends what has room, and asks for more room where bytes still wait.
    fn flush(&mut self, number: u8) -> Vec<u8> {
        let Some(window) = self.windows.get_mut(&number).filter(|window| !window.asked) else {
            return Vec::new();
        };
        let length = window.room.min(window.waiting.len());
        let bytes: Vec<u8> = window.waiting.drain(..length).collect();
        window.room -= length;
        window.asked = !window.waiting.is_empty();
        let ask = window.asked;
        let mut wire = self.mux.encode(Channel::Vm(number), &bytes);
        if ask {
            wire.extend(self.mux.encode(Channel::Flow, &[number]));
        }
        wire
    }
}

#[cfg(test)]
mod tests;
