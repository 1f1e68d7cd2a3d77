// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An SPMC, or an OP-TEE, whose answers are none: the VM fails, and nothing else does.

use super::*;
use crate::fake::Step;
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
        let before = vm.stats();
        ffa.machine.answer_next_ffa(Function::MemShare, answer);
        let shared = guest.share(&[page]);
        assert!(!vm.host.unmap_unpinned(page), "{answer:x?}");
        let after = vm.stats();
        assert_eq!(after.buffers, before.buffers + 1, "{answer:x?}");
        assert_eq!(after.pages_pinned, before.pages_pinned + 1);
        let lost = u64::from(shared.is_err());
        assert_eq!(after.poisoned, before.poisoned + lost, "{answer:x?}");
        works_and_ends(other);
        let ended = vm.mediator.destroy(&vm.host);
        // A VM stays if the SPMC does not give back an object that it has named.
        assert_eq!(ended.is_ok(), shared.is_err(), "{answer:x?}");
        if ended.is_ok() {
            assert_eq!((ffa.machine.pins(), ffa.machine.shared_pages()), (0, 0));
        }
        assert_eq!(ffa.machine.violations(), [""; 0]);
    }
}

/// An object under a handle that the SPMC has given before could end in the other one's place.
#[test]
fn handle_that_is_given_twice_names_nothing_new() {
    let ffa = Ffa::new(Manner::OpTee);
    let vm = ffa.vm(1);
    let guest = vm.guest();
    let own = guest.share(&[guest.alloc(1)]).unwrap();
    ffa.machine.script(1, [Step::ForeignInterrupt]);
    let at = guest.message(Command::INVOKE, SESSION, &[]);
    let regs = guest.begin(at);
    // Of calls, under way or not, to lend, and of the guest.
    let known = ffa.machine.object_count(1) as u64;
    let mut before = vm.stats();
    for index in 0..known {
        let page = guest.alloc(1);
        let answer = [0x8400_0061, 0, 1 << 16 | index, 1 << 12, 0, 0, 0, 0];
        ffa.machine.answer_next_ffa(Function::MemShare, answer);
        assert_eq!(guest.share(&[page]), Err(ErrorCode::ABORTED), "{index}");
        assert!(!vm.host.unmap_unpinned(page), "{index}");
        let after = vm.stats();
        assert_eq!(after.poisoned, before.poisoned + 1);
        assert_eq!(after.buffers, before.buffers + 1);
        before = after;
    }
    assert_eq!(guest.finish(at, regs, &mut |_, _| false), Return::OK);
    assert_eq!(guest.reclaim(own), Ok(()));
    works(&vm);
    vm.end();
}

/// The SPMC's answers are of 32 bits, and what is above is of no account.
#[test]
fn upper_halves_of_an_answer_do_not_count() {
    let ffa = Ffa::new(Manner::OpTee);
    let vm = ffa.vm(1);
    let guest = vm.guest();
    let page = guest.alloc(1);
    let with_garbage = |answer: [u64; 8]| answer.map(|x| x | 0xdead_beef << 32);
    let answer = with_garbage([0x8400_0061, 0, 5, 1 << 12, 0, 0, 0, 0]);
    ffa.machine.answer_next_ffa(Function::MemShare, answer);
    let handle = guest.share(&[page]).unwrap();
    let answer = with_garbage([0x8400_0061, 0, 0, 0, 0, 0, 0, 0]);
    ffa.machine.answer_next_ffa(Function::MemReclaim, answer);
    assert_eq!(guest.reclaim(handle), Ok(()));
    assert!(vm.host.unmap_unpinned(page));
    vm.end();
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
