// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A source of bytes and where its answers go: [`Port`], and what a guest gets, [`Answers`].

use super::{Session, System, respond};
use alloc::collections::VecDeque;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};
use postern_base::lock::{Class, Lock};
use postern_base::ring::Ring;

/// Bytes that wait to be looked at.
pub const INPUT: usize = 1024;
/// The most bytes that [`Port::work`] looks at.
const BYTES_AT_ONCE: usize = 256;
/// Bytes of answers that wait to be read by a guest. The longest answer, the whole log as JSON,
/// fits behind those that make it wait.
const ANSWERS: usize = 48 * 1024;
/// With so many bytes of answers unread, a guest's commands wait.
const ENOUGH_ANSWERS: usize = 8 * 1024;

/// Where a session's output goes.
pub trait Output {
    /// Whether commands are to be answered now; they wait otherwise.
    fn has_room(&self) -> bool;

    /// Sends what `write` writes, with nothing of others in between. `session` is what the line then belongs to that
    /// is being edited, if any. One caller at a time.
    ///
    /// It goes out in pieces of at most [`PIECE`] bytes. After each of them `between` is called, with no lock held
    /// that this takes.
    fn send(
        &self,
        terminal: bool,
        session: Option<&Session>,
        between: &dyn Fn(),
        write: &mut dyn FnMut(&mut dyn Write) -> fmt::Result,
    );
}

/// The most bytes of a [`Pieces`]' piece.
pub const PIECE: usize = 128;

/// Cuts what is written into pieces.
pub struct Pieces<'a> {
    piece: heapless::Vec<u8, PIECE>,
    send: &'a mut dyn FnMut(&[u8]),
}

impl<'a> Pieces<'a> {
    /// Nothing is written. `send` gets the pieces.
    pub const fn new(send: &'a mut dyn FnMut(&[u8])) -> Self {
        Self {
            piece: heapless::Vec::new(),
            send,
        }
    }

    fn end_piece(&mut self) {
        (self.send)(&self.piece);
        self.piece.clear();
    }

    /// The last piece.
    pub fn end(mut self) {
        self.end_piece();
    }
}

impl Write for Pieces<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if self.piece.is_full() {
                self.end_piece();
            }
            let _ = self.piece.push(byte);
        }
        Ok(())
    }
}

/// A session, and the bytes that wait for it. Any pCPU may use it at any time.
///
/// A command is executed with none of the locks held, so it may do what it likes to the VM that
/// gives it.
pub struct Port {
    input: Lock<Ring<INPUT>>,
    session: Lock<Session>,
    /// Somebody works for it: bytes are looked at in their order.
    busy: AtomicBool,
}

impl Port {
    /// A plain session, no bytes.
    pub const fn new() -> Self {
        Self {
            input: Lock::new(Class::Input, Ring::new()),
            session: Lock::new(Class::Session, Session::new()),
            busy: AtomicBool::new(false),
        }
    }

    /// A byte for the session. Somebody must call [`Port::work`] then, holding no lock. False
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
    pub fn work(&self, system: &impl System, output: &impl Output) -> bool {
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
    fn look(&self, system: &impl System, output: &impl Output) -> bool {
        for _ in 0..BYTES_AT_ONCE {
            let Some(byte) = self.input.lock().pop() else {
                return false;
            };
            let mut entered = None;
            let mut session = self.session.lock();
            let terminal = session.is_terminal();
            let mut echo = heapless::String::<ECHO>::new();
            // Longer ones than there is room for are cut: candidates for a completion are few.
            if let Ok(Some(line)) = session.receive(byte, system, &mut Cut(&mut echo)) {
                entered = Some(line);
            }
            let edited = entered.is_none().then_some(&*session);
            if terminal || session.is_terminal() {
                output.send(true, edited, &|| {}, &mut |out| out.write_str(&echo));
            }
            drop(session);
            if let Some(entered) = entered {
                let between = || system.breathe();
                let switch = respond(&entered, system, |write| {
                    output.send(terminal, None, &between, write);
                });
                let mut session = self.session.lock();
                let mut prompt = heapless::String::<ECHO>::new();
                let _ = session.answered(switch, &mut Cut(&mut prompt));
                let terminal = session.is_terminal();
                output.send(terminal, Some(&session), &|| {}, &mut |out| {
                    out.write_str(&prompt)
                });
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

impl Default for Port {
    fn default() -> Self {
        Self::new()
    }
}

/// The most that one byte makes a session say.
const ECHO: usize = 1024;

/// Takes what fits.
struct Cut<'a>(&'a mut heapless::String<ECHO>);

impl Write for Cut<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            let _ = self.0.push(c);
        }
        Ok(())
    }
}

/// Newlines as a terminal wants them.
pub struct Terminal<'a>(
    /// Where the text goes.
    pub &'a mut dyn Write,
);

impl Write for Terminal<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (index, line) in text.split('\n').enumerate() {
            if index > 0 {
                self.0.write_str("\r\n")?;
            }
            self.0.write_str(line)?;
        }
        Ok(())
    }
}

/// Answers that a guest has not read yet.
pub struct Answers {
    bytes: Lock<VecDeque<u8>>,
}

impl Answers {
    /// None; the memory for all that will ever wait.
    pub fn new() -> Self {
        Self {
            bytes: Lock::new(Class::Answers, VecDeque::with_capacity(ANSWERS)),
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

impl Default for Answers {
    fn default() -> Self {
        Self::new()
    }
}

impl Output for Answers {
    fn has_room(&self) -> bool {
        self.bytes.lock().len() < ENOUGH_ANSWERS
    }

    fn send(
        &self,
        terminal: bool,
        _: Option<&Session>,
        between: &dyn Fn(),
        write: &mut dyn FnMut(&mut dyn Write) -> fmt::Result,
    ) {
        let mut send = |piece: &[u8]| {
            let mut bytes = self.bytes.lock();
            let room = ANSWERS - bytes.len();
            bytes.extend(piece.iter().take(room));
            drop(bytes);
            between();
        };
        let mut pieces = Pieces::new(&mut send);
        // Nothing here fails.
        let _ = if terminal {
            write(&mut Terminal(&mut pieces))
        } else {
            write(&mut pieces)
        };
        pieces.end();
    }
}
