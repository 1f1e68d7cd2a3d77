// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A hostile guest at play.

use super::actions::{Action, Breaks, How};
use crate::Quotas;
use crate::addr::{Ipa, PAGE_SIZE};
use crate::fake::{Guest, RAM_BASE, Request};
use crate::tests::{APP, Vm};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use optee_proto::msg::{self, Attr, Command, Param, login};
use optee_proto::rpc::{self, Function};
use optee_proto::{Return, smc};

/// Pages of guest memory; what actions allocate must fit.
pub(super) const PAGES: u64 = 2000;

/// How many resumptions end all calls: each call has a few steps, and each step a few RPCs.
const TO_THE_END: usize = 200;

/// A call that came back with an RPC.
struct Waiting {
    /// Where its message is.
    message: Ipa,
    /// The message as the guest wrote it.
    wrote: Option<Request>,
    /// It has room for requests behind the message, where all of them are.
    room: bool,
    /// The registers that it came back with.
    regs: [u64; 4],
}

pub(super) struct Play<'a> {
    vm: &'a Vm,
    guest: Guest<'a>,
    quotas: Quotas,
    /// All that is read changes, so messages cannot be compared.
    scramble: bool,
    waiting: Vec<Waiting>,
    /// The first pages of buffers, by name.
    named: BTreeMap<u64, Vec<Ipa>>,
}

/// Whether of a message only outputs have changed.
fn only_outputs_changed(wrote: &Request, now: &Request) -> bool {
    let frame = |request: &Request| {
        let header = request.header;
        [
            header.cmd,
            header.func,
            header.cancel_id,
            header.pad,
            header.num_params,
        ]
    };
    let session = wrote.header.cmd.get() == Command::OPEN_SESSION.0
        || wrote.header.session == now.header.session;
    let params = wrote.params.iter().zip(&now.params).all(|(wrote, now)| {
        let mut expected = *wrote;
        match wrote.attr() {
            Attr::VALUE_OUTPUT | Attr::VALUE_INOUT => {
                (expected.a, expected.b, expected.c) = (now.a, now.b, now.c);
            }
            Attr::RMEM_OUTPUT | Attr::RMEM_INOUT | Attr::TMEM_OUTPUT | Attr::TMEM_INOUT => {
                expected.b = now.b;
            }
            _ => {}
        }
        expected == *now
    });
    frame(wrote) == frame(now) && session && params
}

impl<'a> Play<'a> {
    pub(super) fn new(vm: &'a Vm, quotas: Quotas, scramble: bool) -> Self {
        Self {
            vm,
            guest: vm.guest(),
            quotas,
            scramble,
            waiting: Vec::new(),
            named: BTreeMap::new(),
        }
    }

    /// What must hold after each step.
    pub(super) fn check(&self, breaks: Breaks) {
        let (stats, host) = (self.vm.stats(), &self.vm.host);
        let Quotas {
            buffers,
            pages,
            calls,
            sessions,
            rpc_buffers,
            mapped_pages,
            max_leaked_asids: _,
            address_spaces,
        } = self.quotas;
        {
            let state = self.vm.mediator.state.lock();
            assert!(state.address_spaces() <= address_spaces.max(state.leaked_asids));
        }
        assert!(stats.pages_pinned <= pages.into() && stats.buffers <= buffers.into());
        assert!(stats.sessions <= sessions.into() && stats.rpc_buffers <= rpc_buffers.into());
        assert!(stats.calls <= calls.into());
        assert!(stats.mapped_pages <= mapped_pages.into());
        assert!(host.shared_pages() <= self.vm.mediator.shared_pages_max() as usize);
        assert!(host.pins() <= stats.pages_pinned);
        if breaks == Breaks::Nothing {
            assert_eq!(stats.poisoned, 0);
        }
        assert_eq!(stats.calls, self.waiting.len() as u64 + stats.poisoned);
        // OP-TEE may know what a poisoned call holds, or not.
        if self.waiting.is_empty() && stats.poisoned == 0 {
            let machine = host.machine();
            let known = machine.buffers(host.vm());
            let known_pages = known.iter().map(Vec::len).sum::<usize>() as u64;
            let known_buffers = known.len() as u64;
            if breaks == Breaks::Nothing {
                assert_eq!(
                    (stats.pages_pinned, host.pins()),
                    (known_pages, known_pages)
                );
                assert_eq!(stats.buffers, known_buffers);
                assert!(stats.mapped_pages <= known_pages);
                assert_eq!(stats.sessions, machine.open_sessions(host.vm()) as u64);
            } else {
                // An OP-TEE that overwrites its own requests cannot report that it has released something. That
                // is held until the VM's end.
                assert!(stats.pages_pinned >= known_pages && host.pins() >= known_pages);
                assert!(stats.buffers >= known_buffers);
            }
        }
    }

    /// All calls are answered as Linux does, until none waits.
    pub(super) fn finish(&mut self) {
        for _ in 0..TO_THE_END {
            self.answer(0, true, &[], [0; 4]);
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.waiting.is_empty()
    }

    fn note(&mut self, message: Ipa, wrote: Option<Request>, room: bool, regs: [u64; 4]) {
        if Return::from_x0(regs[0]).rpc().is_some() {
            self.waiting.push(Waiting {
                message,
                wrote,
                room,
                regs,
            });
        } else if regs[0] == Return::OK.get()
            && let Some(wrote) = wrote
            && !self.scramble
        {
            let now = self.guest.read_message(message);
            assert!(
                only_outputs_changed(&wrote, &now),
                "{wrote:?} became {now:?}"
            );
        }
    }

    fn begin(&mut self, command: Command, session: u32, params: &[Param], how: How) {
        let (function, at, [a1, a2, a3]) = match how {
            How::Arg | How::RpcArg => {
                let at = self.guest.alloc(1);
                let (a1, a2) = smc::pair(at.get());
                let function = if how == How::Arg {
                    smc::CALL_WITH_ARG
                } else {
                    smc::CALL_WITH_RPC_ARG
                };
                (function, at, [a1, a2, 0])
            }
            How::Registered(name, offset) => {
                let (a1, a2) = smc::pair(name);
                let page = (offset / PAGE_SIZE) as usize;
                let page = self.named.get(&name).and_then(|pages| pages.get(page));
                let at = page.map_or(Ipa::new(0), |page| {
                    Ipa::new(page.get() + offset % PAGE_SIZE)
                });
                (smc::CALL_WITH_REGD_ARG, at, [a1, a2, offset])
            }
        };
        // A message across two pages is tested elsewhere.
        let whole = self.vm.host.physical(at).is_some() && at.page_offset() + 400 < PAGE_SIZE;
        let wrote = whole.then(|| {
            self.guest.write_message(at, command, session, params);
            self.guest.read_message(at)
        });
        // Buffers may share pages, so another call may write there too.
        let wrote = wrote.filter(|_| !matches!(how, How::Registered(..)));
        let regs = [function.get().into(), a1, a2, a3, 0, 0, 0, 0];
        let regs = self.guest.smc(regs);
        self.note(at, wrote, how != How::Arg, regs);
    }

    /// Where the guest finds the request of a call, if it can.
    fn request_at(&self, waiting: &Waiting) -> Option<Ipa> {
        let at = if waiting.room {
            self.vm.host.physical(waiting.message)?;
            let count = self.guest.read_message(waiting.message).params.len();
            waiting.message.checked_add(msg::size(count) as u64)?
        } else {
            let name = smc::unpair(waiting.regs[1], waiting.regs[2]);
            Ipa::new(name & 0x7fff_ffff_ffff)
        };
        let whole = at.page_offset() + 200 < PAGE_SIZE;
        (whole && self.vm.host.physical(at).is_some()).then_some(at)
    }

    fn answer(&mut self, which: usize, well: bool, noise: &[u8], regs: [u64; 4]) {
        if self.waiting.is_empty() {
            return;
        }
        let waiting = self.waiting.remove(which % self.waiting.len());
        let mut back = [0; 4];
        match Return::from_x0(waiting.regs[0]).rpc() {
            Some(Function::ALLOC) => {
                let at = self.guest.alloc(1);
                let ((a1, a2), (a4, a5)) = (smc::pair(at.get()), smc::pair(Guest::cookie(at)));
                back = if well {
                    [a1, a2, a4, a5]
                } else {
                    [regs[0], a2, regs[2], a5]
                };
            }
            Some(Function::CMD) => {
                if let Some(at) = self.request_at(&waiting) {
                    let asked = self.guest.read_message(at).header.cmd.get();
                    // It owns no device. Where others write too, anything may be there.
                    let own = waiting.wrote.is_some() && !self.scramble;
                    let may_ask = matches!(asked, 0 | 2..=7 | 9..=12);
                    assert!(may_ask || !own, "asked for {asked}");
                    let request = self.guest.read_message(at);
                    if well {
                        self.guest.answer(&request);
                    } else if asked == rpc::Command::SHM_ALLOC.0 && noise[1] & 3 != 0 {
                        self.allocate_badly(&request, noise, regs[0]);
                    } else {
                        self.guest.host.poke(at, noise);
                        // Most noise says "failed" at once.
                        if noise[0] & 1 == 0 {
                            self.guest.host.poke(Ipa::new(at.get() + 20), &[0; 8]);
                        }
                    }
                }
            }
            _ => {}
        }
        let Waiting {
            message,
            wrote,
            room,
            regs,
        } = waiting;
        let token = regs[3];
        let regs = self.guest.resume(token, back);
        // It is good for once.
        let again = self.guest.resume(token, back);
        assert_eq!(again, [Return::ERESUME.get(), 0, 0, 0]);
        self.note(message, wrote, room, regs);
    }

    /// An answer to SHM_ALLOC that is nearly right: a list with something else in it, memory in one
    /// piece, too much, too little, under a name that is taken.
    fn allocate_badly(&self, request: &Request, noise: &[u8], other: u64) {
        let [_, kind, pages, wrong, name, less, ..] = *noise else {
            return;
        };
        let mut all: Vec<Ipa> = (0..1 + pages % 9).map(|_| self.guest.alloc(1)).collect();
        if let Some(entry) = all.get_mut(usize::from(wrong % 16)) {
            *entry = Ipa::new(other);
        }
        let (attr, at) = if kind & 4 == 0 {
            (Attr::PAGE_LIST, self.guest.page_list(&all))
        } else {
            (Attr::TMEM_OUTPUT, all[0])
        };
        let size = all.len() as u64 * PAGE_SIZE - u64::from(less % 16);
        let name = 0xffff_8000_0000_0000 + u64::from(name % 8);
        let param = Param::new(attr, at.get(), size, name);
        self.guest.reply(request, 0, &[param]);
    }

    /// What the guest has open is closed, and then it gets all that its quotas promise.
    pub(super) fn begin_anew(&self) {
        let (guest, host) = (&self.guest, &self.vm.host);
        let machine = host.machine();
        machine.forget_scripts(host.vm());
        for session in machine.sessions(host.vm()) {
            let message = guest.message(Command::CLOSE_SESSION, session, &[]);
            assert_eq!(guest.run(message).header.ret.get(), 0);
        }
        for &name in self.named.keys() {
            // Whatever else it has registered under this name.
            while guest.unregister(name) == 0 {}
        }
        for _ in 0..self.quotas.sessions {
            assert_eq!(guest.open(APP, login::PUBLIC).1, 0);
        }
        // What OP-TEE asked for and has not given back still counts.
        let left = u64::from(self.quotas.pages) - self.vm.stats().pages_pinned;
        if left > 0 && self.vm.stats().buffers < self.quotas.buffers.into() {
            assert_eq!(guest.register(left).1, 0);
        }
    }

    pub(super) fn act(&mut self, action: &Action) {
        match action {
            Action::Register { pages, name, wrong } => {
                let mut all: Vec<Ipa> = (0..*pages).map(|_| self.guest.alloc(1)).collect();
                if let Some((at, value)) = wrong
                    && let Some(entry) = all.get_mut(*at)
                {
                    *entry = Ipa::new(*value);
                }
                let list = self.guest.page_list(&all);
                let size = pages * PAGE_SIZE - 7;
                let param = Param::new(Attr::PAGE_LIST, list.get(), size, *name);
                self.named.insert(*name, all);
                self.begin(Command::REGISTER_SHM, 0, &[param], How::Arg);
            }
            Action::Unregister { name } => {
                let param = Param::new(Attr::RMEM_INPUT, 0, 0, *name);
                self.begin(Command::UNREGISTER_SHM, 0, &[param], How::Arg);
            }
            Action::Call {
                command,
                params,
                steps,
                how,
            } => {
                let vm = self.vm.host.vm();
                let machine = self.vm.host.machine();
                machine.script(vm, steps.clone());
                // One that OP-TEE knows; the guest may only be opening it.
                let session = machine.sessions(vm).last().copied().unwrap_or(1);
                self.begin(Command(*command), session, params, *how);
            }
            Action::Answer {
                which,
                well,
                noise,
                regs,
            } => {
                self.answer(*which, *well, noise, *regs);
            }
            Action::Open => {
                let meta = Param::new(Attr::META_VALUE_INPUT, 1, 2, 0);
                self.begin(Command::OPEN_SESSION, 0, &[meta, meta], How::RpcArg);
            }
            Action::Close { session } => {
                self.begin(Command::CLOSE_SESSION, *session, &[], How::Arg);
            }
            Action::Fast { function } => {
                self.guest.smc([u64::from(*function), 1, 2, 3, 4, 5, 6, 7]);
            }
            Action::Raw { regs } => {
                self.guest.smc(*regs);
            }
            Action::Unmap { page } => self.unmap(Ipa::new(RAM_BASE + page * PAGE_SIZE)),
        }
    }

    /// Takes a page away, but none that is still to be given out, nor one that this play itself
    /// goes on reading.
    fn unmap(&self, at: Ipa) {
        let read = |waiting: &Waiting| {
            waiting.message.page() == at
                || self
                    .request_at(waiting)
                    .is_some_and(|request| request.page() == at)
        };
        if at < self.guest.alloc(0) && !self.waiting.iter().any(read) {
            self.vm.host.unmap_unpinned(at);
        }
    }
}
