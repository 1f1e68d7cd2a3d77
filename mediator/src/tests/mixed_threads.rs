// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the fake machine excuses when OP-TEE mixes up its threads, and what it does not. Here its OP-TEE is called
//! without a mediator.

use crate::fake::{FakeHost, Machine, Step};
use crate::host::{Host, SecureMonitor, SharedPage};
use alloc::vec::Vec;
use optee_proto::msg::{Command, HEADER_SIZE, Header, RET_OFFSET};
use optee_proto::rpc::Function;
use optee_proto::{smc, uuid};
use zerocopy::IntoBytes;

const VM: u16 = 1;
/// The number of the first session.
const FIRST: u32 = 1;
/// A thread says that it waits, and that it is thread 1.
const WAITS_AS_1: Step = Step::Raw([Function::FOREIGN_INTR.a0(), 0, 0], Some(1));

/// Calls by a broken mediator.
struct Calls {
    host: FakeHost,
    pages: Vec<SharedPage>,
}

impl Calls {
    fn new() -> Self {
        let machine = Machine::new();
        machine.set_tee(uuid::API_UID, 0b111_1101, 4);
        let host = machine.add_vm(VM, 1);
        let created = [smc::VM_CREATED.get().into(), VM.into(), 0, 0, 0, 0, 0, 0];
        assert_eq!(machine.hypervisor().smc(created)[0], 0);
        let pages = Vec::new();
        Self { host, pages }
    }

    /// Begins a call with a message in a page of its own, and room behind it. Returns how it leaves OP-TEE.
    fn begin(&mut self, command: Command, session: u32, steps: impl Into<Vec<Step>>) -> [u64; 4] {
        let page = self.host.alloc_shared().unwrap();
        let header = Header {
            cmd: command.0.into(),
            session: session.into(),
            ..Header::default()
        };
        self.host.write_shared(&page, 0, header.as_bytes());
        let (high, low) = smc::pair(page.pa().get());
        self.pages.push(page);
        self.host.machine().script(VM, steps.into());
        self.smc([smc::CALL_WITH_RPC_ARG.get().into(), high, low, 0])
    }

    /// Begins a call that waits, in the thread of this number as it says.
    fn wait_as(&mut self, number: u64, steps: impl Into<Vec<Step>>) {
        let answer = self.begin(Command::INVOKE, FIRST, steps);
        assert_eq!((answer[0] >> 16, answer[3]), (0xffff, number));
    }

    fn resume(&self, thread: u64) {
        self.smc([smc::CALL_RETURN_FROM_RPC.get().into(), 0, 0, thread]);
    }

    /// Says that the request behind the n-th call's message has succeeded, whatever it was, and goes on.
    fn succeed(&self, call: usize, thread: u64) {
        let at = HEADER_SIZE + RET_OFFSET;
        self.host.write_shared(&self.pages[call], at, &[0; 4]);
        self.resume(thread);
    }

    fn smc(&self, [a0, a1, a2, a3]: [u64; 4]) -> [u64; 4] {
        let answer = self.host.smc([a0, a1, a2, a3, 0, 0, 0, VM.into()]);
        [answer[0], answer[1], answer[2], answer[3]]
    }

    /// Returns how many violations there are, and how many of these are not excused.
    fn violations(&self) -> [usize; 2] {
        let machine = self.host.machine();
        [
            machine.violations().len(),
            machine.violations_with_mixed_threads().len(),
        ]
    }
}

#[test]
fn answers_to_other_threads_are_not_excused() {
    let ask = [Step::ShmAlloc(0, 8)];
    let mut calls = Calls::new();
    calls.wait_as(1, [WAITS_AS_1]);
    calls.wait_as(1, ask.clone());
    calls.wait_as(2, ask);
    calls.succeed(1, 1);
    assert_eq!(calls.violations(), [1, 0]);
    calls.succeed(2, 2);
    assert_eq!(calls.violations(), [2, 1]);
}

#[test]
fn other_changes_to_requests_are_not_excused() {
    let ask = [Step::Command(optee_proto::rpc::Command(2), Vec::new())];
    let mut calls = Calls::new();
    calls.wait_as(1, [WAITS_AS_1]);
    calls.wait_as(1, ask.clone());
    calls.wait_as(2, ask);
    for (thread, violations) in [(1, [1, 0]), (2, [2, 1])] {
        // The command is another one.
        let page = &calls.pages[thread];
        calls.host.write_shared(page, HEADER_SIZE, &[9]);
        calls.resume(thread as u64);
        assert_eq!(calls.violations(), violations);
    }
}

#[test]
fn sessions_of_other_threads_are_not_excused() {
    let mut calls = Calls::new();
    assert_eq!(calls.begin(Command::OPEN_SESSION, 0, [])[0], 0);
    calls.wait_as(1, [WAITS_AS_1]);
    calls.wait_as(1, [Step::ForeignInterrupt]);
    calls.wait_as(2, [Step::ForeignInterrupt]);
    assert_eq!(calls.begin(Command::CLOSE_SESSION, FIRST, [])[0], 0);
    calls.resume(1);
    assert_eq!(calls.violations(), [1, 0]);
    calls.resume(2);
    assert_eq!(calls.violations(), [2, 1]);
}

#[test]
fn messages_of_other_threads_are_not_excused() {
    let mut calls = Calls::new();
    calls.wait_as(1, [WAITS_AS_1]);
    calls.wait_as(1, [Step::ForeignInterrupt]);
    calls.wait_as(2, [Step::ForeignInterrupt]);
    calls.host.clear_shared(&calls.pages[0]);
    calls.host.clear_shared(&calls.pages[1]);
    assert_eq!(calls.violations(), [2, 0]);
    calls.host.clear_shared(&calls.pages[2]);
    assert_eq!(calls.violations(), [3, 1]);
}

#[test]
fn memory_for_other_reasons_is_not_excused() {
    let mut calls = Calls::new();
    calls.wait_as(1, [WAITS_AS_1]);
    calls.wait_as(1, [Step::UseRoom(false), Step::ShmFree(0, 0)]);
    // It waits for memory, and what it gets is not shared.
    calls.smc([smc::CALL_RETURN_FROM_RPC.get().into(), 0, 0x1000, 1]);
    let [all, not_excused] = calls.violations();
    assert!(all > 0);
    assert_eq!(not_excused, all);
}

/// A mediator does not go on with such calls, so no other call's answer reaches thread 1.
#[test]
fn a_number_that_leads_to_no_answer_excuses_nothing() {
    let unknown = Step::Raw([Function::new(1).a0(), 0, 0], Some(1));
    let own = Step::Raw([Function::FOREIGN_INTR.a0(), 0, 0], Some(0));
    for (number, steps) in [(1, [unknown]), (0, [own])] {
        let mut calls = Calls::new();
        calls.wait_as(number, steps);
        calls.wait_as(1, [Step::ShmAlloc(0, 8)]);
        calls.succeed(1, 1);
        assert_eq!(calls.violations(), [1, 1]);
    }
    // Nor if it has said another number before.
    let mut calls = Calls::new();
    calls.wait_as(0, [Step::ForeignInterrupt, WAITS_AS_1]);
    calls.resume(0);
    calls.wait_as(1, [Step::ShmAlloc(0, 8)]);
    calls.succeed(1, 1);
    assert_eq!(calls.violations(), [1, 1]);
}
