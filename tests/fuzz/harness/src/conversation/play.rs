// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest's steps: its calls, its answers, valid and invalid ones.

use super::script::script;
use crate::input::Input;
use crate::world::{NAMES, PAGES, Vm, message, page, word};
use mediator::ForeignInterrupt;
use mediator::addr::{Ipa, PAGE_SIZE};
use mediator::fake::{FakeHost, Guest as Kernel};
use optee_proto::le::{U32, U64};
use optee_proto::msg::{self, Attr, Command, Header, Param};
use optee_proto::rpc::{self, Function};
use optee_proto::{FunctionId, Return, smc};
use zerocopy::IntoBytes;

/// Attributes with a meaning, each with its neighbours.
const ATTRS: [u64; 16] = [
    0, 1, 2, 3, 5, 6, 7, 9, 0xa, 0xb, 4, 8, 0x101, 0x20a, 0x209, 0x1_0005,
];

/// A guest with its waiting calls: the message's address and the registers.
pub(super) struct Guest<'a> {
    pub(super) vm: &'a Vm,
    hosts: [&'a FakeHost; 2],
    waiting: Vec<(Ipa, [u64; 4])>,
    /// Buffers that the guest has tried to register: cookie, address of the first page, offset in
    /// it.
    buffers: Vec<(u64, u64, u64)>,
    live: bool,
}

impl<'a> Guest<'a> {
    pub(super) const fn new(vm: &'a Vm, hosts: [&'a FakeHost; 2]) -> Self {
        Self {
            vm,
            hosts,
            waiting: Vec::new(),
            buffers: Vec::new(),
            live: true,
        }
    }

    /// Creates the VM in OP-TEE, if there is room and it has not leaked too much.
    pub(super) fn create(&mut self) -> bool {
        if !self.live && self.vm.mediator.create(&self.vm.host).is_ok() {
            self.live = true;
            // There may be no page left for a session.
            let _ = self.vm.plant_session();
        }
        self.live
    }

    /// Ends the VM.
    pub(super) fn end(&mut self) {
        self.waiting.clear();
        self.live = false;
        self.vm.end();
    }

    fn word(&self, input: &mut Input<'_>) -> u64 {
        word(input, &self.hosts)
    }

    fn name(&self, input: &mut Input<'_>) -> u64 {
        match input.below(8) {
            0 => self.word(input),
            which => NAMES[which as usize % NAMES.len()],
        }
    }

    /// Takes one step.
    pub(super) fn act(&mut self, step: u8, input: &mut Input<'_>) {
        let machine = self.vm.host.machine();
        match step % 32 {
            0..=4 => self.call(input),
            5..=7 => self.register(input),
            8 => {
                let param = Param::new(Attr::RMEM_INPUT, 0, 0, self.name(input));
                self.send(input, Command::UNREGISTER_SHM, 0, &[param]);
            }
            9 => {
                let app = Param::new(Attr::META_VALUE_INPUT, input.below(32), 2, 0);
                self.send(input, Command::OPEN_SESSION, 0, &[app, app]);
            }
            10 => {
                let session = self.vm.session(input.below(8) as u32);
                self.send(input, Command::CLOSE_SESSION, session, &[]);
            }
            11..=18 => self.answer(input),
            // Any token, and any answer.
            19 => {
                let token = u64::from(input.half());
                let back = [(); 4].map(|()| self.word(input));
                self.vm.resume(token, back);
            }
            20 | 21 => self.fast(input),
            22 => {
                let mut regs = [0; 8];
                for reg in &mut regs {
                    *reg = self.word(input);
                }
                if input.flag() {
                    regs[0] = u64::from(input.below(24) as u32 | 0x3200_0000);
                }
                let regs = truncate(regs, input.flag());
                let answer = self.vm.smc(regs);
                self.note(page(0), answer);
            }
            23 => {
                let at = Ipa::new(self.word(input));
                let most = input.byte().into();
                self.vm.poke(at, input.bytes(most));
            }
            24 => {
                let at = page(input.byte().into()).get() + input.below(64) * 8;
                machine.flip(Ipa::new(at), &self.word(input).to_le_bytes());
            }
            25 => machine.scramble(input.flag()),
            26 => {
                let at = page(input.below(PAGES - 4));
                self.vm.host.unmap_unpinned(at);
            }
            27 => machine.limit_shared_pages(input.byte().into()),
            28 => machine.limit_pins(input.byte().into()),
            29 => {
                let say = [ForeignInterrupt::Resume; 100];
                machine.on_foreign_interrupt(&say[..input.below(100) as usize]);
            }
            30 => self.end(),
            _ => _ = self.create(),
        }
    }

    fn note(&mut self, at: Ipa, regs: [u64; 4]) {
        if Return::from_x0(regs[0]).rpc().is_some() {
            self.waiting.push((at, regs));
        }
    }

    /// Writes a message into a page and makes the call, with a script for OP-TEE.
    fn send(&mut self, input: &mut Input<'_>, command: Command, session: u32, params: &[Param]) {
        let how = input.byte();
        let at = page(input.below(PAGES));
        self.vm.poke(at, &message(command, session, params));
        // What a VM that does not exist leaves behind would reach its next life.
        if how & 0x80 != 0 && self.live {
            let steps = script(input);
            self.vm.host.machine().script(self.vm.host.vm(), steps);
        }
        let regs = match how & 7 {
            0..=2 => self.vm.begin(smc::CALL_WITH_ARG, at.get(), 0),
            3..=6 => self.vm.begin(smc::CALL_WITH_RPC_ARG, at.get(), 0),
            _ if self.buffers.is_empty() => {
                let name = self.name(input);
                let offset = u64::from(input.half());
                self.vm.begin(smc::CALL_WITH_REGD_ARG, name, offset)
            }
            // In a buffer, often across the end of a page.
            _ => {
                let (name, first, start) = input.pick(&self.buffers);
                let offset = match input.below(4) {
                    0 => u64::from(input.half()),
                    _ => PAGE_SIZE.saturating_sub(start + 8 * input.below(32)),
                };
                let bytes = message(command, session, params);
                let inside = start + offset;
                let (number, at) = (first + inside / PAGE_SIZE, inside % PAGE_SIZE);
                let room = bytes.len().min((PAGE_SIZE - at) as usize);
                self.vm
                    .poke(Ipa::new(page(number).get() + at), &bytes[..room]);
                self.vm.poke(page(number + 1), &bytes[room..]);
                self.vm.begin(smc::CALL_WITH_REGD_ARG, name, offset)
            }
        };
        self.note(at, regs);
    }

    fn param(&self, input: &mut Input<'_>) -> Param {
        let attr = match input.below(24) {
            at @ 0..=15 => ATTRS[at as usize],
            23 => input.double(),
            _ => 7,
        };
        let [a, b] = [(); 2].map(|()| self.word(input));
        let a = if attr & 8 != 0 && input.flag() { 0 } else { a };
        Param::new(Attr(attr), a, b, self.name(input))
    }

    fn call(&mut self, input: &mut Input<'_>) {
        let command = match input.below(8) {
            7 => Command(input.word()),
            6 => Command(input.below(16) as u32),
            5 => Command::OPEN_SESSION,
            4 => Command::CANCEL,
            _ => Command::INVOKE,
        };
        let params: Vec<Param> = (0..input.below(8)).map(|_| self.param(input)).collect();
        let session = self.vm.session(input.below(8) as u32);
        self.send(input, command, session, &params);
    }

    /// Writes a list of pages into another page; the input decides what is wrong with it.
    fn list(&self, input: &mut Input<'_>, count: u64) -> (Ipa, u64) {
        let first = input.below(PAGES);
        let mut words: Vec<U64> = (0..count.min(64))
            .map(|number| U64::new(page(first + number).get()))
            .collect();
        if input.below(4) == 0
            && let Some(word) = words.get_mut(input.below(8) as usize)
        {
            *word = U64::new(self.word(input));
        }
        let at = page(input.below(PAGES));
        self.vm.poke(at, words.as_bytes());
        (at, first)
    }

    fn register(&mut self, input: &mut Input<'_>) {
        let count = 1 + input.below(12);
        let (list, first) = self.list(input, count);
        let offset = u64::from(input.half() % 4096) * input.below(2);
        let size = count * PAGE_SIZE - offset;
        let name = self.name(input);
        self.buffers.push((name, first, offset));
        let param = Param::new(Attr::PAGE_LIST, list.get() | offset, size, name);
        self.send(input, Command::REGISTER_SHM, 0, &[param]);
    }

    fn fast(&self, input: &mut Input<'_>) {
        let mut function = FunctionId::new(if input.flag() {
            0xb200_0000 | input.below(24) as u32
        } else {
            0xbf00_ff00 | input.below(4) as u32
        });
        match input.below(8) {
            0 => function = FunctionId::new(function.get() | 1 << 16),
            1 => function = FunctionId::new(function.get() | 1 << 30),
            2 => function = FunctionId::new(input.word() | 0x3000_0000),
            _ => {}
        }
        let [a1, a2, a7] = [(); 3].map(|()| self.word(input));
        let regs = [function.get().into(), a1, a2, 0, 0, 0, 0, a7];
        self.vm.smc(truncate(regs, input.flag()));
    }

    /// Returns the address of a call's request.
    fn request_at(&self, at: Ipa, regs: [u64; 4]) -> Ipa {
        match smc::unpair(regs[1], regs[2]) {
            0 => {
                let count = self.vm.peek_word(Ipa::new(at.get() + 28)).min(6);
                Ipa::new(at.get() + msg::size(count as usize) as u64)
            }
            name => Ipa::new(name & 0x7fff_ffff_ffff),
        }
    }

    /// Answers one of the waiting calls, correctly or not.
    fn answer(&mut self, input: &mut Input<'_>) {
        if self.waiting.is_empty() {
            return;
        }
        let which = input.below(self.waiting.len() as u64) as usize;
        let how = input.byte();
        // Occasionally an answer comes twice.
        let (at, regs) = if how & 0xf0 == 0xf0 {
            self.waiting[which]
        } else {
            self.waiting.swap_remove(which)
        };
        let well = how & 3 != 3;
        let mut back = [0; 4];
        match Return::from_x0(regs[0]).rpc() {
            Some(Function::ALLOC) => {
                let memory = page(input.below(PAGES));
                let ((a1, a2), (a4, a5)) =
                    (smc::pair(memory.get()), smc::pair(Kernel::cookie(memory)));
                back = [a1, a2, a4, a5];
                if !well {
                    let at = input.below(4) as usize;
                    back[at] = self.word(input);
                }
            }
            Some(Function::CMD) => {
                let request = self.request_at(at, regs);
                if request.page_offset() + 200 < PAGE_SIZE && self.vm.is_mapped(request) {
                    self.command(request, well, input);
                }
            }
            _ if !well => back = [(); 4].map(|()| self.word(input)),
            _ => {}
        }
        let regs = self.vm.resume(regs[3], back);
        self.note(at, regs);
    }

    /// Executes a request and writes the answer.
    fn command(&self, at: Ipa, well: bool, input: &mut Input<'_>) {
        let request = Kernel::new(&self.vm.host, &self.vm.mediator).read_message(at);
        let mut params = request.params.clone();
        let mut header = Header {
            ret: U32::ZERO,
            ..request.header
        };
        match (request.command(), params.first_mut()) {
            (rpc::Command::SHM_ALLOC, Some(param)) => {
                let size = param
                    .b
                    .get()
                    .min(64 * PAGE_SIZE)
                    .next_multiple_of(PAGE_SIZE);
                let (list, _) = self.list(input, size / PAGE_SIZE);
                let name = Kernel::cookie(list);
                *param = if size == PAGE_SIZE && input.flag() {
                    Param::new(Attr::TMEM_OUTPUT, list.get(), size, name)
                } else {
                    Param::new(Attr::PAGE_LIST, list.get(), size, name)
                };
            }
            _ => {
                for param in &mut params {
                    param.b = U64::new(param.b.get() ^ u64::from(input.byte()));
                }
            }
        }
        if !well {
            match input.below(6) {
                0 => header.cmd = U32::new(input.below(32) as u32),
                1 => header.num_params = U32::new(input.word()),
                2 => header.ret = U32::new(input.word()),
                3 => params.push(self.param(input)),
                _ => {
                    if let Some(param) = params.get_mut(input.below(4) as usize) {
                        *param = self.param(input);
                    }
                }
            }
        }
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(params.as_bytes());
        self.vm.poke(at, &bytes);
    }
}

/// Clears the upper halves of a guest's registers where `is_narrow` says so.
fn truncate(regs: [u64; 8], is_narrow: bool) -> [u64; 8] {
    regs.map(|reg| if is_narrow { reg & 0xffff_ffff } else { reg })
}
