// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How large an object and its descriptor may be, and how long it takes at most.

use super::*;
use crate::ffa::{Answer, GuestRegisters};
use crate::host::LongOperation;
use ffa_proto::answer::read_success;
use ffa_proto::call::{MemFragTx, MemSend, MemSendAnswer, MemSendKind};
use ffa_proto::{AnswerError, Handle, Request, Version, Width};

/// The most pages of an object: 16 MiB.
const MOST_PAGES: u32 = if cfg!(miri) { 600 } else { 4096 };

/// The most ranges of a descriptor for the SPMC, which has to fit into the hypervisor's TX buffer. No two pages of a fake VM are
/// neighbours physically.
const MOST_RANGES: u32 = if cfg!(miri) { 600 } else { 4090 };

/// The most bytes of a descriptor: a range per page, and what is before them.
const MOST_BYTES: u32 = 128 + 16 * MOST_PAGES;

/// The bytes of the TX buffer.
const TX_BYTES: u32 = 0x1_0000;

/// The most pages that are pinned or unpinned before interrupts are taken.
const MOST_AT_ONCE: usize = 512;

/// Where the composite's number of pages is in a descriptor, and that of its first range.
const TOTAL_AT: usize = 80;
const COUNT_AT: usize = 104;

/// The descriptor of pages next to each other, as one range.
fn one_range(guest: &crate::fake::Guest<'_>, at: Ipa, count: u32) -> Vec<u8> {
    let mut bytes = guest.descriptor(&[at]);
    for field in [TOTAL_AT, COUNT_AT] {
        bytes[field..field + 4].copy_from_slice(&count.to_le_bytes());
    }
    bytes
}

fn begin(guest: &crate::fake::Guest<'_>, total: u32, length: u32) -> Registers {
    guest.ask(&Request::MemSend(MemSend {
        kind: MemSendKind::Share,
        width: Width::Smc32,
        total_length: total,
        fragment_length: length,
        buffer: None,
    }))
}

#[test]
fn object_has_a_largest_size_and_is_pinned_in_pieces() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.sized(1, Config::default(), u64::from(MOST_PAGES) + 100);
        let guest = vm.guest();
        let at = guest.alloc(u64::from(MOST_PAGES) + 1);
        let before = vm.baseline();
        for fragment in [1000, 100] {
            let share = |count| {
                vm.host.longest_stretch();
                let handle = guest.send_descriptor(&one_range(&guest, at, count), fragment);
                (handle, vm.host.longest_stretch())
            };
            // Not one page is pinned.
            let refused = (Err(ErrorCode::NO_MEMORY), 0);
            assert_eq!(share(MOST_PAGES + 1), refused);
            assert_eq!(vm.baseline(), before);
            // The descriptor for the SPMC has no room for more.
            if MOST_RANGES < MOST_PAGES {
                for count in [MOST_RANGES + 1, MOST_PAGES] {
                    let refused = (Err(ErrorCode::NO_MEMORY), MOST_AT_ONCE);
                    assert_eq!(share(count), refused);
                    assert_eq!(vm.baseline(), before);
                }
            }
            let (handle, stretch) = share(MOST_RANGES);
            assert_eq!(stretch, MOST_AT_ONCE);
            assert_eq!(vm.stats().pages_pinned, MOST_RANGES.into());
            assert_eq!(guest.reclaim(handle.unwrap()), Ok(()));
            assert_eq!(vm.host.longest_stretch(), MOST_AT_ONCE);
            assert_eq!(vm.baseline(), before);
        }
        vm.end();
    }
}

/// What is behind the limit is refused before anything is fetched or reserved.
#[test]
fn descriptor_has_a_largest_length() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.vm(1);
        let guest = vm.guest();
        let bytes = guest.descriptor(&[guest.alloc(1)]);
        vm.host.poke(guest.tx(), &bytes);
        let before = vm.baseline();
        let answer = read_success(&begin(&guest, MOST_BYTES + 1, 48), Version::V1_2);
        assert_eq!(answer, Err(AnswerError::Refused(ErrorCode::NO_MEMORY)));
        assert_eq!(vm.baseline(), before);
        let answer = MemSendAnswer::read(&begin(&guest, MOST_BYTES, 48), Version::V1_2);
        assert!(
            matches!(answer, Ok(MemSendAnswer::Continue(_))),
            "{answer:?}"
        );
        vm.end();
    }
}

/// A fragment may fill the TX buffer.
#[test]
fn fragment_is_as_long_as_the_buffer_at_most() {
    if MOST_BYTES <= TX_BYTES + 48 {
        return;
    }
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.sized(1, Config::default(), u64::from(MOST_PAGES) + 100);
        let guest = vm.guest();
        let at = guest.alloc(1);
        // The same page again and again.
        let bytes = guest.descriptor(&Vec::from([at; 4096]));
        let (first, total) = (bytes.len() as u32 - TX_BYTES, bytes.len() as u32);
        let refused = Err(AnswerError::Refused(ErrorCode::INVALID_PARAMETERS));
        vm.host.poke(guest.tx(), &bytes[..TX_BYTES as usize]);
        let answer = read_success(&begin(&guest, total, TX_BYTES + 1), Version::V1_2);
        assert_eq!(answer, refused);
        // As the first one, and as the last one.
        for first in [TX_BYTES, first] {
            let (head, rest) = bytes.split_at(first as usize);
            vm.host.poke(guest.tx(), head);
            let begun = MemSendAnswer::read(&begin(&guest, total, first), Version::V1_2);
            let Ok(MemSendAnswer::Continue(next)) = begun else {
                panic!("{begun:?}");
            };
            assert_eq!(next.offset, first);
            let sent = read_success(&guest.send_next(next.handle, rest), Version::V1_2);
            // The descriptor for the SPMC has no room for that many ranges.
            let full = Err(AnswerError::Refused(ErrorCode::NO_MEMORY));
            assert_eq!(sent, full);
            assert_eq!(vm.stats().pages_pinned, 0);
        }
        // A longer one behind a short one.
        vm.host.poke(guest.tx(), &bytes[..48]);
        let begun = MemSendAnswer::read(&begin(&guest, MOST_BYTES, 48), Version::V1_2);
        let Ok(MemSendAnswer::Continue(next)) = begun else {
            panic!("{begun:?}");
        };
        let answer = guest.ask(&Request::MemFragTx(MemFragTx {
            handle: next.handle,
            length: TX_BYTES + 1,
            sender: VM,
        }));
        assert_eq!(read_success(&answer, Version::V1_2), refused);
        vm.end();
    }
}

/// A fragment comes from the guest, which may name itself or nobody.
#[test]
fn fragment_of_another_sender_is_refused() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.vm(1);
        let guest = vm.guest();
        let bytes = guest.descriptor(&[guest.alloc(1)]);
        for (sender, is_right) in [
            (EndpointId::HYPERVISOR, true),
            (VM, true),
            (OTHER, false),
            (PARTITION, false),
            (SPMC, false),
        ] {
            let begun = MemSendAnswer::read(&guest.send_first(&bytes, 60), Version::V1_2);
            let Ok(MemSendAnswer::Continue(next)) = begun else {
                panic!("{begun:?}");
            };
            vm.host.poke(guest.tx(), &bytes[60..]);
            let (handle, length) = (next.handle, bytes.len() as u32 - 60);
            let fragment = MemFragTx {
                handle,
                length,
                sender,
            };
            let answer = guest.ask(&Request::MemFragTx(fragment));
            let answer = MemSendAnswer::read(&answer, Version::V1_2);
            if is_right {
                assert_eq!(answer, Ok(MemSendAnswer::Done(handle)), "{sender:?}");
                assert_eq!(guest.reclaim(Handle::get(handle)), Ok(()));
            } else {
                let refused = AnswerError::Refused(ErrorCode::INVALID_PARAMETERS);
                assert_eq!(answer, Err(refused), "{sender:?}");
            }
        }
        vm.end();
    }
}

/// A descriptor may be longer than a page, also in one fragment.
#[test]
fn descriptor_in_one_fragment_may_be_longer_than_a_page() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.vm(1);
        let guest = vm.guest();
        // Not one after the other, so each has a range.
        let mut all = pages(guest.alloc(300), 300);
        all.reverse();
        let before = vm.stats().pages_pinned;
        // Of 250 ranges it is a page.
        for count in [249, 250, 251, 300] {
            let handle = guest.share(&all[..count]).unwrap();
            assert_eq!(vm.stats().pages_pinned, before + count as u64);
            assert_eq!(guest.reclaim(handle), Ok(()));
            assert_eq!(vm.stats().pages_pinned, before, "{count}");
        }
        vm.end();
    }
}

/// A guest that begins anew need not ask twice.
#[test]
fn new_descriptor_takes_the_place_of_one_in_fragments_at_once() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.vm(1);
        let guest = vm.guest();
        let bytes = guest.descriptor(&[guest.alloc(1)]);
        let length = bytes.len() as u32;
        let before = vm.stats().buffers;
        for (first, buffers) in [(length, before + 1), (60, before + 2)] {
            guest.send_first(&bytes, 60);
            vm.host.poke(guest.tx(), &bytes);
            let call = MemSend {
                kind: MemSendKind::Share,
                width: Width::Smc32,
                total_length: length,
                fragment_length: first,
                buffer: None,
            };
            let mut x = Request::MemSend(call).encode().to_8();
            let registers = GuestRegisters {
                x: &mut x,
                more: &mut [0; 10],
            };
            assert_eq!(vm.mediator.ffa(&vm.host, registers), Answer::Done);
            let answer = MemSendAnswer::read(&Registers::from_8(x), Version::V1_2);
            assert!(answer.is_ok(), "{answer:?}");
            assert_eq!(vm.stats().buffers, buffers);
        }
        vm.end();
    }
}

/// The hypervisor measures what may take long.
#[test]
fn many_pages_are_a_long_operation() {
    for manner in MANNERS {
        let ffa = Ffa::new(manner);
        let vm = ffa.vm(1);
        let guest = vm.guest();
        let all = pages(guest.alloc(33), 33);
        for (count, is_long) in [(1, false), (31, false), (32, true), (33, true)] {
            vm.host.long_operations();
            let handle = guest.share(&all[..count]).unwrap();
            let import = vm.host.long_operations();
            assert_eq!(guest.reclaim(handle), Ok(()));
            let unpin = vm.host.long_operations();
            let expected = |what| {
                if is_long {
                    Vec::from([what])
                } else {
                    Vec::new()
                }
            };
            assert_eq!(import, expected(LongOperation::Import), "{count}");
            assert_eq!(unpin, expected(LongOperation::Unpin), "{count}");
        }
        vm.end();
    }
}
