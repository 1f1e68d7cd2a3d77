// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A VM from its beginning to its end.

use super::*;
use crate::CreateError;
use crate::fake::Step;
use alloc::string::ToString;
use ffa_proto::{FunctionId, Width};
use optee_proto::msg::{Attr, Command, Param};
use optee_proto::rpc;

#[test]
fn guest_opens_a_session_and_calls_with_its_memory() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.vm(1);
        let guest = vm.guest();
        let (buffer, result) = guest.register(3);
        assert_eq!(result, 0);
        let param = Param::new(Attr::RMEM_INOUT, 0x10, 0x2000, buffer);
        let message = guest.message(Command::INVOKE, SESSION, &[param]);
        let done = guest.run(message);
        assert_eq!(done.header.ret.get(), 0);
        // OP-TEE has halved the size.
        assert_eq!(done.params[0].b.get(), 0x1000);
        assert_eq!(guest.unregister(buffer), 0);
        vm.end();
    }
}

#[test]
fn call_is_interrupted_and_asks_for_commands_and_memory() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.vm(1);
        let guest = vm.guest();
        let name = Param::new(Attr::VALUE_INOUT, 1, 2, 3);
        ffa.machine.script(
            1,
            [
                Step::ForeignInterrupt,
                Step::Command(rpc::Command::GET_TIME, Vec::from([name])),
                Step::ShmAlloc(rpc::SHM_TYPE_APPL, 0x1800),
                Step::ShmFree(rpc::SHM_TYPE_APPL, 0),
            ],
        );
        let message = guest.message(Command::INVOKE, SESSION, &[]);
        assert_eq!(guest.run(message).header.ret.get(), 0);
        let outcomes = ffa.machine.outcomes(1);
        assert_eq!(outcomes[0].allocated[0].as_ref().map(Vec::len), Some(2));
        vm.end();
    }
}

#[test]
fn vm_that_may_not_see_optee_gets_no_tee_and_the_spmc_is_not_asked() {
    let seeing = |ids: &[u16]| {
        let mut config = Config::default();
        let ids = ids.iter().map(|&id| EndpointId::new(id));
        config.policy.partitions = Some(ids.collect());
        config
    };
    let ffa = Ffa::new(Manner::OpTee);
    for ids in [&[][..], &[0x8002]] {
        let host = ffa.machine.add_vm(1, PAGES);
        let client = ClientId::new(NonZeroU16::MIN);
        let mediator = Mediator::new_ffa(client, seeing(ids), ffa.tee, Arc::clone(&ffa.spmc));
        let before = ffa.machine.smcs().len();
        let error = mediator.create(&host).unwrap_err();
        assert_eq!(error, CreateError::NoPartition(PARTITION.get().into()));
        assert!(error.to_string().contains("add 0x8001 to"), "{error}");
        assert_eq!(functions(&ffa.machine, before), []);
        assert_eq!(ffa.machine.violations(), [""; 0]);
    }
    let vm = ffa.bare(1, seeing(&[0x8002, 0x8001]));
    vm.open_session(PAGES);
    works(&vm);
    vm.end();
}

#[test]
fn vm_is_not_created_where_the_spmc_refuses_and_says_why() {
    let refusal = |code: ErrorCode| {
        let error = FunctionId::new(Function::Error, Width::Smc32);
        [error.get().into(), 0, code.to_w().into(), 0, 0, 0, 0, 0]
    };
    let code = ErrorCode::NO_MEMORY;
    // An answer to another call.
    let version = FunctionId::new(Function::Version, Width::Smc32);
    let no_answer = [version.get().into(), 0, 0, 0, 0, 0, 0, 0];
    for function in [
        Function::MsgSendDirectReq,
        Function::NotificationBitmapCreate,
    ] {
        for (answer, said) in [(refusal(code), code.to_w()), (no_answer, u32::MAX)] {
            let ffa = Ffa::new(Manner::OpTee);
            let host = ffa.machine.add_vm(1, PAGES);
            let client = ClientId::new(NonZeroU16::MIN);
            let (tee, spmc) = (ffa.tee, Arc::clone(&ffa.spmc));
            let mediator = Mediator::new_ffa(client, notifying(true), tee, spmc);
            ffa.machine.answer_next_ffa(function, answer);
            assert_eq!(mediator.create(&host), Err(CreateError::Refused(said)));
        }
    }
}
