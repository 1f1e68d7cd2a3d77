// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Virtual machines on the mediator's fake machine, whose guests are the fuzzer.

use crate::input::Input;
use mediator::addr::{Ipa, PAGE_SIZE};
use mediator::fake::{FakeHost, Guest, Machine, RAM_BASE};
use mediator::{ClientId, Config, Mediator, Stats, probe};
use optee_proto::le::{U32, U64};
use optee_proto::msg::{Attr, Command, Header, Param};
use optee_proto::{FunctionId, smc};
use std::num::NonZeroU16;
use zerocopy::IntoBytes;

/// The number of pages of each guest.
pub(crate) const PAGES: u64 = 64;

/// The cookies that guests usually give their buffers.
pub(crate) const NAMES: [u64; 4] = [
    0xffff_8000_0000_0001,
    0xffff_8000_0000_0002,
    0x7700,
    // Linux's cookie for a buffer in the first page.
    0xffff_8001_0000_0000,
];

/// Returns the address of a guest's n-th page.
pub(crate) const fn page(number: u64) -> Ipa {
    Ipa::new(RAM_BASE + number % PAGES * PAGE_SIZE)
}

/// Returns a message's bytes.
pub(crate) fn message(command: Command, session: u32, params: &[Param]) -> Vec<u8> {
    let header = Header {
        cmd: U32::new(command.0),
        session: U32::new(session),
        ret: U32::new(0x7777_7777),
        num_params: U32::new(params.len() as u32),
        ..Header::default()
    };
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(params.as_bytes());
    bytes
}

/// How far inputs get: what the fake OP-TEE has done for the VMs of a machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reach {
    /// The number of INVOKE and CANCEL that reached it.
    pub in_sessions: usize,
    /// The number of REGISTER_SHM and UNREGISTER_SHM that reached it.
    pub buffers: usize,
    /// The number of answers to its requests that reached it.
    pub replies: usize,
    /// The number of buffers that guests gave it at its request.
    pub allocated: usize,
}

impl Reach {
    /// Returns what has been done for some VMs.
    pub(crate) fn of(machine: &Machine, clients: &[u16]) -> Self {
        let mut reach = Self::default();
        for outcome in clients.iter().flat_map(|&client| machine.outcomes(client)) {
            match Command(outcome.header.cmd.get()) {
                Command::INVOKE | Command::CANCEL => reach.in_sessions += 1,
                Command::REGISTER_SHM | Command::UNREGISTER_SHM => reach.buffers += 1,
                // Sessions are opened and closed for the inputs as well.
                _ => {}
            }
            reach.replies += outcome.replies.len();
            reach.allocated += outcome.allocated.iter().flatten().count();
        }
        reach
    }
}

#[cfg(test)]
impl Reach {
    /// Returns whether each number is at least that of `least`.
    pub(crate) const fn is_at_least(&self, least: &Self) -> bool {
        self.in_sessions >= least.in_sessions
            && self.buffers >= least.buffers
            && self.replies >= least.replies
            && self.allocated >= least.allocated
    }
}

impl std::ops::AddAssign for Reach {
    fn add_assign(&mut self, other: Self) {
        self.in_sessions += other.in_sessions;
        self.buffers += other.buffers;
        self.replies += other.replies;
        self.allocated += other.allocated;
    }
}

/// A VM whose guest is the fuzzer.
pub(crate) struct Vm {
    pub(crate) host: FakeHost,
    pub(crate) mediator: Mediator,
}

impl Vm {
    /// Creates a VM, also in OP-TEE.
    pub(crate) fn new(machine: &Machine, client: u16, config: Config) -> Self {
        let host = machine.add_vm(client, PAGES);
        let tee = probe(&host).expect("the made-up OP-TEE is a good one");
        let client = ClientId::new(NonZeroU16::new(client).expect("not zero"));
        let mediator = Mediator::new(client, config, tee);
        mediator.create(&host).expect("there is room for it");
        Self { host, mediator }
    }

    /// Opens a session if the quota allows, so that calls have one to name; returns its ID.
    pub(crate) fn plant_session(&self) -> Option<u32> {
        let at = page(PAGES - 1);
        let [a0, ..] = self.open_at(at);
        let done = (a0, self.peek_word(Ipa::new(at.get() + 20))) == (0, 0);
        done.then(|| self.peek_word(Ipa::new(at.get() + 8)))
    }

    /// Returns the session that a call with `number` in its input names: mostly one that OP-TEE has
    /// open for the VM, because calls without one do not get far.
    pub(crate) fn session(&self, number: u32) -> u32 {
        let open = self.host.machine().sessions(self.host.vm());
        match number {
            // Any number, which is mostly no session.
            6 | 7 => number,
            _ => *open
                .get(number as usize % open.len().max(1))
                .unwrap_or(&number),
        }
    }

    /// Makes an SMC; the returned registers are searched for secrets.
    pub(crate) fn smc(&self, regs: [u64; 8]) -> [u64; 4] {
        Guest::new(&self.host, &self.mediator).smc(regs)
    }

    /// Makes a call with a pair of registers.
    pub(crate) fn begin(&self, function: FunctionId, value: u64, a3: u64) -> [u64; 4] {
        let (a1, a2) = smc::pair(value);
        self.smc([function.get().into(), a1, a2, a3, 0, 0, 0, 0])
    }

    /// Returns from an RPC; `back` is a1, a2, a4 and a5.
    pub(crate) fn resume(&self, token: u64, [a1, a2, a4, a5]: [u64; 4]) -> [u64; 4] {
        let function = smc::CALL_RETURN_FROM_RPC.get().into();
        self.smc([function, a1, a2, token, a4, a5, 0, 0])
    }

    pub(crate) fn is_mapped(&self, at: Ipa) -> bool {
        self.host.physical(at).is_some()
    }

    /// Writes the part of `bytes` that is in guest memory, across pages.
    pub(crate) fn poke(&self, at: Ipa, bytes: &[u8]) {
        let (mut at, mut bytes) = (at, bytes);
        while !bytes.is_empty() {
            let room = (PAGE_SIZE - at.page_offset()) as usize;
            let (head, tail) = bytes.split_at(room.min(bytes.len()));
            if self.is_mapped(at) {
                self.host.poke(at, head);
            }
            let Some(next) = at.checked_add(head.len() as u64) else {
                return;
            };
            (at, bytes) = (next, tail);
        }
    }

    /// Reads guest memory that ends in this page; zeroes where there is none.
    pub(crate) fn peek<const N: usize>(&self, at: Ipa) -> [u8; N] {
        let mut bytes = [0; N];
        let room = (PAGE_SIZE - at.page_offset()) as usize;
        if self.is_mapped(at) {
            self.host.peek(at, &mut bytes[..N.min(room)]);
        }
        bytes
    }

    /// Reads a word of guest memory, if it is there.
    pub(crate) fn peek_double(&self, at: Ipa) -> Option<u64> {
        self.is_mapped(at)
            .then(|| u64::from_le_bytes(self.peek(at)))
    }

    pub(crate) fn peek_word(&self, at: Ipa) -> u32 {
        u32::from_le_bytes(self.peek(at))
    }

    /// Registers pages, with the message and the list in two others; returns the result.
    pub(crate) fn register(&self, pages: &[Ipa], size: u64, offset: u64, name: u64) -> u32 {
        let words: Vec<U64> = pages.iter().map(|page| U64::new(page.get())).collect();
        let list = page(PAGES - 2);
        self.poke(list, words.as_bytes());
        let param = Param::new(Attr::PAGE_LIST, list.get() | offset, size, name);
        let at = page(PAGES - 1);
        self.poke(at, &message(Command::REGISTER_SHM, 0, &[param]));
        let [a0, ..] = self.begin(smc::CALL_WITH_ARG, at.get(), 0);
        assert_eq!(a0, 0);
        self.peek_word(Ipa::new(at.get() + 20))
    }

    /// Opens a session, with the message in the last page; returns its ID.
    pub(crate) fn open(&self) -> u32 {
        self.plant_session().expect("there is room for it")
    }

    fn open_at(&self, at: Ipa) -> [u64; 4] {
        let meta = Param::new(Attr::META_VALUE_INPUT, 1, 2, 0);
        self.poke(at, &message(Command::OPEN_SESSION, 0, &[meta, meta]));
        self.begin(smc::CALL_WITH_ARG, at.get(), 0)
    }

    /// Ends the VM and checks that nothing is left.
    pub(crate) fn end(&self) {
        let machine = self.host.machine();
        self.mediator
            .destroy(&self.host)
            .expect("no call is inside");
        check(machine);
        assert!(!machine.knows(self.host.vm()));
        let now = self.mediator.stats();
        let held = [
            now.pages_pinned,
            now.mapped_pages,
            now.buffers,
            now.rpc_buffers,
            now.sessions,
            now.calls,
        ];
        assert_eq!(held, [0; 6], "counters are not back");
        let [a0, ..] = self.begin(smc::CALL_WITH_ARG, page(0).get(), 0);
        assert_eq!(
            a0,
            smc::Return::ENOTAVAIL.get(),
            "it is served after its end"
        );
    }
}

/// Checks the properties that hold after each step.
///
/// The OP-TEE of these conversations may report the end of one thread under another's number. Then
/// it cannot be known that the page of the first one's message, which belongs to the VM, is not
/// free yet. With an OP-TEE that keeps its threads apart, the mediator's own property tests check
/// this as well.
pub(crate) fn check(machine: &Machine) {
    assert_eq!(machine.violations_with_mixed_threads(), [""; 0]);
}

/// Checks the properties that hold when no VM is left.
pub(crate) fn check_end(machine: &Machine) {
    assert_eq!(machine.pins(), 0, "pages stay pinned");
    assert_eq!(machine.shared_pages(), 0, "pages stay shared");
}

/// Checks the counters of things that exist now against the quotas.
pub(crate) fn is_within(stats: &Stats, config: &Config) -> bool {
    let quotas = &config.quotas;
    stats.pages_pinned <= u64::from(quotas.pages)
        && stats.mapped_pages <= u64::from(quotas.mapped_pages)
        && stats.buffers <= u64::from(quotas.buffers)
        && stats.rpc_buffers <= u64::from(quotas.rpc_buffers)
        && stats.sessions <= u64::from(quotas.sessions)
        && stats.calls <= u64::from(quotas.calls)
}

/// Returns a word like those in messages and page lists.
pub(crate) fn word(input: &mut Input<'_>, hosts: &[&FakeHost]) -> u64 {
    match input.below(10) {
        0 => input.byte().into(),
        1 => page(input.byte().into()).get(),
        2 => page(input.byte().into()).get() + u64::from(input.half() % 4096),
        3 => input.pick(&NAMES),
        4 => input.double(),
        5 => input.half().into(),
        // Sizes around whole pages, and around the end of the address space.
        6 => (input.below(16) * PAGE_SIZE).wrapping_add_signed(input.byte().cast_signed().into()),
        // A physical address that the guest guessed, its own or another VM's.
        7 => {
            let host = input.pick(hosts);
            host.physical(page(input.byte().into()))
                .map_or(0, |pa| pa.get())
        }
        8 => input.word().into(),
        _ => Guest::cookie(page(input.byte().into())),
    }
}
