// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The VM's state by itself.

use super::*;
use crate::mapped_pages::MappedPages;
use crate::sessions::Session;

const NONE: Quotas = Quotas {
    buffers: 0,
    pages: 0,
    calls: 0,
    sessions: 0,
    rpc_buffers: 0,
    mapped_pages: 0,
    max_leaked_asids: 0,
    address_spaces: 0,
};

/// How many more bytes of the heap a VM may take with more of something.
fn more(change: impl Fn(&mut Quotas)) -> u64 {
    let mut quotas = NONE;
    change(&mut quotas);
    VmState::heap_bytes(&quotas) - VmState::heap_bytes(&NONE)
}

/// The same for a list of 60, which begins with room for four and doubles.
fn sixty<T>() -> u64 {
    let (entry, room) = (size_of::<T>().next_power_of_two() as u64, 64 - 4);
    entry * room * 3 / 2
}

/// What the mediator promises to make do with follows from each quota, and from nothing else.
#[test]
fn heap_bytes_follow_from_each_quota() {
    // A word a page, twice where a block is half empty, and a page of a list for 511.
    assert_eq!(more(|quotas| quotas.pages = 2 * 511), 2 * (8 * 511 + 16));
    assert_eq!(more(|quotas| quotas.sessions = 60), sixty::<Session>());
    let rpc = more(|quotas| quotas.rpc_buffers = 60);
    assert_eq!(rpc, table_of_sixty::<Option<RpcBuffer>>());
    let pages = 60 * 2 * 8;
    let buffers = more(|quotas| quotas.buffers = 60);
    assert_eq!(
        buffers,
        table_of_sixty::<Buffer>() + pages + sixty::<Cookie>()
    );
    let call = (size_of::<Call>() as u64).next_power_of_two() + 16;
    let calls = |number| more(|quotas| quotas.calls = number);
    assert_eq!(calls(60), 60 * call + 5 * sixty::<(u64, SharedPage)>());
    assert_eq!(calls(MAX_CALLS + 1), calls(MAX_CALLS));
    assert!(calls(MAX_CALLS - 1) < calls(MAX_CALLS));
}

/// A hypervisor is told the same sum.
#[test]
fn quotas_heap_bytes_equal_vm_state_heap_bytes() {
    for quotas in [NONE, Quotas::default()] {
        assert_eq!(quotas.heap_bytes(), VmState::heap_bytes(&quotas));
    }
}

/// OP-TEE gives a borrowed mediator page back by the name that it got, once.
#[test]
fn lent_page_returns_by_its_name() {
    let mut vm_state = VmState::new(Quotas::default(), MemoryNames::Guest);
    vm_state.suspended = (0..2).map(|_| None).collect();
    let page = |at| SharedPage::new(crate::addr::Pa::new(at));
    let first = vm_state.lend(page(0x1000)).unwrap();
    let second = vm_state.lend(page(0x2000)).unwrap();
    assert_ne!(first, second);
    assert_eq!(
        vm_state.lend(page(0x3000)),
        Err(page(0x3000)),
        "one per call"
    );
    assert_eq!(vm_state.take_lent(second + 1), None);
    assert_eq!(vm_state.take_lent(second), Some(page(0x2000)));
    assert_eq!(vm_state.take_lent(second), None);
    assert_eq!(vm_state.take_lent(first), Some(page(0x1000)));
}

/// What OP-TEE may still use is told when it does not let go of a VM.
#[test]
fn held_counts_buffers_rpc_memory_and_calls() {
    let mut vm_state = VmState::new(Quotas::default(), MemoryNames::Guest);
    vm_state.suspended = (0..2).map(|_| None).collect();
    assert_eq!(vm_state.held(), 0);
    for name in 0..3 {
        let cookie = vm_state.reserve(GuestCookie(name), Provenance::Registered, 4096, 0, 1);
        cookie.unwrap();
    }
    assert_eq!(vm_state.held(), 3);
    for name in 0..5 {
        assert!(vm_state.rpc_buffers.insert(GuestCookie(name), None).is_ok());
    }
    assert_eq!(vm_state.held(), 3 + 5);
    let page = SharedPage::new(crate::addr::Pa::new(0x1000));
    vm_state.lend(page).unwrap();
    assert_eq!(vm_state.held(), 3 + 5 + 1);
}

fn table_of_sixty<T>() -> u64 {
    Table::<T>::heap_bytes(60) - Table::<T>::heap_bytes(0)
}

/// OP-TEE is asked to forget what it knows, what the guest registered, and what no call uses.
#[test]
fn teardown_unregisters_only_live_unused_registered_buffers() {
    for state in [
        BufferState::Coming,
        BufferState::Live,
        BufferState::Going,
        BufferState::Gone,
    ] {
        for provenance in [Provenance::Registered, Provenance::Allocated] {
            for users in [0, 1] {
                let mut vm_state = VmState::new(Quotas::default(), MemoryNames::Guest);
                let cookie = vm_state.reserve(GuestCookie(7), provenance, 4096, 0, 1);
                let cookie = cookie.unwrap();
                let buffer = vm_state.buffers.get(cookie).unwrap().1;
                (buffer.state, buffer.users) = (state, users);
                let is_fit =
                    (state, provenance, users) == (BufferState::Live, Provenance::Registered, 0);
                assert_eq!(vm_state.begin_internal_unregister(cookie), is_fit);
                let after = vm_state.buffers.get(cookie).unwrap().1.state;
                assert_eq!(after, if is_fit { BufferState::Going } else { state });
            }
        }
    }
    let mut vm_state = VmState::new(Quotas::default(), MemoryNames::Guest);
    let gone = vm_state.reserve(GuestCookie(7), Provenance::Registered, 4096, 0, 1);
    let gone = gone.unwrap();
    vm_state.remove(gone).unwrap();
    assert!(!vm_state.begin_internal_unregister(gone));
}

/// Pages that may be mapped, of which calls hold some.
const MOST: u32 = 40;

fn with_kept(pages: u32) -> VmState {
    let quotas = Quotas {
        mapped_pages: MOST,
        ..Quotas::default()
    };
    let mut vm_state = VmState::new(quotas, MemoryNames::Guest);
    let mut call = MappedPages::default();
    ask(&mut vm_state, &mut call, pages);
    vm_state.unmap(&mut call);
    assert_eq!((vm_state.mapped(), call.all()), (pages, 0));
    vm_state
}

/// Requests pages during a call, as OP-TEE does.
fn ask(vm_state: &mut VmState, call: &mut MappedPages, pages: u32) -> Cookie {
    let asked = Provenance::Allocated;
    let cookie = vm_state.reserve(GuestCookie(7), asked, u64::from(pages) * 4096, 0, pages);
    vm_state.add_requested(call, pages);
    cookie.unwrap()
}

/// Returns whether a call that passes this many pages may wait for others, or `None` if it need not wait.
fn waits(vm_state: &mut VmState, pages: u32) -> Option<bool> {
    let mut call = MappedPages::default();
    let mapped = vm_state.map(&mut call, pages, 1, None);
    vm_state.unmap(&mut call);
    mapped.err().map(|why| why == MapError::Temporary)
}

#[test]
fn map_waits_exactly_for_pages_that_calls_hold() {
    let mut vm_state = with_kept(30);
    let mut other = MappedPages::default();
    vm_state.map(&mut other, 5, 1, None).unwrap();
    assert_eq!(waits(&mut vm_state, 5), None);
    assert_eq!(waits(&mut vm_state, 6), Some(true));
    assert_eq!(waits(&mut vm_state, 10), Some(true));
    assert_eq!(waits(&mut vm_state, 11), Some(false));
    assert_eq!(waits(&mut vm_state, u32::MAX), Some(false));
    vm_state.unmap(&mut other);
    assert_eq!(waits(&mut vm_state, 10), None);
    assert_eq!(waits(&mut vm_state, 11), Some(false));
}

#[test]
fn returned_pages_are_not_waited_for() {
    let mut vm_state = with_kept(30);
    let (mut one, mut other) = (MappedPages::default(), MappedPages::default());
    let asked = ask(&mut vm_state, &mut one, 5);
    assert_eq!((one.all(), waits(&mut vm_state, 10)), (5, Some(true)));
    vm_state.remove(asked).unwrap();
    vm_state.subtract_requested(&mut one, 5);
    let mut held = MappedPages::default();
    vm_state.map(&mut held, 4, 1, None).unwrap();
    assert_eq!((one.all(), waits(&mut vm_state, 11)), (0, Some(false)));
    // In another call than the one that it has asked in.
    let asked = ask(&mut vm_state, &mut one, 3);
    vm_state.remove(asked).unwrap();
    vm_state.subtract_requested(&mut other, 3);
    assert_eq!((one.all(), other.all(), vm_state.mapped()), (3, 0, 34));
    vm_state.unmap(&mut one);
    vm_state.unmap(&mut other);
    vm_state.unmap(&mut held);
    assert_eq!((vm_state.mapped(), waits(&mut vm_state, 10)), (30, None));
}
