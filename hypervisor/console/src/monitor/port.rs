// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A source of bytes and its answers: [`MonitorPort`], and [`ReplyQueue`] for the answers to a
//! guest.

use super::reply::WriteReply;
use super::session::{Echo, Session};
use super::{System, respond};
use alloc::collections::VecDeque;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};
use postern_base::lock::{Class, Lock};
use postern_base::ring::Ring;

/// The most bytes that wait to be processed.
pub const INPUT: usize = 1024;
/// The most bytes that one [`MonitorPort::work`] processes.
const BYTES_AT_ONCE: usize = 256;
/// The most bytes of answers that wait for a guest to read them. The longest answer, the whole log
/// as JSON, fits behind those that make it wait.
const ANSWERS: usize = 48 * 1024;
/// The number of unread bytes of answers from which a guest's commands wait.
const ENOUGH_ANSWERS: usize = 8 * 1024;

/// The destination of a session's output.
pub trait ReplySink {
    /// Returns whether commands may be answered now. Otherwise they wait.
    fn has_room(&self) -> bool;

    /// Sends the output of `write` with no other output in between. There is one caller at a time.
    /// With `echo`, lines end with CR LF for a terminal, and after output that does not end a line,
    /// other output begins a new one.
    ///
    /// The output is sent in pieces of at most [`CHUNK`] bytes. After each piece `between` is
    /// called, with no lock of the sink held.
    fn send(&self, echo: bool, between: &dyn Fn(), write: WriteReply<'_>);
}

/// The most bytes per piece of [`ReplyChunks`].
pub const CHUNK: usize = 128;

/// A writer that cuts its input into pieces.
pub struct ReplyChunks<'a> {
    piece: heapless::Vec<u8, CHUNK>,
    /// Whether a line ends with CR LF, for a terminal, instead of LF.
    returns: bool,
    /// Whether the last byte is within a line.
    in_line: bool,
    send: &'a mut dyn FnMut(&[u8]),
}

impl<'a> ReplyChunks<'a> {
    /// Creates an empty writer. `send` gets the pieces. With `returns`, a line ends with CR LF, for
    /// a terminal.
    pub const fn new(returns: bool, send: &'a mut dyn FnMut(&[u8])) -> Self {
        Self {
            piece: heapless::Vec::new(),
            returns,
            in_line: false,
            send,
        }
    }

    fn end_piece(&mut self) {
        (self.send)(&self.piece);
        self.piece.clear();
    }

    /// Sends the last piece. Returns whether the last line has no line end.
    pub fn end(mut self) -> bool {
        self.end_piece();
        self.in_line
    }

    fn push(&mut self, byte: u8) {
        if self.piece.is_full() {
            self.end_piece();
        }
        let _ = self.piece.push(byte);
    }
}

impl Write for ReplyChunks<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' && self.returns {
                self.push(b'\r');
            }
            self.push(byte);
            self.in_line = byte != b'\n';
        }
        Ok(())
    }
}

/// A session and the bytes that wait for it. Any pCPU may use it at any time.
///
/// A command is executed with none of the locks held, so it may do anything to the VM that gives
/// it.
pub struct MonitorPort {
    input: Lock<Ring<INPUT>>,
    session: Lock<Session>,
    /// Whether a pCPU is processing bytes. One at a time does, so that they are processed in order.
    busy: AtomicBool,
}

impl MonitorPort {
    /// Creates a silent session without input.
    pub const fn new() -> Self {
        Self {
            input: Lock::new(Class::Input, Ring::new()),
            session: Lock::new(Class::Session, Session::new()),
            busy: AtomicBool::new(false),
        }
    }

    /// Receives a byte for the session. The caller then arranges a call of [`MonitorPort::work`]
    /// with no lock held. Returns false if there is no room for the byte now.
    #[must_use]
    pub fn receive(&self, byte: u8) -> bool {
        self.input.lock().push(byte)
    }

    /// Returns whether bytes wait.
    pub fn has_input(&self) -> bool {
        !self.input.lock().is_empty()
    }

    /// Processes some bytes and executes at most one command. Returns true if the caller should
    /// call it again soon, for the remaining bytes.
    ///
    /// The caller holds no lock that a command may take.
    pub fn work(&self, system: &dyn System, output: &dyn ReplySink) -> bool {
        // The second round is for bytes whose sender found the port busy during the first.
        for _ in 0..2 {
            if !output.has_room() || !self.has_input() {
                return false;
            }
            if self.busy.swap(true, Ordering::AcqRel) {
                // The pCPU that is busy checks for input again before it leaves.
                return false;
            }
            let command = self.look(system, output);
            self.busy.store(false, Ordering::Release);
            if command {
                break;
            }
        }
        output.has_room() && self.has_input()
    }

    /// Processes bytes. Returns true if this call of [`MonitorPort::work`] has done enough.
    fn look(&self, system: &dyn System, output: &dyn ReplySink) -> bool {
        for _ in 0..BYTES_AT_ONCE {
            let Some(byte) = self.input.lock().pop() else {
                return false;
            };
            let mut echo = Echo::new();
            let mut session = self.session.lock();
            let entered = session.receive(byte, &mut echo);
            let has_echo = session.has_echo();
            drop(session);
            say(output, has_echo, &echo);
            if let Some(entered) = entered {
                let between = || system.breathe();
                let switch = respond(&entered, system, &mut |write| {
                    output.send(has_echo, &between, write);
                });
                let mut prompt = Echo::new();
                let mut session = self.session.lock();
                session.answered(switch, &mut prompt);
                let has_echo = session.has_echo();
                drop(session);
                say(output, has_echo, &prompt);
                return true;
            }
        }
        true
    }

    /// Resets the port to its initial state.
    pub fn reset(&self) {
        self.input.lock().clear();
        *self.session.lock() = Session::new();
    }
}

/// Sends the session's own output.
fn say(output: &dyn ReplySink, has_echo: bool, echo: &Echo) {
    if !echo.is_empty() {
        output.send(has_echo, &|| {}, &mut |out| {
            let _ = out.write_str(echo);
        });
    }
}

/// Answers that a guest has not read yet.
pub struct ReplyQueue {
    bytes: Lock<VecDeque<u8>>,
}

impl ReplyQueue {
    /// Creates an empty queue with memory for all bytes that can ever wait.
    pub fn new() -> Self {
        Self {
            bytes: Lock::new(Class::Replies, VecDeque::with_capacity(ANSWERS)),
        }
    }

    /// Removes the next byte for the guest.
    pub fn next(&self) -> Option<u8> {
        self.bytes.lock().pop_front()
    }

    /// Removes all bytes.
    pub fn reset(&self) {
        self.bytes.lock().clear();
    }
}

impl ReplySink for ReplyQueue {
    fn has_room(&self) -> bool {
        self.bytes.lock().len() < ENOUGH_ANSWERS
    }

    fn send(&self, echo: bool, between: &dyn Fn(), write: WriteReply<'_>) {
        let mut send = |piece: &[u8]| {
            let mut bytes = self.bytes.lock();
            let room = ANSWERS - bytes.len();
            bytes.extend(piece.iter().take(room));
            drop(bytes);
            between();
        };
        let mut pieces = ReplyChunks::new(echo, &mut send);
        write(&mut pieces);
        pieces.end();
    }
}
