// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The hypervisor's own channel: its log lines and events, and the monitor's answers.
//!
//! Guests cause lines: each restart of one is two events. So each line has a cause, a VM or none, and each
//! cause a share of the queue ([`super::transmit`]). A VM whose share is full loses its own lines, which
//! are counted, and nobody else's. Before it can lose an event of its start or its end, it is not started
//! again until there is room ([`Lines::has_room_for_life`]). And what an answer waits for is earlier answers only.

use super::log::Timestamp;
use super::transmit::{ANSWER_SHARE, ByteOwner, LINE_SHARE, OwnedBytes, Transmitter};
use core::fmt::Write;
use postern_base::ids::{MAX_VMS, VmIndex};

/// Room that log lines leave to events, of each share, in bytes.
const FOR_EVENTS: usize = 1024;
/// Room that a VM has before it starts, in bytes: for a log line of two, and then the events of its start and its end.
const FOR_A_LIFE: usize = LINE_SHARE / 2;
/// Room that a command's answer waits for: the longest, the whole log as JSON, is 48 KiB.
const FOR_AN_ANSWER: usize = 48 * 1024;
/// Bytes of lines that wait for the end of an answer.
const PARKED: usize = (MAX_VMS + 1) * LINE_SHARE;
/// The most bytes of a note about lost lines.
const MAX_NOTE: usize = 128;
/// Ends a line that a user types.
const BREAK: &[u8] = b"\r\n";

/// Answers, echoes and prompts behind each other have room beside the longest answer.
const _: () = assert!(FOR_AN_ANSWER + 4 * 1024 <= ANSWER_SHARE);

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineKind {
    /// It is for people, who may ask for it with `log` as well.
    Log,
    /// Programs wait for it.
    Event,
}

/// The channel.
pub struct Lines {
    /// What waits, on all channels.
    pub transmitter: Transmitter,
    /// A user of the monitor is in the middle of a line: others begin one behind it.
    in_line: bool,
    /// Somebody is writing an answer, piece by piece.
    is_answering: bool,
    /// Lines that came meanwhile. They have their room in the queue.
    parked: OwnedBytes<{ 2 * PARKED }>,
    /// Lines that there was no room for, not reported yet: those without a VM, then each VM's.
    lost: [u32; MAX_VMS + 1],
}

impl Lines {
    /// Nothing was said.
    pub const fn new() -> Self {
        Self {
            transmitter: Transmitter::new(),
            in_line: false,
            is_answering: false,
            parked: OwnedBytes::new(),
            lost: [0; MAX_VMS + 1],
        }
    }

    /// A line, with its end, in one piece or not at all. Where there is no room for it, it is lost and counted.
    pub fn line(&mut self, cause: Option<VmIndex>, kind: LineKind, bytes: &[u8], micros: u64) {
        let lost = cause.map_or(0, |vm| vm.get() + 1);
        let mut note = heapless::String::<MAX_NOTE>::new();
        if self.lost[lost] > 0 {
            let _ = write!(
                note,
                "{} warn: {} lines are not here, since the UART is too slow for them; `log` may have them\r\n",
                Timestamp(micros),
                self.lost[lost]
            );
        }
        let reserve = match kind {
            LineKind::Log => FOR_EVENTS,
            LineKind::Event => 0,
        };
        let owner = ByteOwner::Lines(cause);
        // Behind an answer it is the answer's to break the line.
        let behind: &[u8] = if self.in_line && !self.is_answering {
            BREAK
        } else {
            b""
        };
        let needs = behind.len() + note.len() + bytes.len();
        if self.transmitter.room(owner) < needs + reserve || !self.transmitter.claim(owner, needs) {
            self.lost[lost] += 1;
            return;
        }
        self.lost[lost] = 0;
        let Self {
            transmitter,
            parked,
            is_answering,
            in_line,
            ..
        } = self;
        let mut send = |bytes: &[u8]| {
            for &byte in bytes {
                if *is_answering {
                    parked.push(owner, byte);
                } else {
                    transmitter.push_claimed(owner, byte);
                }
            }
        };
        send(behind);
        send(note.as_bytes());
        send(bytes);
        if !*is_answering {
            *in_line = false;
        }
    }

    /// Whether all has room that a VM says by itself from its start to its end.
    pub fn has_room_for_life(&self, vm: VmIndex) -> bool {
        self.transmitter.room(ByteOwner::Lines(Some(vm))) >= FOR_A_LIFE
    }

    /// Returns the room that the longest answer takes.
    pub const fn answer_needs() -> usize {
        FOR_AN_ANSWER
    }

    /// Whether the longest answer has room.
    pub fn has_room_for_answer(&self) -> bool {
        self.transmitter.room(ByteOwner::Answer) >= FOR_AN_ANSWER
    }

    /// An answer begins. Lines come behind it.
    pub fn begin_answer(&mut self) {
        self.is_answering = true;
    }

    /// A piece of the answer.
    pub fn answer(&mut self, piece: &[u8]) {
        self.transmitter.push_answer(piece);
    }

    /// The answer ends; `in_line` where its last line has no end.
    pub fn end_answer(&mut self, in_line: bool) {
        self.is_answering = false;
        self.in_line = in_line && self.parked.is_empty();
        if self.parked.is_empty() {
            return;
        }
        if in_line {
            self.transmitter.push_answer(BREAK);
        }
        while let Some((owner, byte)) = self.parked.pop() {
            self.transmitter.push_claimed(owner, byte);
        }
    }
}

#[cfg(test)]
mod tests;
