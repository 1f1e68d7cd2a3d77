// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The server's side, in the process that runs the machine.

use super::{PATIENCE, Reply, Request, SOCKET, Wire, socket};
use crate::console::{Channel, plain};
use crate::launch::Wiring;
use anyhow::{Context, Result};
use postern_ctl::Command;
use postern_ctl::messages::{MARK, MonitorMessage};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The prefix of all tags of this server.
const TAG: &str = "ctl-";
/// The most bytes of a request.
const LONGEST_REQUEST: u64 = 4096;
/// The most time that a client may take to send its request.
const HURRY: Duration = Duration::from_secs(5);
/// The time between two attempts to accept a client when file descriptors have run out.
const GLANCE: Duration = Duration::from_millis(100);

/// The socket of a running system. Dropping this value removes it.
pub struct Control {
    shared: Arc<Shared>,
    folder: PathBuf,
}

struct Shared {
    wire: Wire,
    /// The clients that wait, by the number of their tag.
    waiting: Mutex<HashMap<u32, Sender<String>>>,
    next: AtomicU32,
    over: AtomicBool,
}

/// The handle that receives the hypervisor's lines.
#[derive(Clone)]
pub struct AnswerRouter(Arc<Shared>);

impl Control {
    /// Opens the socket in a folder.
    ///
    /// # Errors
    /// Fails when the socket cannot be made.
    pub fn open(folder: &Path, wire: Wire) -> Result<Self> {
        let (open, path) = socket(folder)?;
        // Removes the socket of a tool that was killed. A system that still runs in the same folder
        // loses its own.
        match std::fs::remove_file(&path) {
            Err(why) if why.kind() != ErrorKind::NotFound => return Err(why.into()),
            _ => {}
        }
        let listener = UnixListener::bind(&path)
            .with_context(|| format!("cannot make a socket in {}", folder.display()))?;
        let shared = Arc::new(Shared {
            wire,
            waiting: Mutex::default(),
            next: AtomicU32::new(1),
            over: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || serve(&listener, &open, &serving));
        Ok(Self {
            shared,
            folder: folder.to_owned(),
        })
    }

    /// Opens the socket as [`Control::open`] does, on a machine with a hypervisor. A failure is
    /// only printed: the system works without the socket.
    pub fn beside(folder: &Path, wiring: Wiring, wire: &Wire) -> Option<Self> {
        if wiring == Wiring::Plain {
            return None;
        }
        match Self::open(folder, wire.clone()) {
            Ok(control) => Some(control),
            Err(why) => {
                eprintln!("  `make ctl` will not find this system: {why:#}");
                None
            }
        }
    }

    /// Returns the handle that is given each line of the hypervisor.
    pub fn router(&self) -> AnswerRouter {
        AnswerRouter(Arc::clone(&self.shared))
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        self.shared.hang_up();
        if let Ok((_open, path)) = socket(&self.folder) {
            // Wakes the thread, which then sees that the server is closed.
            let _ = UnixStream::connect(&path);
            let _ = std::fs::remove_file(self.folder.join(SOCKET));
        }
    }
}

impl AnswerRouter {
    /// Takes a line. Returns true when it is the answer to a client, which nothing else shows.
    pub fn take_line(&self, line: &str) -> bool {
        let line = plain(line);
        match tag_of(&line) {
            Some(tag) => {
                // An answer whose client has gone is dropped.
                if let Some(client) = self.0.clients().get(&tag) {
                    let _ = client.send(line);
                }
                true
            }
            None => false,
        }
    }

    /// Closes the server when the machine has ended: no more requests are answered.
    pub fn close(&self) {
        self.0.over.store(true, Ordering::Relaxed);
        self.0.hang_up();
    }
}

/// Returns the number of the tag that a line answers.
fn tag_of(line: &str) -> Option<u32> {
    match MonitorMessage::find(line) {
        Some(Ok(MonitorMessage::Answer(answer))) => answer.tag?.strip_prefix(TAG)?.parse().ok(),
        _ => None,
    }
}

impl Shared {
    fn clients(&self) -> std::sync::MutexGuard<'_, HashMap<u32, Sender<String>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hang_up(&self) {
        self.clients().clear();
    }

    /// Asks the monitor; returns its answer.
    fn ask(&self, request: Request) -> Result<String, String> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, lines) = channel();
        self.clients().insert(number, sender);
        let answer = self.ask_as(number, request, &lines);
        self.clients().remove(&number);
        answer
    }

    fn ask_as(
        &self,
        number: u32,
        request: Request,
        lines: &Receiver<String>,
    ) -> Result<String, String> {
        let ended = || "the machine has ended".to_owned();
        if self.over.load(Ordering::Relaxed) {
            return Err(ended());
        }
        // A client's line with a line end in it would be two lines.
        if request.command.contains(|letter: char| letter.is_control()) {
            return Err("a command must be plain ASCII".into());
        }
        let command = Command {
            line: request.command,
            json: true,
        };
        let line = command.tagged(&format!("{TAG}{number}"));
        self.wire
            .send(Channel::Hypervisor, format!("{line}\n").as_bytes())
            .map_err(|_| ended())?;
        match lines.recv_timeout(PATIENCE) {
            Ok(line) => {
                let json = line.split_once(MARK).map_or("", |(_, json)| json);
                Ok(json.trim_end().to_owned())
            }
            Err(RecvTimeoutError::Disconnected) => Err(ended()),
            Err(RecvTimeoutError::Timeout) => Err(format!(
                "the monitor has not answered for {} s: the machine may still be booting",
                PATIENCE.as_secs()
            )),
        }
    }
}

/// Answers clients, one thread per client, until the server is closed. The folder stays open until
/// then.
fn serve(listener: &UnixListener, _folder: &File, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.over.load(Ordering::Relaxed) {
            return;
        }
        let Ok(client) = client else {
            // File descriptors have run out; some will be free later.
            std::thread::sleep(GLANCE);
            continue;
        };
        let shared = Arc::clone(shared);
        // A client that has gone gets no reply.
        std::thread::spawn(move || drop(converse(&client, &shared)));
    }
}

fn converse(client: &UnixStream, shared: &Shared) -> Result<()> {
    client.set_read_timeout(Some(HURRY))?;
    let mut request = String::new();
    BufReader::new(client.take(LONGEST_REQUEST)).read_line(&mut request)?;
    let request: Request = serde_json::from_str(&request)?;
    let reply = match shared.ask(request) {
        Ok(answer) => Reply::Answer(answer),
        Err(why) => Reply::Failed(why),
    };
    let mut to = client;
    to.write_all((serde_json::to_string(&reply)? + "\n").as_bytes())?;
    Ok(())
}
