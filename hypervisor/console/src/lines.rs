// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The hypervisor's channel: its log lines and events, and the monitor's answers.
//!
//! Guests cause lines: each restart of a VM is two events. So each line has a cause, a VM or none,
//! and each cause has a share of the queue ([`super::transmit`]). A VM whose share is full loses
//! only its own lines, which are counted. A VM is not started again until there is room for its
//! start and end events ([`Lines::has_room_for_life`]), so it loses none of them. An answer waits
//! for earlier answers only.

use super::log::Timestamp;
use super::transmit::{ANSWER_SHARE, ByteOwner, LINE_SHARE, OwnedBytes, Transmitter};
use core::fmt::Write;
use postern_base::ids::{MAX_VMS, VmIndex};

/// The room in bytes that log lines leave free for events in each share.
const FOR_EVENTS: usize = 1024;
/// The room in bytes that a VM has before it starts: for one or two log lines and the events of its
/// start and its end.
const FOR_A_LIFE: usize = LINE_SHARE / 2;
/// The room in bytes that a command's answer waits for: the longest, the whole log as JSON, has 48
/// KiB.
const FOR_AN_ANSWER: usize = 48 * 1024;
/// The most bytes of lines that wait for the end of an answer.
const PARKED: usize = (MAX_VMS + 1) * LINE_SHARE;
/// The most bytes of a note about lost lines.
const MAX_NOTE: usize = 128;
/// Ends a line that a user types.
const BREAK: &[u8] = b"\r\n";

/// Consecutive answers, echoes and prompts have room beside the longest answer.
const _: () = assert!(FOR_AN_ANSWER + 4 * 1024 <= ANSWER_SHARE);

/// The kind of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineKind {
    /// A line for people, which the command `log` shows as well.
    Log,
    /// A line that programs wait for.
    Event,
}

/// The state of the hypervisor's channel.
pub struct Lines {
    /// The transmit queue of all channels.
    pub transmitter: Transmitter,
    /// Whether the user of the monitor is in the middle of a line, so that other output begins a
    /// new one.
    in_line: bool,
    /// Whether an answer is being written, piece by piece.
    is_answering: bool,
    /// Lines that were added during an answer. Their room in the queue is claimed.
    parked: OwnedBytes<{ 2 * PARKED }>,
    /// The numbers of lost lines that were not reported yet: those without a VM, then each VM's.
    lost: [u32; MAX_VMS + 1],
}

impl Lines {
    /// Creates a channel without output.
    pub const fn new() -> Self {
        Self {
            transmitter: Transmitter::new(),
            in_line: false,
            is_answering: false,
            parked: OwnedBytes::new(),
            lost: [0; MAX_VMS + 1],
        }
    }

    /// Sends a whole line with its line end, or counts it as lost if there is no room for it.
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
        // After an answer, the answer breaks the user's line.
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

    /// Returns whether there is room for all lines that a VM causes from its start to its end.
    pub fn has_room_for_life(&self, vm: VmIndex) -> bool {
        self.transmitter.room(ByteOwner::Lines(Some(vm))) >= FOR_A_LIFE
    }

    /// Returns the room in bytes that the longest answer needs.
    pub const fn answer_needs() -> usize {
        FOR_AN_ANSWER
    }

    /// Returns whether the longest answer has room.
    pub fn has_room_for_answer(&self) -> bool {
        self.transmitter.room(ByteOwner::Answer) >= FOR_AN_ANSWER
    }

    /// Begins an answer. Lines are sent after it.
    pub fn begin_answer(&mut self) {
        self.is_answering = true;
    }

    /// Sends a piece of the answer.
    pub fn answer(&mut self, piece: &[u8]) {
        self.transmitter.push_answer(piece);
    }

    /// Ends the answer. `in_line` says that its last line has no line end.
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
