// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Flow control for guests' input: no more is sent to a guest than its emulated UART has room for, and the rest waits
//! here. `docs/console.md` has the rules; the other end is `hypervisor/src/console/flow.rs`.

use super::{Channel, Mux};
use std::collections::{HashMap, VecDeque};

/// The room that a guest has before anything was sent to it, bytes.
const INITIAL: usize = 4096;
/// The most that waits for one guest, bytes.
const LONGEST: usize = 4 << 20;

/// More waits for a guest than is kept: it does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl std::fmt::Display for Full {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "the guest does not read: {} MiB of input wait for it already",
            LONGEST >> 20
        )
    }
}

impl std::error::Error for Full {}

/// What is known of one guest's input.
#[derive(Debug)]
struct Window {
    /// Bytes that it takes for sure.
    room: usize,
    /// Whether the hypervisor has been asked for more. Until it answers nothing is sent: its answer counts from the
    /// question on.
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

/// The sending end of all consoles. What its methods give is to be written to the UART, in their order.
#[derive(Debug)]
pub struct FlowControl {
    mux: Mux,
    /// Whether there is a hypervisor to ask.
    multiplexed: bool,
    windows: HashMap<u8, Window>,
    /// An answer that has come in part.
    answer: Vec<u8>,
}

impl FlowControl {
    /// For a machine with the hypervisor.
    #[must_use]
    pub fn multiplexed() -> Self {
        Self::new(Mux::multiplexed(), true)
    }

    /// For a machine without: its UART is the guest's, and QEMU waits for room by itself.
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

    /// Sends bytes to a console, or has them wait until there is room. The monitor reads at once.
    ///
    /// # Errors
    /// Too much waits already.
    pub fn send(&mut self, channel: Channel, bytes: &[u8]) -> Result<Vec<u8>, Full> {
        match channel {
            Channel::Vm(number) if self.multiplexed => {
                let window = self.windows.entry(number).or_default();
                if window.waiting.len() + bytes.len() > LONGEST {
                    return Err(Full);
                }
                window.waiting.extend(bytes);
                Ok(self.flush(number))
            }
            _ => Ok(self.mux.encode(channel, bytes)),
        }
    }

    /// Takes in what came on [`Channel::Flow`], cut anywhere.
    pub fn heard(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut wire = Vec::new();
        for &byte in bytes {
            self.answer.push(byte);
            if let [number, low, high] = self.answer[..] {
                self.answer.clear();
                let window = self.windows.entry(number).or_default();
                // An answer to nothing would be a mistake of the hypervisor's.
                if window.asked {
                    window.asked = false;
                    window.room = usize::from(u16::from_le_bytes([low, high]));
                    wire.extend(self.flush(number));
                }
            }
        }
        wire
    }

    /// Sends what has room, and asks for more where something still waits.
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
