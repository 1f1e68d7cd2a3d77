// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A source of bytes and where its answers go: [`MonitorPort`], and what a guest gets, [`ReplyQueue`].

use super::reply::WriteReply;
use super::session::{Echo, Session};
use super::{System, respond};
use alloc::collections::VecDeque;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};
use postern_base::lock::{Class, Lock};
use postern_base::ring::Ring;

/// Bytes that wait to be looked at.
pub const INPUT: usize = 1024;
/// The most bytes that [`MonitorPort::work`] looks at.
const BYTES_AT_ONCE: usize = 256;
/// Bytes of answers that wait to be read by a guest. The longest answer, the whole log as JSON,
/// fits behind those that make it wait.
const ANSWERS: usize = 48 * 1024;
/// With so many bytes of answers unread, a guest's commands wait.
const ENOUGH_ANSWERS: usize = 8 * 1024;

/// Where a session's output goes.
pub trait ReplySink {
    /// Whether commands are to be answered now; they wait otherwise.
    fn has_room(&self) -> bool;

    /// Sends what `write` writes, with nothing of others in between. One caller at a time. With an echo lines end as a
    /// terminal wants them, and what does not end with one has others begin a line behind it.
    ///
    /// It goes out in pieces of at most [`CHUNK`] bytes. After each of them `between` is called, with no lock held
    /// that this takes.
    fn send(&self, echo: bool, between: &dyn Fn(), write: WriteReply<'_>);
}

/// The most bytes of a [`ReplyChunks`]' piece.
pub const CHUNK: usize = 128;

/// Cuts what is written into pieces.
pub struct ReplyChunks<'a> {
    piece: heapless::Vec<u8, CHUNK>,
    /// A line ends with CR LF, as a terminal wants it, and not with LF alone.
    returns: bool,
    /// The last byte is within a line.
    in_line: bool,
    send: &'a mut dyn FnMut(&[u8]),
}

impl<'a> ReplyChunks<'a> {
    /// Nothing is written. `send` gets the pieces. With `returns` a line ends with CR LF, as a terminal wants it.
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

    /// Sends the last piece. Returns whether the last line has no end.
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

/// A session, and the bytes that wait for it. Any pCPU may use it at any time.
///
/// A command is executed with none of the locks held, so it may do what it likes to the VM that
/// gives it.
pub struct MonitorPort {
    input: Lock<Ring<INPUT>>,
    session: Lock<Session>,
    /// Somebody works for it: bytes are looked at in their order.
    busy: AtomicBool,
}

impl MonitorPort {
    /// A plain session, no bytes.
    pub const fn new() -> Self {
        Self {
            input: Lock::new(Class::Input, Ring::new()),
            session: Lock::new(Class::Session, Session::new()),
            busy: AtomicBool::new(false),
        }
    }

    /// A byte for the session. Somebody must call [`MonitorPort::work`] then, holding no lock. False
    /// where there is no room for it now.
    #[must_use]
    pub fn receive(&self, byte: u8) -> bool {
        self.input.lock().push(byte)
    }

    /// Whether bytes wait.
    pub fn has_input(&self) -> bool {
        !self.input.lock().is_empty()
    }

    /// Looks at some bytes, and executes a command at most. True where it is to be called again
    /// soon, for what is left.
    ///
    /// To be called with no lock held that a command might want.
    pub fn work(&self, system: &dyn System, output: &dyn ReplySink) -> bool {
        // The second time for who has found it busy meanwhile.
        for _ in 0..2 {
            if !output.has_room() || !self.has_input() {
                return false;
            }
            if self.busy.swap(true, Ordering::AcqRel) {
                // Whoever it is looks again before it leaves.
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

    /// True where it is enough for now.
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

    /// As at the beginning.
    pub fn reset(&self) {
        self.input.lock().clear();
        *self.session.lock() = Session::new();
    }
}

/// Sends what a session says by itself.
fn say(output: &dyn ReplySink, has_echo: bool, echo: &Echo) {
    if !echo.is_empty() {
        output.send(has_echo, &|| {}, &mut |out| {
            let _ = out.write_str(echo);
        });
    }
}

/// ReplyQueue that a guest has not read yet.
pub struct ReplyQueue {
    bytes: Lock<VecDeque<u8>>,
}

impl ReplyQueue {
    /// None; the memory for all that will ever wait.
    pub fn new() -> Self {
        Self {
            bytes: Lock::new(Class::Replies, VecDeque::with_capacity(ANSWERS)),
        }
    }

    /// The next byte for the guest.
    pub fn next(&self) -> Option<u8> {
        self.bytes.lock().pop_front()
    }

    /// Forgets all.
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
