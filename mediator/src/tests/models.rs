// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Several vCPUs in every order that matters, tried by `shuttle`: `make test-models`.
//!
//! It switches between vCPUs wherever they touch what they share, and wherever the mediator asks
//! the hypervisor for something. In contrast to `threads`, a run that fails can be repeated.

extern crate std;

use super::{SESSION, Vm};
use crate::addr::{Ipa, Pa};
use crate::fake::{FakeHost, Guest, Machine, Step};
use crate::host::{
    ForeignInterrupt, GuestMemoryError, Host, Leak, PinError, SecureMonitor, SharedPage,
};
use crate::{Config, DestroyError, EndingHost, Mediator};
use alloc::vec::Vec;
use optee_proto::msg::{Attr, Command, Param};
use optee_proto::rpc::Function;
use optee_proto::{Return, TeeResult, Uuid, smc};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::thread::yield_now;
use std::sync::Arc;

/// How many orders of each kind are tried.
const TRIES: usize = 1000;

/// The stack of a thread in bytes. FF-A's calls need more than shuttle gives them.
const STACK: usize = 1 << 18;

/// Tries a model: by chance, and with few switches at bad places, which finds what needs one.
pub(super) fn model(run: fn()) {
    let mut config = shuttle::Config::new();
    config.stack_size = STACK;
    let by_chance = RandomScheduler::new(TRIES);
    shuttle::Runner::new(by_chance, config.clone()).run(run);
    shuttle::Runner::new(PctScheduler::new(3, TRIES), config).run(run);
}

/// A vCPU's view of the machine: another one may come in between before everything it does.
struct Stepping<'a>(&'a FakeHost);

impl SecureMonitor for Stepping<'_> {
    fn smc(&self, args: [u64; 8]) -> [u64; 8] {
        yield_now();
        let answer = self.0.smc(args);
        yield_now();
        answer
    }
}

impl EndingHost for Stepping<'_> {}

impl Host for Stepping<'_> {
    fn read_guest(&self, from: Ipa, into: &mut [u8]) -> Result<(), GuestMemoryError> {
        yield_now();
        self.0.read_guest(from, into)
    }
    fn write_guest(&self, to: Ipa, bytes: &[u8]) -> Result<(), GuestMemoryError> {
        yield_now();
        self.0.write_guest(to, bytes)
    }
    fn pin(&self, page: Ipa) -> Result<Pa, PinError> {
        yield_now();
        self.0.pin(page)
    }
    fn unpin(&self, page: Ipa) {
        yield_now();
        self.0.unpin(page);
    }
    fn alloc_shared(&self) -> Option<SharedPage> {
        yield_now();
        self.0.alloc_shared()
    }
    fn clear_shared(&self, page: &SharedPage) {
        yield_now();
        self.0.clear_shared(page);
    }
    fn free_shared(&self, page: SharedPage) {
        yield_now();
        self.0.free_shared(page);
    }
    fn read_shared(&self, page: &SharedPage, offset: usize, into: &mut [u8]) {
        yield_now();
        self.0.read_shared(page, offset, into);
    }
    fn write_shared(&self, page: &SharedPage, offset: usize, bytes: &[u8]) {
        yield_now();
        self.0.write_shared(page, offset, bytes);
    }
    fn write_tx(&self, offset: usize, bytes: &[u8]) {
        self.0.write_tx(offset, bytes);
    }
    fn take_interrupts(&self) {
        self.0.take_interrupts();
    }
    fn foreign_interrupt(&self) -> ForeignInterrupt {
        self.0.foreign_interrupt()
    }
    fn report_leak(&self, what: Leak, app: Uuid) {
        self.0.report_leak(what, app);
    }
}

/// A VM whose vCPUs are threads.
struct Shared {
    vm: Vm,
    /// Where guest memory is given out from.
    next: std::sync::atomic::AtomicU64,
}

impl Shared {
    fn new(machine: &Machine) -> Arc<Self> {
        machine.set_tee(optee_proto::uuid::API_UID, 0b111_1101, 3);
        let vm = Vm::with_pages(machine, 1, Config::default(), 60);
        Arc::new(Self {
            vm,
            next: 30.into(),
        })
    }

    fn mediator(&self) -> &Mediator {
        &self.vm.mediator
    }

    fn guest(&self) -> Guest<'_> {
        self.vm.guest()
    }

    /// One SMC of a vCPU.
    fn smc(&self, regs: [u64; 8]) -> [u64; 4] {
        let host = Stepping(&self.vm.host);
        self.mediator().smc(&host, &regs)
    }

    /// A page for RPC messages.
    fn page(&self) -> Ipa {
        let number = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ipa::new(crate::fake::RAM_BASE + number * crate::addr::PAGE_SIZE)
    }

    /// A call with the message in this page, to its end, with all RPCs answered. Its code.
    fn call(&self, at: Ipa) -> Return {
        let (a1, a2) = smc::pair(at.get());
        let mut regs = self.smc([smc::CALL_WITH_ARG.get().into(), a1, a2, 0, 0, 0, 0, 0]);
        loop {
            let code = Return::from_x0(regs[0]);
            let mut back = [0; 4];
            match code.rpc() {
                None => return code,
                Some(Function::ALLOC) => {
                    let at = self.page();
                    let ((a1, a2), (a4, a5)) = (smc::pair(at.get()), smc::pair(Guest::cookie(at)));
                    back = [a1, a2, a4, a5];
                }
                Some(_) => {}
            }
            // The thread that it waits for gets a turn.
            yield_now();
            let [a1, a2, a4, a5] = back;
            let function = smc::CALL_RETURN_FROM_RPC.get().into();
            regs = self.smc([function, a1, a2, regs[3], a4, a5, 0, 0]);
        }
    }

    /// The result of a call whose message is in this page.
    fn result(&self, at: Ipa) -> u32 {
        assert_eq!(self.call(at), Return::OK);
        self.guest().read_message(at).header.ret.get()
    }

    /// Ends the VM when all vCPUs have stopped.
    fn end(self: Arc<Self>) {
        let Ok(shared) = Arc::try_unwrap(self) else {
            panic!("a vCPU still runs");
        };
        shared.vm.end();
    }
}

/// Runs these as vCPUs, to their ends.
fn vcpus(vm: &Arc<Shared>, run: Vec<fn(&Shared)>) {
    let threads: Vec<_> = run
        .into_iter()
        .map(|run| {
            let vm = Arc::clone(vm);
            shuttle::thread::spawn(move || run(&vm))
        })
        .collect();
    for thread in threads {
        thread.join().expect("no vCPU fails");
    }
}

/// Where the models have their messages.
pub(super) fn message(number: u64) -> Ipa {
    Ipa::new(crate::fake::RAM_BASE + number * crate::addr::PAGE_SIZE)
}

const NAME: u64 = 0x7700;

fn invoke(vm: &Shared, at: Ipa) {
    let memory = Param::new(Attr::RMEM_INOUT, 8, 500, NAME);
    vm.guest()
        .write_message(at, Command::INVOKE, SESSION, &[memory, memory]);
}

/// Registers one page under [`NAME`]; its list is in page 20.
fn register(vm: &Shared, at: Ipa) {
    vm.vm
        .host
        .poke(message(20), &message(21).get().to_le_bytes());
    let list = Param::new(Attr::PAGE_LIST, message(20).get(), 4000, NAME);
    vm.guest()
        .write_message(at, Command::REGISTER_SHM, 0, &[list]);
}

fn unregister(vm: &Shared, at: Ipa) {
    let name = Param::new(Attr::RMEM_INPUT, 0, 0, NAME);
    vm.guest()
        .write_message(at, Command::UNREGISTER_SHM, 0, &[name]);
}

/// No SMC for a VM reaches OP-TEE after its end, and no page is unpinned that a call still has,
/// whenever the VM ends. The fake OP-TEE would notice.
#[test]
fn destroy_against_calls() {
    fn end(vm: &Shared) {
        loop {
            match vm.mediator().destroy(&Stepping(&vm.vm.host)) {
                Ok(()) => return,
                Err(DestroyError::Busy) => yield_now(),
                Err(other) => panic!("{other}"),
            }
        }
    }
    fn call(vm: &Shared) {
        let code = vm.call(message(1));
        assert!([Return::OK, Return::ENOTAVAIL].contains(&code), "{code:?}");
    }
    fn fast(vm: &Shared) {
        for function in [
            smc::GET_OS_UUID,
            smc::ENABLE_ASYNC_NOTIF,
            smc::DISABLE_SHM_CACHE,
        ] {
            vm.smc([function.get().into(), 0, 0, 0, 0, 0, 0, 0]);
        }
    }
    model(|| {
        let machine = Machine::new();
        let vm = Shared::new(&machine);
        register(&vm, message(0));
        assert_eq!(vm.result(message(0)), 0);
        invoke(&vm, message(1));
        machine.script(1, [Step::ForeignInterrupt]);
        vcpus(&vm, [end as fn(&Shared), call, fast].into());
        end(&vm);
        assert_eq!(machine.violations(), [""; 0]);
        vm.end();
    });
}

/// Two vCPUs resume one call: one gets it, the other gets ERESUME.
#[test]
fn one_call_resumed_twice() {
    static TOKEN: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    static WON: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    use std::sync::atomic::Ordering::Relaxed;
    fn resume(vm: &Shared) {
        let function = smc::CALL_RETURN_FROM_RPC.get().into();
        let [a0, ..] = vm.smc([function, 0, 0, TOKEN.load(Relaxed), 0, 0, 0, 0]);
        assert!([0, Return::ERESUME.get()].contains(&a0));
        WON.fetch_add(u64::from(a0 == 0), Relaxed);
    }
    model(|| {
        let machine = Machine::new();
        let vm = Shared::new(&machine);
        vm.guest()
            .write_message(message(0), Command::CANCEL, SESSION, &[]);
        machine.script(1, [Step::ForeignInterrupt]);
        TOKEN.store(vm.guest().begin(message(0))[3], Relaxed);
        WON.store(0, Relaxed);
        vcpus(&vm, [resume as fn(&Shared), resume].into());
        assert_eq!(WON.load(Relaxed), 1);
        vm.end();
    });
}

/// A buffer is used by one vCPU and unregistered by another: it stays pinned exactly as long as OP-TEE has it.
#[test]
fn call_against_unregister() {
    fn user(vm: &Shared) {
        let result = vm.result(message(1));
        assert!([0, TeeResult::BAD_PARAMETERS.0].contains(&result));
    }
    fn end(vm: &Shared) {
        let result = vm.result(message(2));
        assert!([0, TeeResult::BAD_PARAMETERS.0].contains(&result));
    }
    model(|| {
        let machine = Machine::new();
        let vm = Shared::new(&machine);
        register(&vm, message(0));
        assert_eq!(vm.result(message(0)), 0);
        invoke(&vm, message(1));
        unregister(&vm, message(2));
        unregister(&vm, message(3));
        machine.script(1, [Step::ForeignInterrupt]);
        fn again(vm: &Shared) {
            let result = vm.result(message(3));
            assert!([0, TeeResult::BAD_PARAMETERS.0].contains(&result));
        }
        vcpus(&vm, [user as fn(&Shared), end, again].into());
        assert_eq!(machine.violations(), [""; 0]);
        assert_eq!((machine.pins(), machine.registered(1)), (0, 0));
        vm.end();
    });
}

/// Of one session: an INVOKE that is interrupted, a CANCEL, a CLOSE_SESSION.
#[test]
fn call_against_close() {
    fn bad_or_done(vm: &Shared, at: u64) {
        let result = vm.result(message(at));
        assert!([0, TeeResult::BAD_PARAMETERS.0].contains(&result));
    }
    fn invokes(vm: &Shared) {
        bad_or_done(vm, 1);
    }
    fn cancels(vm: &Shared) {
        bad_or_done(vm, 2);
    }
    fn closes(vm: &Shared) {
        assert_eq!(vm.result(message(3)), 0);
    }
    model(|| {
        let machine = Machine::new();
        let vm = Shared::new(&machine);
        let commands = [Command::INVOKE, Command::CANCEL, Command::CLOSE_SESSION];
        for (at, command) in (1..).zip(commands) {
            vm.guest().write_message(message(at), command, SESSION, &[]);
        }
        machine.script(1, [Step::ForeignInterrupt]);
        vcpus(&vm, [invokes as fn(&Shared), cancels, closes].into());
        assert_eq!(machine.violations(), [""; 0]);
        assert_eq!((vm.vm.stats().sessions, machine.open_sessions(1)), (0, 0));
        vm.end();
    });
}

/// Two vCPUs register under one name, and each of the two buffers can be ended.
#[test]
fn cookie_registered_twice_is_two_buffers() {
    fn first(vm: &Shared) {
        let _ = vm.result(message(0));
    }
    fn second(vm: &Shared) {
        let _ = vm.result(message(1));
    }
    model(|| {
        let machine = Machine::new();
        let vm = Shared::new(&machine);
        register(&vm, message(0));
        register(&vm, message(1));
        vcpus(&vm, [first as fn(&Shared), second].into());
        let results = [0, 1].map(|at| vm.guest().read_message(message(at)).header.ret.get());
        assert_eq!(results, [0, 0]);
        assert_eq!((machine.pins(), machine.registered(1)), (2, 2));
        for left in [1, 0] {
            unregister(&vm, message(2));
            assert_eq!(vm.result(message(2)), 0);
            assert_eq!(
                (machine.pins(), machine.registered(1)),
                (left, left as usize)
            );
        }
        vm.end();
    });
}

/// Memory for RPC messages that one vCPU's call uses, while another has OP-TEE give it back.
#[test]
fn rpc_memory_against_the_cache() {
    fn call(vm: &Shared) {
        assert_eq!(vm.result(message(0)), 0);
    }
    fn other(vm: &Shared) {
        assert_eq!(vm.result(message(1)), 0);
    }
    fn cache(vm: &Shared) {
        for function in [
            smc::ENABLE_SHM_CACHE,
            smc::DISABLE_SHM_CACHE,
            smc::DISABLE_SHM_CACHE,
        ] {
            vm.smc([function.get().into(), 0, 0, 0, 0, 0, 0, 0]);
        }
    }
    model(|| {
        let machine = Machine::new();
        let vm = Shared::new(&machine);
        for at in [0, 1] {
            vm.guest()
                .write_message(message(at), Command::CANCEL, SESSION, &[]);
            let time = Step::Command(optee_proto::rpc::Command::GET_TIME, Vec::new());
            machine.script(1, [time]);
        }
        vcpus(&vm, [call as fn(&Shared), other, cache].into());
        assert_eq!(machine.violations(), [""; 0]);
        vm.end();
    });
}
