// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Handles: whose they are, and when an object may end.

use super::*;
use crate::fake::Step;
use ffa_proto::call::{MemReclaim, MemReclaimFlags};
use ffa_proto::{Handle, Request};
use optee_proto::ffa::Status;
use optee_proto::{Return, rpc};

const INVALID: ErrorCode = ErrorCode::INVALID_PARAMETERS;

/// Handles that are not the guest's: of nobody, of the SPMC's kind, and those given.
fn foreign(more: &[u64]) -> Vec<u64> {
    let mut all = Vec::from([0, 1, u64::MAX, 1 << 63, 1 << 63 | 1, u64::MAX >> 1]);
    // The SPMC's handles of two VMs: of messages, and of whatever comes next.
    all.extend((0..64).flat_map(|n| [1, 2].map(|vm| 1 << 44 | vm << 16 | n)));
    all.extend(more);
    all
}

#[test]
fn handles_of_others_and_of_the_spmc_are_refused_everywhere() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let (vm, other) = (ffa.vm(1), ffa.vm(2));
        let (guest, neighbour) = (vm.guest(), other.guest());
        let (foreign_handle, _) = neighbour.register(1);
        let (stale, _) = guest.register(1);
        assert_eq!(guest.unregister(stale), 0);
        let message = guest.message(Command::INVOKE, SESSION, &[]);
        let before = (ffa.machine.smcs().len(), ffa.machine.pins());
        for handle in foreign(&[foreign_handle, stale, foreign_handle ^ 1 << 63]) {
            assert_eq!(guest.reclaim(handle), Err(INVALID), "{handle:#x}");
            let status = guest.unregister_shm(handle).unwrap();
            assert_ne!(status, Status::OK, "{handle:#x}");
            let begun = guest.begin_at(handle, 0);
            assert_eq!(begun[0], Return::EBADADDR.get(), "{handle:#x}");
        }
        assert_eq!(functions(&ffa.machine, before.0), []);
        assert_eq!(ffa.machine.pins(), before.1);
        // As a parameter: all ones is no memory, which has no size.
        for handle in foreign(&[foreign_handle, stale]) {
            let param = Param::new(Attr::RMEM_INPUT, 0, 8, handle);
            guest.write_message(message, Command::INVOKE, SESSION, &[param]);
            assert_ne!(guest.run(message).header.ret.get(), 0, "{handle:#x}");
        }
        assert_eq!(neighbour.unregister(foreign_handle), 0);
        works_and_ends(other);
        vm.end();
    }
}

#[test]
fn reclaim_with_flags_is_refused() {
    let ffa = Ffa::new(Manner::OpTee);
    let vm = ffa.vm(1);
    let guest = vm.guest();
    let handle = guest.share(&[guest.alloc(1)]).unwrap();
    for flags in [MemReclaimFlags::ZERO, MemReclaimFlags::TIME_SLICE] {
        let handle = Handle::new(handle);
        let reclaim = Request::MemReclaim(MemReclaim { handle, flags });
        assert_eq!(guest.done(&reclaim), Err(INVALID));
    }
    assert_eq!(guest.reclaim(handle), Ok(()));
    assert_eq!(guest.reclaim(handle), Err(INVALID));
    vm.end();
}

/// OP-TEE would refuse it too, but prints a line.
#[test]
fn object_in_a_call_cannot_end() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.vm(1);
        let guest = vm.guest();
        let page = guest.alloc(1);
        let buffer = guest.share(&[page]).unwrap();
        let param = Param::new(Attr::RMEM_INPUT, 0, 8, buffer);
        let at = guest.message(Command::INVOKE, SESSION, &[param]);
        let message = guest.share(&[at]).unwrap();
        ffa.machine.script(1, [Step::ForeignInterrupt]);
        let regs = guest.begin_at(message, 0);
        let before = ffa.machine.smcs().len();
        for handle in [buffer, message] {
            assert_eq!(guest.reclaim(handle), Err(ErrorCode::DENIED));
            assert_eq!(guest.unregister_shm(handle), Ok(Status::BUSY));
        }
        assert_eq!(functions(&ffa.machine, before), []);
        assert!(!vm.host.unmap_unpinned(page));
        assert_eq!(guest.finish(at, regs, &mut |_, _| false), Return::OK);
        // OP-TEE has used it, so it must hear that it is no more.
        assert_eq!(guest.reclaim(buffer), Err(ErrorCode::DENIED));
        assert_eq!(guest.unshare(buffer), Ok(()));
        assert_eq!(guest.unshare(message), Ok(()));
        assert!(vm.host.unmap_unpinned(page));
        vm.end();
    }
}

#[test]
fn object_that_optee_has_allocated_cannot_end() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.vm(1);
        let guest = vm.guest();
        let steps = [
            Step::ShmAlloc(rpc::SHM_TYPE_APPL, 100),
            Step::ForeignInterrupt,
            Step::ShmFree(rpc::SHM_TYPE_APPL, 0),
        ];
        ffa.machine.script(1, steps);
        let at = guest.message(Command::INVOKE, SESSION, &[]);
        let page = guest.alloc(1);
        let lent = guest.share(&[page]).unwrap();
        let mut tried = 0;
        let mut answer = |guest: &crate::fake::Guest<'_>, request: &crate::fake::Request| {
            if request.command() != rpc::Command::SHM_ALLOC {
                return false;
            }
            let param = Param::new(Attr::RMEM_OUTPUT, 0, PAGE_SIZE, lent);
            guest.reply(request, 0, &[param]);
            tried += 1;
            true
        };
        let mut regs = guest.begin(at);
        // The request is behind the message.
        let request = guest.read_message(Ipa::new(at.get() + optee_proto::msg::size(0) as u64));
        assert!(answer(&guest, &request));
        regs = guest.resume(regs[3], [0; 4]);
        let before = ffa.machine.smcs().len();
        assert_eq!(guest.reclaim(lent), Err(ErrorCode::DENIED));
        assert_eq!(guest.unregister_shm(lent), Ok(Status::BUSY));
        assert_eq!(functions(&ffa.machine, before), []);
        assert!(!vm.host.unmap_unpinned(page));
        // SHM_FREE has the guest reclaim it, at once.
        assert_eq!(guest.finish(at, regs, &mut answer), Return::OK);
        assert_eq!(tried, 1);
        assert!(vm.host.unmap_unpinned(page));
        vm.end();
    }
}

#[test]
fn handles_of_an_earlier_life_are_nobodys() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.vm(1);
        let old = {
            let guest = vm.guest();
            let message = guest.message(Command::INVOKE, SESSION, &[]);
            let handle = guest.share(&[message]).unwrap();
            guest.begin_at(handle, 0);
            [handle, guest.register(1).0]
        };
        vm.mediator.destroy(&vm.host).unwrap();
        assert_eq!((ffa.machine.pins(), ffa.machine.object_count(1)), (0, 0));
        vm.mediator.create(&vm.host).unwrap();
        let guest = vm.guest();
        let own = guest.share(&[guest.alloc(1)]).unwrap();
        assert!(!old.contains(&own));
        for handle in old {
            assert_eq!(guest.reclaim(handle), Err(INVALID));
            assert_eq!(guest.begin_at(handle, 0)[0], Return::EBADADDR.get());
        }
        assert_eq!(guest.unshare(own), Ok(()));
        vm.end();
    }
}

/// The SPMC gives a handle again at once, and the guest's is new all the same.
#[test]
fn handle_of_a_guest_never_comes_back() {
    let ffa = Ffa::new(Manner::OpTee);
    let vm = ffa.vm(1);
    let guest = vm.guest();
    let page = guest.alloc(1);
    let mut seen = Vec::new();
    for _ in 0..100 {
        let handle = guest.share(&[page]).unwrap();
        assert!(!seen.contains(&handle));
        seen.push(handle);
        assert_eq!(guest.unshare(handle), Ok(()));
    }
    vm.end();
}

/// OP-TEE prints a line about each object that it is to forget and does not use.
#[test]
fn optee_forgets_only_what_a_call_has_brought_to_it() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.vm(1);
        let guest = vm.guest();
        let own = guest.share(&[guest.alloc(1)]).unwrap();
        let named = |handle| Param::new(Attr::RMEM_INPUT, 0, 8, handle);
        // The second parameter is nobody's, so the call does not begin.
        let params = [named(own), named(1 << 63 | 7)];
        let refused = guest.message(Command::INVOKE, SESSION, &params);
        assert_ne!(guest.run(refused).header.ret.get(), 0);
        // OP-TEE has no thread for it.
        ffa.machine.script(1, [Step::ForeignInterrupt]);
        ffa.machine.script(1, [Step::ForeignInterrupt]);
        let parked = [0; 2].map(|_| {
            let at = guest.message(Command::INVOKE, SESSION, &[]);
            (at, guest.begin(at))
        });
        let busy = guest.begin(guest.message(Command::INVOKE, SESSION, &[named(own)]));
        assert_eq!(busy[0], Return::ETHREAD_LIMIT.get());
        let before = ffa.machine.smcs().len();
        assert_eq!(guest.unregister_shm(own), Ok(Status::OK));
        assert_eq!(functions(&ffa.machine, before), []);
        for (at, regs) in parked {
            assert_eq!(guest.finish(at, regs, &mut |_, _| false), Return::OK);
        }
        // It is told, and forgets once.
        let used = guest.message(Command::INVOKE, SESSION, &[named(own)]);
        assert_eq!(guest.run(used).header.ret.get(), 0);
        for asked in [1, 0] {
            let before = ffa.machine.smcs().len();
            assert_eq!(guest.unregister_shm(own), Ok(Status::OK));
            assert_eq!(functions(&ffa.machine, before).len(), asked);
        }
        assert_eq!(guest.reclaim(own), Ok(()));
        vm.end();
    }
}
