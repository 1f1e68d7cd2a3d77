// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A hostile guest over FF-A at play, for random conversations.

use super::guest::{Guest, Request};
use super::machine::FakeHost;
use super::ram::RAM_BASE;
use super::tee::Step;
use crate::Mediator;
use crate::addr::{Ipa, PAGE_SIZE};
use alloc::vec::Vec;
use ffa_proto::{EndpointId, Handle, Registers, Width};
use optee_proto::ffa::{Fmem, Service};
use optee_proto::msg::{self, Attr, Command, Param};
use optee_proto::rpc::{self, Function};
use optee_proto::{Return, TeeResult};

/// Pages of the guest. The player takes those below `POOL` again and again, and allocates the others.
pub const PLAY_PAGES: u64 = 2000;
const POOL: u64 = 100;
/// Pages for messages: the first ones.
const MESSAGES: u64 = 4;
/// How many resumptions end all calls.
const TO_THE_END: usize = 200;
/// How many handles of its own the player remembers.
const REMEMBERED: usize = 12;

/// A choice of a handle: one of those that the guest has been given, the latest first, or of those that it has not.
pub type Pick = u8;

/// A parameter: attribute, two words, and a handle in the third.
pub type PlayParam = (u64, u64, u64, Pick);

/// Something that a guest does. Small numbers pick from what there is.
#[derive(Clone, Debug)]
pub enum Action {
    /// Shares memory by a descriptor with something else at an offset, in fragments of this size.
    Share {
        /// Pages of the pool: the first, and how many.
        pages: (u8, u8),
        /// An offset, and what is there.
        damage: Option<(u16, u32)>,
        /// Bytes of each fragment.
        fragment: u16,
        /// Stops after the first.
        only_first: bool,
    },
    /// Sends a fragment of this many bytes, whatever they are.
    Fragment(Pick, u16),
    /// UNREGISTER_SHM.
    Unregister(Pick),
    /// MEM_RECLAIM.
    Reclaim(Pick),
    /// Calls, and this happens meanwhile.
    Call {
        /// The command.
        command: u32,
        /// The parameters.
        params: Vec<PlayParam>,
        /// What OP-TEE does.
        steps: Vec<Step>,
        /// Where the message is, if not in a page of the guest's choice.
        at: Option<(Pick, u32)>,
        /// Which of these pages.
        page: u8,
    },
    /// Answers one of the requests that wait, and goes on with the call.
    Answer(u8, Reply),
    /// Goes on with whatever has this number.
    Resume(u32),
    /// Maps the driver's buffers, or unmaps them.
    Buffers(bool),
    /// Makes a call with these registers.
    Raw([u64; 18]),
    /// Takes a page of the pool away from the guest, if it is not pinned.
    Unmap(u8),
    /// Ends the VM and begins it again.
    Restart,
}

/// An answer to a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// As Linux answers.
    Well,
    /// By memory, whatever was asked: a handle, the offset into its first page, the size.
    Memory(Pick, u16, u64),
    /// By these bytes in the request's place.
    Noise(Vec<u8>),
}

/// A call that came back with an RPC.
struct Waiting {
    message: Ipa,
    regs: [u64; 4],
}

/// A guest at play.
pub struct Play<'a> {
    guest: Guest<'a>,
    handles: Vec<u64>,
    waiting: Vec<Waiting>,
}

impl core::fmt::Debug for Play<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Play({} wait)", self.waiting.len())
    }
}

impl<'a> Play<'a> {
    /// Begins the play of a VM of [`PLAY_PAGES`] pages, whose guest has done nothing yet.
    pub fn new(host: &'a FakeHost, mediator: &'a Mediator) -> Self {
        let guest = Guest::over_ffa(host, mediator);
        guest.alloc(POOL);
        Self {
            guest,
            handles: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// Returns the handles that the guest has been given last.
    pub fn handles(&self) -> &[u64] {
        &self.handles
    }

    /// Returns whether no call waits.
    pub fn is_over(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Does something. `others` are handles of a neighbour's.
    pub fn act(&mut self, action: &Action, others: &[u64]) {
        match action {
            Action::Share {
                pages: (first, count),
                damage,
                fragment,
                only_first,
            } => self.share((*first, *count), *damage, *fragment, *only_first),
            Action::Fragment(pick, length) => {
                let part = [0x5a; 300];
                let length = usize::from(*length) % part.len();
                let handle = Handle::new(self.pick(*pick, others));
                if self.has_tx() {
                    self.guest.send_next(handle, &part[..length]);
                }
            }
            Action::Unregister(pick) => {
                let _ = self.guest.unregister_shm(self.pick(*pick, others));
            }
            Action::Reclaim(pick) => {
                let _ = self.guest.reclaim(self.pick(*pick, others));
            }
            Action::Call {
                command,
                params,
                steps,
                at,
                page,
            } => {
                let params: Vec<_> = params
                    .iter()
                    .map(|&(attr, a, b, pick)| {
                        Param::new(Attr(attr), a, b, self.pick(pick, others))
                    })
                    .collect();
                let at = at.map(|(pick, offset)| (self.pick(pick, others), offset));
                self.call(Command(*command), &params, steps, at, *page);
            }
            Action::Answer(which, reply) => self.answer(usize::from(*which), reply, others),
            Action::Resume(token) => {
                let waits = self.waiting.iter().any(|w| w.regs[3] == u64::from(*token));
                if !waits {
                    let words = [Service::RESUME.get(), 0, 0, 0, *token];
                    let _ = self.guest.request(words);
                }
            }
            Action::Buffers(map) => self.buffers(*map),
            Action::Raw(regs) => {
                self.guest.call(&Registers::from_18(*regs));
            }
            Action::Unmap(page) => {
                let page = u64::from(*page) % (POOL - MESSAGES) + MESSAGES;
                self.guest.host.unmap_unpinned(pool(page));
            }
            Action::Restart => self.restart(),
        }
    }

    /// Answers all requests as Linux does, until none waits.
    pub fn finish(&mut self) {
        for _ in 0..TO_THE_END {
            self.answer(0, &Reply::Well, &[]);
        }
    }

    /// Returns a handle: of the guest's own, of `others`, of the SPMC's kind, or none.
    fn pick(&self, pick: Pick, others: &[u64]) -> u64 {
        let number = usize::from(pick);
        let own = || self.handles.iter().rev().nth(number % REMEMBERED).copied();
        let found = match pick {
            0..=199 => own(),
            200..=219 => others.get(number % others.len().max(1)).copied(),
            220..=239 => Some(1 << 44 | 1 << 16 | u64::from(pick - 220)),
            _ => None,
        };
        found.unwrap_or(match pick % 4 {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << 63,
            _ => 1 << 63 | 1 << 16 | u64::from(pick),
        })
    }

    fn remember(&mut self, handle: u64) {
        if !self.handles.contains(&handle) {
            self.handles.push(handle);
        }
        let excess = self.handles.len().saturating_sub(REMEMBERED);
        self.handles.drain(..excess);
    }

    /// Returns whether the guest has all of the memory that its driver takes for the TX buffer.
    fn has_tx(&self) -> bool {
        let at = self.guest.tx();
        (0..2).all(|n| {
            let page = Ipa::new(at.get() + n * PAGE_SIZE);
            self.guest.host.physical(page).is_some()
        })
    }

    fn share(
        &mut self,
        (first, count): (u8, u8),
        damage: Option<(u16, u32)>,
        fragment: u16,
        only_first: bool,
    ) {
        let pages: Vec<_> = (0..1 + u64::from(count % 6))
            .map(|n| pool((u64::from(first) + 2 * n) % POOL))
            .collect();
        let mut bytes = self.guest.descriptor(&pages);
        if let Some((at, value)) = damage {
            let at = usize::from(at) % (bytes.len() - 3);
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        if !self.has_tx() {
            return;
        }
        let fragment = 1 + usize::from(fragment) % 400;
        if only_first {
            let answer = self.guest.send_first(&bytes, fragment).to_8();
            self.remember(answer[2] << 32 | answer[1]);
        } else if let Ok(handle) = self.guest.send_descriptor(&bytes, fragment) {
            self.remember(handle);
        }
    }

    fn call(
        &mut self,
        command: Command,
        params: &[Param],
        steps: &[Step],
        at: Option<(u64, u32)>,
        page: u8,
    ) {
        let (host, client) = (self.guest.host, self.guest.host.vm());
        host.machine().script(client, steps.iter().cloned());
        let session = host.machine().sessions(client).last().copied();
        let message = pool(u64::from(page) % MESSAGES);
        self.guest
            .write_message(message, command, session.unwrap_or(1), params);
        let regs = match at {
            None => self.guest.begin(message),
            Some((handle, offset)) => self.guest.begin_at(handle, offset),
        };
        // What it did not take is not for the next call.
        host.machine().forget_scripts(client);
        self.note(message, regs);
    }

    fn note(&mut self, message: Ipa, regs: [u64; 4]) {
        if Return::from_x0(regs[0]).rpc().is_some() {
            self.waiting.push(Waiting { message, regs });
        }
    }

    /// Returns the request of a call, where the guest thinks that it is.
    fn request(&self, message: Ipa) -> Option<Request> {
        let count = self.guest.read_message(message).params.len();
        let at = Ipa::new(message.get() + msg::size(count) as u64);
        let fits = at.page_offset() + 200 < PAGE_SIZE && at.page() == message.page();
        fits.then(|| self.guest.read_message(at))
    }

    fn answer(&mut self, which: usize, reply: &Reply, others: &[u64]) {
        if self.waiting.is_empty() {
            return;
        }
        let Waiting { message, regs } = self.waiting.remove(which % self.waiting.len());
        if Return::from_x0(regs[0]).rpc() == Some(Function::CMD)
            && let Some(request) = self.request(message)
        {
            match reply {
                Reply::Well => {
                    // Another call may have written over the request.
                    let size = request.params.first().map_or(0, |param| param.b.get());
                    let is_usual = (1..0x1_0000).contains(&size);
                    if request.command() == rpc::Command::SHM_ALLOC && !is_usual {
                        let result = TeeResult::BAD_PARAMETERS.0;
                        self.guest.reply(&request, result, &request.params);
                    } else {
                        self.guest.answer(&request);
                    }
                }
                Reply::Memory(pick, internal_offset, size) => {
                    let fmem = Fmem {
                        offset: 0,
                        internal_offset: *internal_offset,
                        size: *size,
                        handle: self.pick(*pick, others),
                    };
                    let param = fmem.write(Attr::RMEM_OUTPUT).unwrap_or_default();
                    self.guest.reply(&request, 0, &[param]);
                }
                Reply::Noise(bytes) => {
                    let room = (PAGE_SIZE - request.at.page_offset()) as usize;
                    let bytes = &bytes[..bytes.len().min(room)];
                    self.guest.host.poke(request.at, bytes);
                }
            }
        }
        let again = self.guest.resume(regs[3], [0; 4]);
        self.note(message, again);
    }

    fn buffers(&self, map: bool) {
        let request = if map {
            ffa_proto::Request::RxtxMap(ffa_proto::call::RxtxMap {
                width: Width::Smc64,
                tx: self.guest.tx().get(),
                rx: self.guest.tx().get() + 16 * PAGE_SIZE,
                pages: 16,
            })
        } else {
            ffa_proto::Request::RxtxUnmap(EndpointId::HYPERVISOR)
        };
        let _ = self.guest.done(&request);
    }

    fn restart(&mut self) {
        let (host, mediator) = (self.guest.host, self.guest.mediator);
        // Lives are bounded, and then the VM stays as it is.
        if mediator.destroy(host).is_err() || mediator.create(host).is_err() {
            return;
        }
        self.waiting.clear();
        self.guest.forget_driver();
        // The handles of its last life are those of a hostile guest.
        let answer = self.guest.ask(&ffa_proto::Request::Version(0x1_0002));
        assert_eq!(answer.to_8()[0], 0x1_0002);
        self.buffers(true);
    }
}

/// Returns the n-th page of the pool.
fn pool(number: u64) -> Ipa {
    Ipa::new(RAM_BASE + number * PAGE_SIZE)
}
