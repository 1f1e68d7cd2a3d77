// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An SPMC, or an OP-TEE, whose answers are none: the VM fails, and nothing else does.

use super::*;
use optee_proto::Return;

/// What no call is answered with.
fn garbage() -> Vec<[u64; 8]> {
    Vec::from([
        [0; 8],
        [u64::MAX; 8],
        [0xffff_ffff, 0, 0, 0, 0, 0, 0, 0],
        // A success without a handle, with the invalid one, and one that the VM has.
        [0x8400_0061, 0, 0, 0, 0, 0, 0, 0],
        [0x8400_0061, 0, 0xffff_ffff, 0xffff_ffff, 0, 0, 0, 0],
        [0x8400_0061, 0, 0x1_0000, 0x1000, 0, 0, 0, 0],
        [0xc400_0061, 0, 5, 6, 7, 0, 0, 0],
        // Of others.
        [0x8400_0070, 0x8001_0002, 0, 0, 0, 0, 0, 0],
        [0x8400_0070, 0x1_8001, 0, 0, 0, 0, 0, 0],
        [0x8400_0070, 0x8001_0001, 0x8000_0005, 0, 0, 0, 0, 0],
        // A way to return that there is not, and a thread that there is not.
        [0x8400_0070, 0x8001_0001, 0, 0, 3, 0, 0, 0],
        // FRAG_RX, INTERRUPT, YIELD.
        [0x8400_007a, 0x1_0000, 0x1000, 48, 0, 0, 0, 0],
        [0x8400_0062, 0x8001_0000, 0, 0, 0, 0, 0, 0],
        [0x8400_006c, 0x8001_0000, 0, 0, 0, 0, 0, 0],
        [0x8400_0060, 0, 0, 0, 0, 0, 0, 0],
    ])
}

/// The SPMC's answer to a share means nothing: whether it has the pages is not known, so they stay pinned.
#[test]
fn share_with_a_strange_answer_unpins_nothing() {
    for answer in garbage() {
        let ffa = Ffa::new(Manner::OpTee);
        let (vm, other) = (ffa.vm(1), ffa.vm(2));
        let guest = vm.guest();
        let page = guest.alloc(1);
        ffa.machine.answer_next_ffa(Function::MemShare, answer);
        let _ = guest.share(&[page]);
        assert!(!vm.host.unmap_unpinned(page), "{answer:x?}");
        works_and_ends(other);
        // A VM whose objects the SPMC does not give back may stay.
        let _ = vm.mediator.destroy(&vm.host);
        assert_eq!(ffa.machine.violations(), [""; 0]);
    }
}

#[test]
fn refusal_of_a_share_unpins_all() {
    let ffa = Ffa::new(Manner::OpTee);
    let vm = ffa.vm(1);
    let guest = vm.guest();
    let before = vm.baseline();
    let all = pages(guest.alloc(5), 5);
    for code in [-2i32, -3, -4, -6] {
        let answer = [0x8400_0060, 0, u64::from(code as u32), 0, 0, 0, 0, 0];
        ffa.machine.answer_next_ffa(Function::MemShare, answer);
        assert_eq!(guest.share(&all), Err(ErrorCode::from_w(code as u32)));
        assert_eq!(vm.baseline(), before);
    }
    vm.end();
}

#[test]
fn reclaim_without_success_unpins_nothing() {
    for answer in garbage() {
        if answer[0] == 0x8400_0061 && answer[2] == 0 {
            continue;
        }
        let ffa = Ffa::new(Manner::OpTee);
        let vm = ffa.vm(1);
        let guest = vm.guest();
        let page = guest.alloc(1);
        let handle = guest.share(&[page]).unwrap();
        ffa.machine.answer_next_ffa(Function::MemReclaim, answer);
        assert!(guest.reclaim(handle).is_err(), "{answer:x?}");
        assert!(!vm.host.unmap_unpinned(page));
        // It can be tried again.
        assert_eq!(guest.reclaim(handle), Ok(()));
        vm.end();
    }
}

#[test]
fn call_with_a_strange_answer_ends_without_harm() {
    for answer in garbage() {
        let ffa = Ffa::new(Manner::OpTee);
        let (vm, other) = (ffa.vm(1), ffa.vm(2));
        let guest = vm.guest();
        let at = guest.message(Command::INVOKE, SESSION, &[]);
        let handle = guest.share(&[at]).unwrap();
        ffa.machine
            .answer_next_ffa(Function::MsgSendDirectReq, answer);
        let regs = guest.begin_at(handle, 0);
        assert!(Return::from_x0(regs[0]).rpc().is_none(), "{answer:x?}");
        works_and_ends(other);
        vm.mediator.destroy(&vm.host).unwrap();
        assert_eq!(ffa.machine.violations(), [""; 0]);
    }
}
