// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Calls: where their messages are, what they name, and how they go on.

use super::*;
use crate::fake::{RAM_BASE, Request, Step};
use crate::tests::BAD;
use optee_proto::ffa::{Fmem, Service, Status};
use optee_proto::{Return, TeeResult, msg, rpc};

#[test]
fn message_may_be_at_any_offset_that_it_fits_behind() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.vm(1);
        let guest = vm.guest();
        let at = guest.alloc(2);
        let handle = guest.share(&pages(at, 2)).unwrap();
        let size = (msg::size(0) + msg::size(rpc::MAX_PARAMS)) as u32;
        let last = 0x2000 - size;
        // Also across the pages, which are no neighbours physically.
        for offset in [0, 8, 0xff0, 0x1000, last] {
            let message = Ipa::new(at.get() + u64::from(offset));
            guest.write_message(message, Command::INVOKE, SESSION, &[]);
            assert_eq!(guest.begin_at(handle, offset)[0], 0, "{offset:#x}");
            assert_eq!(guest.read_message(message).header.ret.get(), 0);
        }
        let before = ffa.machine.smcs().len();
        for offset in [
            1,
            4,
            last + 8,
            0x1ff8,
            0x2000,
            0x2001,
            u32::MAX,
            u32::MAX - 7,
        ] {
            let begun = guest.begin_at(handle, offset);
            assert_eq!(begun[0], Return::EBADADDR.get(), "{offset:#x}");
        }
        assert_eq!(functions(&ffa.machine, before), []);
        assert_eq!(guest.unshare(handle), Ok(()));
        vm.end();
    }
}

#[test]
fn resume_of_what_is_not_the_guests_is_refused() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        ffa.machine
            .set_tee(optee_proto::uuid::API_UID, 0b111_1101, 4);
        let (vm, other) = (ffa.vm(1), ffa.vm(2));
        let (guest, neighbour) = (vm.guest(), other.guest());
        ffa.machine.script(2, [Step::ForeignInterrupt]);
        let theirs = neighbour.message(Command::INVOKE, SESSION, &[]);
        let regs = neighbour.begin(theirs);
        ffa.machine.script(1, [Step::ForeignInterrupt]);
        let own = guest.message(Command::INVOKE, SESSION, &[]);
        let mine = guest.begin(own);
        let before = ffa.machine.smcs().len();
        let tokens = (0..16).chain([regs[3] as u32, u32::MAX, 0x8000_0000]);
        for token in tokens.filter(|&token| token != mine[3] as u32) {
            let words = guest.request([Service::RESUME.get(), 0, 0, 0, token]);
            let status = Status::from_w(words.unwrap()[0]);
            assert_eq!(status, Status::TEE_BAD_PARAMETERS, "{token:#x}");
        }
        assert_eq!(functions(&ffa.machine, before), []);
        assert_eq!(guest.finish(own, mine, &mut |_, _| false), Return::OK);
        // It is done, so it cannot go on.
        assert_ne!(guest.resume(mine[3], [0; 4])[0], 0);
        let end = neighbour.finish(theirs, regs, &mut |_, _| false);
        assert_eq!(end, Return::OK);
        works_and_ends(other);
        vm.end();
    }
}

#[test]
fn services_that_are_none_are_refused_and_take_no_thread() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.vm(1);
        let guest = vm.guest();
        let before = ffa.machine.smcs().len();
        for (service, status) in [
            (4, Status::TEE_BAD_PARAMETERS),
            (6, Status::TEE_BAD_PARAMETERS),
            (7, Status::TEE_BAD_PARAMETERS),
            (8, Status::TEE_BAD_PARAMETERS),
            (99, Status::TEE_BAD_PARAMETERS),
            (0x7fff_ffff, Status::TEE_BAD_PARAMETERS),
            (0x8000_0002, Status::DENIED),
            (u32::MAX, Status::DENIED),
        ] {
            let words = guest.request([service, 1, 2, 3, 4]).unwrap();
            assert_eq!(Status::from_w(words[0]), status, "{service:#x}");
        }
        assert_eq!(functions(&ffa.machine, before), []);
        assert_eq!(guest.request([0; 5]), Ok([1, 0, 0, 0, 0]));
        assert_eq!(guest.request([1, 0, 0, 0, 0]).unwrap()[..2], [4, 10]);
        vm.end();
    }
}

/// Of OP-TEE's threads a guest can park its own only.
#[test]
fn guest_that_parks_its_calls_is_busy_and_others_are_not() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let (vm, other) = (ffa.vm(1), ffa.vm(2));
        let guest = vm.guest();
        let mut parked = Vec::new();
        let refused = loop {
            ffa.machine.script(1, [Step::ForeignInterrupt]);
            let at = guest.message(Command::INVOKE, SESSION, &[]);
            let regs = guest.begin(at);
            match Return::from_x0(regs[0]).rpc() {
                Some(_) => parked.push((at, regs)),
                None => break regs[0],
            }
        };
        assert_eq!(refused, Return::ETHREAD_LIMIT.get());
        assert_eq!(parked.len(), 2);
        works(&other);
        ffa.machine.forget_scripts(1);
        for (at, regs) in parked {
            assert_eq!(guest.finish(at, regs, &mut |_, _| false), Return::OK);
        }
        works_and_ends(other);
        vm.end();
    }
}

fn fmem(attr: Attr, offset: u64, internal_offset: u16, size: u64, handle: u64) -> Param {
    let fmem = Fmem {
        offset,
        internal_offset,
        size,
        handle,
    };
    fmem.write(attr).unwrap()
}

#[test]
fn references_outside_of_their_memory_are_refused() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.vm(1);
        let guest = vm.guest();
        let handle = guest.share(&pages(guest.alloc(2), 2)).unwrap();
        let at = guest.message(Command::INVOKE, SESSION, &[]);
        let run = |param: Param| {
            guest.write_message(at, Command::INVOKE, SESSION, &[param]);
            guest.run(at).header.ret.get()
        };
        let input = Attr::RMEM_INPUT;
        for (offset, internal, size) in [
            (0, 0, 0x2000),
            (0x1fff, 0, 1),
            (0x1000, 0xfff, 1),
            (0, 0x10, 0x1ff0),
        ] {
            assert_eq!(run(fmem(input, offset, internal, size, handle)), 0);
        }
        for (offset, internal, size) in [
            (0, 0, 0x2001),
            (0x2000, 0, 1),
            (0, 0x11, 0x1ff0),
            (0, 0x1000, 1),
            (0, 0xffff, 0),
            (0xffff_ffff_ffff, 0, 1),
            (1, 0, u64::MAX),
            (0, 0xfff, u64::MAX - 0xffe),
        ] {
            let result = run(fmem(input, offset, internal, size, handle));
            assert_ne!(result, 0, "{offset:#x} {internal:#x} {size:#x}");
        }
        // No memory: OP-TEE prints a line when it has a size.
        assert_eq!(run(fmem(input, 0, 0, 0, Fmem::NULL)), 0);
        for attr in [Attr::TMEM_INPUT, Attr::TMEM_OUTPUT, Attr::TMEM_INOUT] {
            assert_eq!(run(Param::new(attr, 0, 0, 0)), BAD);
            assert_eq!(run(Param::new(attr, RAM_BASE, 8, 0)), BAD);
        }
        assert_eq!(guest.unshare(handle), Ok(()));
        vm.end();
    }
}

/// OP-TEE would look for an object under all ones, and print a line.
#[test]
fn no_memory_has_no_size() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.vm(1);
        let guest = vm.guest();
        let param = fmem(Attr::RMEM_OUTPUT, 0, 0, 8, Fmem::NULL);
        let at = guest.message(Command::INVOKE, SESSION, &[param]);
        assert_eq!(guest.run(at).header.ret.get(), BAD);
        vm.end();
    }
}

#[test]
fn commands_of_the_smc_abi_are_refused() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.vm(1);
        let guest = vm.guest();
        let at = guest.alloc(1);
        let before = ffa.machine.smcs().len();
        for command in [Command::REGISTER_SHM, Command::UNREGISTER_SHM] {
            guest.write_message(
                at,
                command,
                0,
                &[Param::new(Attr::PAGE_LIST, RAM_BASE, 8, 1)],
            );
            assert_eq!(guest.begin(at)[0], Return::EBADADDR.get());
        }
        let shared = functions(&ffa.machine, before);
        assert_eq!(shared, [Function::MemShare]);
        vm.end();
    }
}

#[test]
fn message_that_changes_while_it_is_read_is_read_once() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.vm(1);
        let guest = vm.guest();
        let (buffer, _) = guest.register(1);
        let params = [
            Param::new(Attr::RMEM_INPUT, 0, 8, buffer),
            Param::new(Attr::VALUE_INPUT, 1, 2, 3),
        ];
        let at = guest.message(Command::INVOKE, SESSION, &params);
        let handle = guest.share(&[at]).unwrap();
        ffa.machine.scramble(true);
        assert_eq!(guest.begin_at(handle, 0)[0], 0);
        ffa.machine.scramble(false);
        let outcomes = ffa.machine.outcomes(1);
        assert_eq!(outcomes.len(), 1);
        assert_eq!(outcomes[0].params[1], params[1]);
        vm.end();
    }
}

/// Answers to SHM_ALLOC that OP-TEE must not see.
#[test]
fn allocations_by_what_is_not_the_guests_memory_are_refused() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let (vm, other) = (ffa.vm(1), ffa.vm(2));
        let guest = vm.guest();
        let theirs = other.guest().register(1).0;
        // The mediator has the guest free what it names.
        ffa.machine.remember_guesses();
        let page = guest.alloc(1);
        let stale = guest.share(&[guest.alloc(1)]).unwrap();
        assert_eq!(guest.unshare(stale), Ok(()));
        let output = Attr::RMEM_OUTPUT;
        let wrong = |small| {
            [
                // Of a neighbour, not shared any more, of the SPMC's, none.
                fmem(output, 0, 0, 0x2000, theirs),
                fmem(output, 0, 0, 0x2000, stale),
                fmem(output, 0, 0, 0x2000, 1 << 44 | 1 << 16),
                fmem(output, 0, 0, 0x2000, 0),
                fmem(output, 0, 0, 0x2000, Fmem::NULL),
                // Less than it says, or than OP-TEE has asked for.
                fmem(output, 0, 0, 0x2000, small),
                fmem(output, 0, 0, 0x1000, small),
                fmem(output, 0, 0x1000, 0x1000, small),
                fmem(output, 0, 0xffff, 0x1000, small),
                // No answer to SHM_ALLOC.
                fmem(Attr::RMEM_INPUT, 0, 0, 0x2000, small),
                Param::new(Attr::VALUE_OUTPUT, 0, 0x2000, small),
                Param::new(Attr::PAGE_LIST, RAM_BASE, 0x2000, 7),
            ]
        };
        for which in 0..wrong(0).len() {
            // What is refused the guest is told to free.
            let small = guest.share(&[page]).unwrap();
            let param = wrong(small)[which];
            ffa.machine
                .script(1, [Step::ShmAlloc(rpc::SHM_TYPE_APPL, 0x1800)]);
            let at = guest.message(Command::INVOKE, SESSION, &[]);
            guest.run_with(at, |guest, request: &Request| {
                let is_alloc = request.command() == rpc::Command::SHM_ALLOC;
                if is_alloc {
                    guest.reply(request, 0, &[param]);
                }
                is_alloc
            });
            let last = ffa.machine.outcomes(1).pop().unwrap();
            assert_eq!(last.allocated, [None], "{param:?}");
            let _ = guest.reclaim(small);
            guest.forget_messages();
        }
        works_and_ends(other);
        vm.end();
    }
}

#[test]
fn object_cannot_be_allocated_twice() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.vm(1);
        let guest = vm.guest();
        let own = guest.share(&[guest.alloc(1)]).unwrap();
        let alloc = || Step::ShmAlloc(rpc::SHM_TYPE_APPL, 100);
        ffa.machine
            .script(1, [alloc(), alloc(), Step::ShmFree(rpc::SHM_TYPE_APPL, 0)]);
        let at = guest.message(Command::INVOKE, SESSION, &[]);
        guest.run_with(at, |guest, request: &Request| {
            let is_alloc = request.command() == rpc::Command::SHM_ALLOC;
            if is_alloc {
                guest.reply(request, 0, &[fmem(Attr::RMEM_OUTPUT, 0, 0, PAGE_SIZE, own)]);
            }
            is_alloc
        });
        let outcome = ffa.machine.outcomes(1).pop().unwrap();
        assert!(outcome.allocated[0].is_some() && outcome.allocated[1].is_none());
        vm.end();
    }
}

/// The guest's error is OP-TEE's as well.
#[test]
fn allocation_that_fails_is_a_failure() {
    let ffa = Ffa::new(Manner::OpTee);
    let vm = ffa.vm(1);
    let guest = vm.guest();
    ffa.machine
        .script(1, [Step::ShmAlloc(rpc::SHM_TYPE_APPL, 100)]);
    let at = guest.message(Command::INVOKE, SESSION, &[]);
    guest.run_with(at, |guest, request: &Request| {
        guest.reply(request, TeeResult::OUT_OF_MEMORY.0, &request.params);
        true
    });
    assert_eq!(ffa.machine.outcomes(1).pop().unwrap().allocated, [None]);
    vm.end();
}

/// What OP-TEE has requested counts as mapped until it returns that, and then it is the guest's again.
#[test]
fn requested_memory_counts_until_it_is_returned() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.vm(1);
        let guest = vm.guest();
        let alloc = |size| Step::ShmAlloc(rpc::SHM_TYPE_APPL, size);
        let free = |number| Step::ShmFree(rpc::SHM_TYPE_APPL, number);
        ffa.machine.script(
            1,
            [
                alloc(0x1800),
                alloc(100),
                Step::ForeignInterrupt,
                free(1),
                Step::ForeignInterrupt,
                free(0),
                Step::ForeignInterrupt,
            ],
        );
        let at = guest.message(Command::INVOKE, SESSION, &[]);
        let behind = Ipa::new(at.get() + msg::size(0) as u64);
        let (two, one) = (guest.alloc(2), guest.alloc(1));
        let two = (guest.share(&pages(two, 2)).unwrap(), 0x2000);
        let one = (guest.share(&[one]).unwrap(), PAGE_SIZE);
        let mut regs = guest.begin(at);
        for (handle, size) in [two, one] {
            let param = fmem(Attr::RMEM_OUTPUT, 0, 0, size, handle);
            guest.reply(&guest.read_message(behind), 0, &[param]);
            regs = guest.resume(regs[3], [0; 4]);
        }
        assert_eq!(vm.stats().mapped_pages, 3);
        for (handle, left, other) in [(one.0, 2, Some(two.0)), (two.0, 0, None)] {
            regs = guest.resume(regs[3], [0; 4]);
            // The guest is asked to free it, and could do so.
            let request = guest.read_message(behind);
            assert_eq!(request.command(), rpc::Command::SHM_FREE);
            assert_eq!(request.params[0].b.get(), handle);
            assert_eq!(vm.stats().mapped_pages, left);
            if let Some(other) = other {
                assert_eq!(guest.reclaim(other), Err(ErrorCode::DENIED));
            }
            assert_eq!(guest.reclaim(handle), Ok(()));
            guest.reply(&request, 0, &request.params);
            regs = guest.resume(regs[3], [0; 4]);
        }
        assert_eq!(guest.finish(at, regs, &mut |_, _| false), Return::OK);
        vm.end();
    }
}

/// OP-TEE would have one object for two purposes.
#[test]
fn object_that_a_call_uses_cannot_be_allocated() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.vm(1);
        let guest = vm.guest();
        let buffer = guest.share(&[guest.alloc(1)]).unwrap();
        let param = Param::new(Attr::RMEM_INPUT, 0, 8, buffer);
        let at = guest.message(Command::INVOKE, SESSION, &[param]);
        let message = guest.share(&[at]).unwrap();
        for handle in [buffer, message] {
            guest.write_message(at, Command::INVOKE, SESSION, &[param]);
            ffa.machine
                .script(1, [Step::ShmAlloc(rpc::SHM_TYPE_APPL, 100)]);
            let regs = guest.begin_at(message, 0);
            let mut answer = |guest: &crate::fake::Guest<'_>, request: &Request| {
                let is_alloc = request.command() == rpc::Command::SHM_ALLOC;
                if is_alloc {
                    let param = fmem(Attr::RMEM_OUTPUT, 0, 0, PAGE_SIZE, handle);
                    guest.reply(request, 0, &[param]);
                }
                is_alloc
            };
            assert_eq!(guest.finish(at, regs, &mut answer), Return::OK);
            assert_eq!(ffa.machine.outcomes(1).pop().unwrap().allocated, [None]);
            assert_eq!(vm.stats().mapped_pages, 0);
        }
        assert_eq!(guest.unshare(buffer), Ok(()));
        assert_eq!(guest.unshare(message), Ok(()));
        vm.end();
    }
}

/// A request names memory as the guest does, and OP-TEE finds its own name again.
#[test]
fn command_names_requested_memory_by_the_guests_handle() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.vm(1);
        let guest = vm.guest();
        let memory = Param::new(Attr::RMEM_OUTPUT, 8, 100, 0);
        ffa.machine.script(
            1,
            [
                Step::ShmAlloc(rpc::SHM_TYPE_APPL, 200),
                Step::Command(rpc::Command::FS, Vec::from([memory])),
                Step::ShmFree(rpc::SHM_TYPE_APPL, 0),
            ],
        );
        let at = guest.message(Command::INVOKE, SESSION, &[]);
        let own = guest.share(&[guest.alloc(1)]).unwrap();
        guest.run_with(at, |guest, request: &Request| {
            let is_alloc = request.command() == rpc::Command::SHM_ALLOC;
            if is_alloc {
                let param = fmem(Attr::RMEM_OUTPUT, 0, 0, PAGE_SIZE, own);
                guest.reply(request, 0, &[param]);
            }
            is_alloc
        });
        let requests = guest.requests.lock().clone();
        let asked = requests
            .iter()
            .find(|request| request.command() == rpc::Command::FS);
        let expected = Param::new(Attr::RMEM_OUTPUT, 8, 100, own);
        assert_eq!(asked.unwrap().params, [expected]);
        let outcome = ffa.machine.outcomes(1).pop().unwrap();
        let (_, after) = &outcome.replies[1];
        assert_eq!((after[0].a.get(), after[0].b.get()), (8, 101));
        assert!(![0, own].contains(&after[0].c.get()));
        vm.end();
    }
}
