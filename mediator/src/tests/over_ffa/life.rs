// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A VM from its beginning to its end.

use super::*;
use crate::fake::Step;
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
