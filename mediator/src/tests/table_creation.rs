// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The calls by which OP-TEE makes a VM's tables, one entry after the other, and their end.

use super::Vm;
use crate::fake::{FakeHost, Machine};
use crate::host::ForeignInterrupt::{Resume, ReturnToGuest};
use crate::{ClientId, Config, CreateError, Mediator, Progress, probe};
use alloc::vec::Vec;
use core::num::NonZeroU16;
use optee_proto::{FunctionId, Return, smc};

/// A VM that OP-TEE knows, and whose tables it is to make next: it is interrupted so often in each call.
fn introduced(interrupts: usize) -> (FakeHost, Mediator) {
    let machine = Machine::new();
    let host = machine.add_vm(1, 400);
    let tee = probe(&host).unwrap();
    let client = ClientId::new(NonZeroU16::new(1).unwrap());
    let mediator = Mediator::new(client, Config::default(), tee);
    machine.interrupt_tables(interrupts);
    assert_eq!(mediator.create_step(&host), Ok(Progress::More));
    assert!(machine.knows(1));
    (host, mediator)
}

/// The functions by which OP-TEE is entered during `step`.
fn entries(host: &FakeHost, step: impl FnOnce()) -> Vec<FunctionId> {
    let before = host.machine().smcs().len();
    step();
    let smcs = host.machine().smcs();
    let functions = smcs[before..].iter().map(|args| args[0] as u32);
    functions.map(FunctionId::new).collect()
}

/// OP-TEE continues at once after an interrupt that the hypervisor does not claim, and the step ends after one
/// that it does.
#[test]
fn table_step_continues_after_unclaimed_interrupts() {
    let (host, mediator) = introduced(9);
    let machine = host.machine();
    machine.on_foreign_interrupt(&[Resume, Resume, ReturnToGuest]);
    let step = || assert_eq!(mediator.create_step(&host), Ok(Progress::More));
    let resume = smc::CALL_RETURN_FROM_RPC;
    let call = smc::CALL_WITH_ARG;
    assert_eq!(entries(&host, step), [call, resume, resume]);
    machine.on_foreign_interrupt(&[ReturnToGuest]);
    assert_eq!(entries(&host, step), [resume]);
    machine.interrupt_tables(0);
    mediator.create(&host).unwrap();
    Vm { host, mediator }.end();
}

/// A VM that ends before it has its tables: OP-TEE finishes the call that it is in, and begins no other.
#[test]
fn teardown_completes_the_table_call_and_begins_none() {
    let resume = smc::CALL_RETURN_FROM_RPC;
    for begun in [false, true] {
        let (host, mediator) = introduced(2);
        if begun {
            assert_eq!(mediator.create_step(&host), Ok(Progress::More));
        }
        let entries = entries(&host, || mediator.destroy(&host).unwrap());
        let expected: &[_] = if begun {
            &[resume, resume, smc::VM_DESTROYED]
        } else {
            &[smc::VM_DESTROYED]
        };
        assert_eq!(entries, expected);
        Vm { host, mediator }.end_after_destroy();
    }
}

/// A call whose message OP-TEE has not written its result into has not succeeded.
#[test]
fn table_call_without_result_fails_creation() {
    let (host, mediator) = introduced(0);
    let ok = [Return::OK.get(), 0, 0, 0];
    host.machine().answer_next(smc::CALL_WITH_ARG, ok);
    let created = mediator.create(&host);
    assert_eq!(created, Err(CreateError::TablesRefused(u32::MAX)));
    Vm { host, mediator }.end_after_destroy();
}
