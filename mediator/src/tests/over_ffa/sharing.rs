// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Descriptors and their pages.

use super::*;
use crate::Quotas;
use crate::fake::RAM_BASE;
use alloc::format;
use ffa_proto::answer::read_success;
use ffa_proto::call::{DescriptorBuffer, MemFragRx, MemSend, MemSendAnswer, MemSendKind};
use ffa_proto::{AnswerError, Handle, Request, Version, Width};

const INVALID: ErrorCode = ErrorCode::INVALID_PARAMETERS;

#[test]
fn scattered_pages_reach_optee_in_one_descriptor() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.vm(1);
        let guest = vm.guest();
        // Physically no two of them are neighbours.
        let all = pages(guest.alloc(100), 100);
        let before = (ffa.machine.smcs().len(), ffa.machine.pins());
        let handle = guest.share(&all).unwrap();
        assert_eq!(functions(&ffa.machine, before.0), [Function::MemShare]);
        assert_eq!(ffa.machine.pins(), before.1 + 100);
        let expected: Vec<_> = all
            .iter()
            .map(|&at| vm.host.physical(at).unwrap().get())
            .collect();
        assert!(ffa.machine.buffers(1).contains(&expected));
        assert!(!vm.host.unmap_unpinned(all[99]));
        assert_eq!(guest.unshare(handle), Ok(()));
        assert_eq!(ffa.machine.pins(), before.1);
        assert!(vm.host.unmap_unpinned(all[99]));
        vm.end();
    }
}

/// However the descriptor is cut, the SPMC gets it whole.
#[test]
fn descriptor_in_fragments_is_as_good_as_a_whole_one() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.vm(1);
        let guest = vm.guest();
        // Not one after the other, so each has a range.
        let mut all = pages(guest.alloc(60), 60);
        all.reverse();
        let bytes = guest.descriptor(&all);
        assert_eq!(bytes.len(), 96 + 60 * 16);
        for fragment in [1, 7, 48, 80, 96, 100, 1000, bytes.len()] {
            let before = ffa.machine.smcs().len();
            let handle = guest.send_descriptor(&bytes, fragment).unwrap();
            assert_eq!(functions(&ffa.machine, before), [Function::MemShare]);
            assert_eq!(guest.unshare(handle), Ok(()));
        }
        vm.end();
    }
}

#[test]
fn descriptor_of_version_1_1_is_read_as_such() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.bare(1, Config::default());
        let guest = crate::fake::Guest::with_version(&vm.host, &vm.mediator, Version::V1_1);
        let handle = guest.share(&pages(guest.alloc(3), 3)).unwrap();
        assert_eq!(guest.unshare(handle), Ok(()));
        vm.end();
    }
}

/// It is the guest's and its driver's business, and OP-TEE gets a descriptor without it.
#[test]
fn what_a_receiver_has_for_itself_is_ignored() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.vm(1);
        let guest = vm.guest();
        let mut bytes = guest.descriptor(&pages(guest.alloc(2), 2));
        bytes[56..72].fill(0xa5);
        for fragment in [bytes.len(), 60] {
            let handle = guest.send_descriptor(&bytes, fragment).unwrap();
            assert_eq!(guest.unshare(handle), Ok(()));
        }
        vm.end();
    }
}

/// Changes to a descriptor of two pages: an offset and what is there in its place.
fn damages() -> Vec<(usize, Vec<u8>)> {
    let u16 = |at, value: u16| (at, value.to_le_bytes().to_vec());
    let u32 = |at, value: u32| (at, value.to_le_bytes().to_vec());
    let u64 = |at, value: u64| (at, value.to_le_bytes().to_vec());
    let mut all = Vec::new();
    // The sender, the attributes, the flags, the handle, the tag.
    all.extend([0, 2, 0x8001, 0x8000, 0xffff].map(|id| u16(0, id)));
    all.extend([0, 0x6f, 0x27, 0x1f, 0x2e, 0x12f].map(|bits| u16(2, bits)));
    all.extend([1, 2, 1 << 3, 1 << 31].map(|flags| u32(4, flags)));
    all.extend([1, 1 << 44, 1 << 63, u64::MAX].map(|handle| u64(8, handle)));
    all.extend([1, u64::MAX].map(|tag| u64(16, tag)));
    // Size, count and offset of the receivers' records, and what is reserved. Of 16 bytes it would say the same.
    all.extend([0, 15, 17, 31, 33, 255, u32::MAX].map(|size| u32(24, size)));
    all.extend([0, 2, 3, 1 << 28, u32::MAX].map(|count| u32(28, count)));
    all.extend([0, 8, 16, 47, 64, 0xfff0, u32::MAX].map(|offset| u32(32, offset)));
    all.extend([1].map(|reserved| u32(36, reserved)));
    // The receiver's id, permissions, flags, and its composite's offset.
    all.extend([0, 1, 2, 0x8000, 0x8002].map(|id| u16(48, id)));
    all.extend([0, 1, 3, 6, 10].map(|permissions| (50, Vec::from([permissions]))));
    all.extend([1, 0x80].map(|flags| (51, Vec::from([flags]))));
    all.extend([0, 8, 48, 64, 79, 88, 96, 112, u32::MAX, u32::MAX - 15].map(|at| u32(52, at)));
    // The composite: pages and ranges.
    all.extend([0, 1, 3, u32::MAX].map(|total| u32(80, total)));
    all.extend([0, 1, 3, 1 << 28, u32::MAX].map(|count| u32(84, count)));
    // The first range: its address and its number of pages.
    let wrong = [1, 8, 0x800, u64::MAX - 0xfff, u64::MAX];
    all.extend(wrong.map(|offset| u64(96, RAM_BASE.wrapping_add(offset))));
    all.extend([0, 2, u32::MAX, u32::MAX - 1].map(|count| u32(104, count)));
    all
}

#[test]
fn descriptor_that_is_wrong_anywhere_pins_nothing_and_reaches_nobody() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.vm(1);
        let guest = vm.guest();
        // Two ranges, since they are not neighbours.
        let own = pages(guest.alloc(3), 3);
        let bytes = guest.descriptor(&[own[0], own[2]]);
        assert_eq!(bytes.len(), 128);
        let before = (ffa.machine.smcs().len(), vm.baseline());
        for (at, value) in damages() {
            let mut wrong = bytes.clone();
            wrong[at..at + value.len()].copy_from_slice(&value);
            for fragment in [wrong.len(), 64, 100] {
                let sent = guest.send_descriptor(&wrong, fragment);
                let denied = [INVALID, ErrorCode::DENIED, ErrorCode::NO_MEMORY];
                let code = sent.expect_err(&format!("{at}: {value:x?}"));
                assert!(denied.contains(&code), "{at}: {value:x?}: {code}");
                assert_eq!(vm.baseline(), before.1, "{at}: {value:x?}");
            }
        }
        assert_eq!(functions(&ffa.machine, before.0), []);
        works(&vm);
        vm.end();
    }
}

#[test]
fn pages_that_are_not_the_guests_are_denied() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let (vm, other) = (ffa.vm(1), ffa.vm(2));
        let guest = vm.guest();
        let own = guest.alloc(3);
        let before = (ffa.machine.smcs().len(), vm.baseline());
        let (tx, rx, _) = Machine::exchange_buffers();
        let physical = other.host.physical(Ipa::new(RAM_BASE)).unwrap().get();
        let behind = RAM_BASE + PAGES * PAGE_SIZE;
        for address in [
            0,
            0x0e10_0000,
            0x4200_0000,
            physical,
            tx.get(),
            rx.get(),
            behind,
        ] {
            for at in 0..3 {
                let mut all = pages(own, 3);
                all[at] = Ipa::new(address);
                assert_eq!(guest.share(&all), Err(ErrorCode::DENIED), "{address:#x}");
                assert_eq!(vm.baseline(), before.1);
            }
        }
        assert_eq!(functions(&ffa.machine, before.0), []);
        works_and_ends(other);
        vm.end();
    }
}

#[test]
fn same_page_in_several_objects_is_pinned_until_the_last_ends() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.vm(1);
        let guest = vm.guest();
        let page = guest.alloc(1);
        let before = vm.host.pins();
        let twice = guest.share(&[page, page]).unwrap();
        let once = guest.share(&[page]).unwrap();
        assert_eq!(vm.host.pins(), before + 3);
        assert_eq!(guest.unshare(twice), Ok(()));
        assert!(!vm.host.unmap_unpinned(page));
        assert_eq!(guest.unshare(once), Ok(()));
        assert!(vm.host.unmap_unpinned(page));
        vm.end();
    }
}

#[test]
fn page_that_is_pinned_too_often_leaves_no_pin() {
    let ffa = Ffa::new(Manner::OpTee);
    let vm = ffa.vm(1);
    let guest = vm.guest();
    let page = guest.alloc(2);
    ffa.machine.limit_pins(3);
    let before = vm.baseline();
    let all = [Ipa::new(page.get() + PAGE_SIZE), page, page, page, page];
    assert_eq!(guest.share(&all), Err(ErrorCode::NO_MEMORY));
    assert_eq!(vm.baseline(), before);
    vm.end();
}

/// OP-TEE breaks when a VM asks for a 65th object.
#[test]
fn objects_are_bounded_below_what_optee_has_room_for() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let (vm, other) = (ffa.vm(1), ffa.vm(2));
        let guest = vm.guest();
        let page = guest.alloc(1);
        let mut handles = Vec::new();
        let refused = loop {
            match guest.share(&[page]) {
                Ok(handle) => handles.push(handle),
                Err(code) => break code,
            }
        };
        assert_eq!(refused, ErrorCode::NO_MEMORY);
        assert!((32..64).contains(&handles.len()), "{}", handles.len());
        let before = ffa.machine.smcs().len();
        for _ in 0..1000 {
            assert_eq!(guest.share(&[page]), Err(ErrorCode::NO_MEMORY));
        }
        assert_eq!(functions(&ffa.machine, before), []);
        assert!(ffa.machine.object_count(1) < 64);
        // Calls go on, and so do neighbours.
        works_and_ends(other);
        for &handle in &handles {
            assert_eq!(guest.unshare(handle), Ok(()));
        }
        works(&vm);
        vm.end();
    }
}

fn read(answer: Registers) -> Result<MemSendAnswer, AnswerError> {
    MemSendAnswer::read(&answer, Version::V1_2)
}

#[test]
fn fragments_that_do_not_fit_are_refused_and_leave_nothing() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.vm(1);
        let guest = vm.guest();
        let own = pages(guest.alloc(3), 3);
        let bytes = guest.descriptor(&[own[0], own[2]]);
        let before = ffa.machine.smcs().len();
        let (pins, buffers) = (vm.host.pins(), vm.stats().buffers);
        let begin = || match read(guest.send_first(&bytes, 100)) {
            Ok(MemSendAnswer::Continue(MemFragRx { handle, .. })) => handle,
            other => panic!("{other:?}"),
        };
        let refused = Err(AnswerError::Refused(INVALID));
        // Of another handle: unknown, finished, one of the SPMC's.
        let handle = begin();
        for wrong in [
            0,
            1,
            handle.get() ^ 1,
            handle.get() & !(1 << 63),
            1 << 44 | 1 << 16,
        ] {
            let answer = read(guest.send_next(Handle::new(wrong), &bytes[100..]));
            assert_eq!(answer, refused);
        }
        // Nothing, and more than there is.
        assert_eq!(read(guest.send_next(handle, &[])), refused);
        let mut more = bytes[100..].to_vec();
        more.push(0);
        assert_eq!(read(guest.send_next(handle, &more)), refused);
        // Many that never end: each takes the place of the last.
        for _ in 0..1000 {
            begin();
        }
        assert_eq!(vm.host.pins(), pins);
        assert!(vm.stats().buffers <= buffers + 1);
        assert_eq!(functions(&ffa.machine, before), []);
        // A whole one ends that, too.
        let whole = guest.send_descriptor(&bytes, bytes.len()).unwrap();
        assert_eq!(guest.unshare(whole), Ok(()));
        works(&vm);
        vm.end();
    }
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.vm(1);
        let guest = vm.guest();
        let bytes = guest.descriptor(&pages(guest.alloc(2), 2));
        let before = (ffa.machine.smcs().len(), vm.baseline());
        let length = bytes.len() as u32;
        vm.host.poke(guest.tx(), &bytes);
        for (total_length, fragment_length) in [
            (length, length + 1),
            (length, 0),
            (0, 0),
            (u32::MAX, u32::MAX),
            (0x1_0001, 0x1_0001),
            (length - 1, length - 1),
            (length + 1, length + 1),
        ] {
            let answer = guest.ask(&Request::MemSend(MemSend {
                kind: MemSendKind::Share,
                width: Width::Smc32,
                total_length,
                fragment_length,
                buffer: None,
            }));
            let code = read_success(&answer, Version::V1_2);
            let refused =
                [INVALID, ErrorCode::NO_MEMORY].map(|code| Err(AnswerError::Refused(code)));
            assert!(
                refused.contains(&code),
                "{total_length} {fragment_length}: {code:?}"
            );
            assert_eq!(vm.baseline(), before.1);
        }
        // A buffer that is not TX.
        for buffer in [
            DescriptorBuffer {
                address: RAM_BASE,
                pages: 1,
            },
            DescriptorBuffer {
                address: 0,
                pages: 1,
            },
            DescriptorBuffer {
                address: 1 << 63,
                pages: u32::MAX,
            },
        ] {
            let answer = guest.ask(&Request::MemSend(MemSend {
                kind: MemSendKind::Share,
                width: Width::Smc64,
                total_length: length,
                fragment_length: length,
                buffer: Some(buffer),
            }));
            let code = read_success(&answer, Version::V1_2);
            assert_eq!(code, Err(AnswerError::Refused(INVALID)));
        }
        assert_eq!(functions(&ffa.machine, before.0), []);
        vm.end();
    }
}

#[test]
fn descriptor_is_fetched_once() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.vm(1);
        let guest = vm.guest();
        let mut all = pages(guest.alloc(40), 40);
        all.reverse();
        let bytes = guest.descriptor(&all);
        for fragment in [bytes.len(), 96, 33] {
            ffa.machine.scramble(true);
            let handle = guest.send_descriptor(&bytes, fragment);
            ffa.machine.scramble(false);
            let expected: Vec<_> = all
                .iter()
                .map(|&at| vm.host.physical(at).unwrap().get())
                .collect();
            assert!(ffa.machine.buffers(1).contains(&expected));
            assert_eq!(guest.unshare(handle.unwrap()), Ok(()));
        }
        vm.end();
    }
}

#[test]
fn buffers_of_the_driver_stay_pinned_while_they_are_mapped() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.vm(1);
        let guest = vm.guest();
        let bytes = guest.descriptor(&pages(guest.alloc(1), 1));
        let unmap = Request::RxtxUnmap(EndpointId::HYPERVISOR);
        for page in 0..32 {
            let page = Ipa::new(guest.tx().get() + page * PAGE_SIZE);
            assert!(!vm.host.unmap_unpinned(page));
        }
        assert_eq!(guest.done(&Request::RxtxUnmap(OTHER)), Err(INVALID));
        assert_eq!(guest.done(&unmap), Ok(()));
        assert_eq!(guest.done(&unmap), Err(INVALID));
        // Without a buffer there is no descriptor.
        assert_eq!(guest.send_descriptor(&bytes, bytes.len()), Err(INVALID));
        assert!(vm.host.unmap_unpinned(guest.tx()));
        vm.end();
    }
}

/// Calls may name all of an object, however its descriptor has come, and nothing behind it.
#[test]
fn object_is_as_large_as_its_pages() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.vm(1);
        let guest = vm.guest();
        let bytes = guest.descriptor(&pages(guest.alloc(3), 3));
        let message = guest.alloc(1);
        for fragment in [bytes.len(), 100] {
            let handle = guest.send_descriptor(&bytes, fragment).unwrap();
            let run = |size| {
                let param = Param::new(Attr::RMEM_INPUT, 0, size, handle);
                guest.write_message(message, Command::INVOKE, SESSION, &[param]);
                guest.run(message).header.ret.get()
            };
            assert_eq!(run(3 * PAGE_SIZE), 0, "{fragment}");
            assert_ne!(run(3 * PAGE_SIZE + 1), 0, "{fragment}");
            assert_eq!(guest.unshare(handle), Ok(()));
        }
        vm.end();
    }
}

/// The quota of pages bounds objects that arrive in fragments as it bounds others.
#[test]
fn quota_of_pages_bounds_objects() {
    const MOST: u32 = 20;
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let quotas = Quotas {
            pages: MOST,
            ..Quotas::default()
        };
        let config = Config {
            quotas,
            ..Config::default()
        };
        let vm = ffa.bare(1, config);
        let guest = vm.guest();
        let at = guest.alloc(MOST.into());
        let one = guest.share(&[at]).unwrap();
        let before = vm.baseline();
        for size in [MOST - 2, MOST - 1, MOST] {
            let bytes = guest.descriptor(&pages(at, size.into()));
            for fragment in [bytes.len(), 100] {
                let shared = guest.send_descriptor(&bytes, fragment);
                assert_eq!(shared.is_ok(), size < MOST, "{size} in {fragment}");
                match shared {
                    Ok(handle) => {
                        let stats = vm.stats();
                        assert_eq!(stats.pages_pinned, u64::from(size) + 1);
                        assert_eq!(stats.pages_pinned_max, stats.pages_pinned);
                        assert_eq!(guest.unshare(handle), Ok(()));
                    }
                    Err(code) => assert_eq!(code, ErrorCode::NO_MEMORY),
                }
                assert_eq!(vm.baseline(), before);
            }
        }
        assert_eq!(guest.unshare(one), Ok(()));
        vm.end();
    }
}
