// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Page lists: every length, every fault, and no pin left behind.

use super::{BAD, Vm, vm};
use crate::Config;
use crate::addr::{Ipa, PAGE_SIZE};
use crate::fake::{Machine, RAM_BASE};
use alloc::vec::Vec;
use optee_proto::TeeResult;
use optee_proto::msg::{Attr, Command, Param, SESSION_OFFSET};

/// Pages of a list with more than one page of its own; under Miri, which is slow, with one.
const LONG: usize = if cfg!(miri) { 70 } else { 600 };

#[test]
fn page_lists_around_511_entries_are_imported() {
    let vm = Vm::with_pages(&Machine::new(), 1, Config::default(), 8000);
    let guest = vm.guest();
    let lengths = [1, 64, 65, 511, 512, 63, 448, 510, 575, 1022, 1023];
    for &pages in &lengths[..if cfg!(miri) { 3 } else { lengths.len() }] {
        let (cookie, result) = guest.register(pages);
        assert_eq!((result, vm.stats().pages_pinned), (0, pages), "{pages}");
        assert_eq!(guest.unregister(cookie), 0);
    }
    assert_eq!(vm.stats().pages_pinned, 0);

    if cfg!(miri) {
        return vm.end();
    }
    // What is behind the last entry is not looked at.
    let pages: Vec<Ipa> = (0..511).map(|_| guest.alloc(1)).collect();
    let list = guest.page_list(&pages);
    vm.host
        .poke(Ipa::new(list.get() + 511 * 8), &0x0bad_u64.to_le_bytes());
    let param = Param::new(Attr::PAGE_LIST, list.get(), 511 * PAGE_SIZE, 9);
    let message = guest.message(Command::REGISTER_SHM, 0, &[param]);
    assert_eq!(guest.run(message).header.ret.get(), 0);
    vm.end();
}

/// 64 MiB in one registration: in steps between which the guest runs.
#[test]
fn large_buffer_is_registered_in_steps() {
    let pages = if cfg!(miri) { 140 } else { 16_384 };
    let vm = Vm::with_pages(&Machine::new(), 1, Config::default(), pages + 100);
    let guest = vm.guest();
    let before = vm.host.machine().smcs().len();
    let (cookie, result) = guest.register(pages);
    assert_eq!(
        (result, vm.stats().pages_pinned, vm.host.machine().pins()),
        (0, pages, pages)
    );
    // Interrupted before OP-TEE heard of it, and then one SMC.
    assert_eq!(vm.host.machine().smcs().len(), before + 1);
    assert_eq!(guest.unregister(cookie), 0);
    assert_eq!(vm.host.machine().pins(), 0);
    vm.end();
}

#[test]
fn offsets_and_sizes() {
    let vm = vm();
    let guest = vm.guest();
    let at = guest.alloc(2);
    let both = guest.page_list(&[at, at.checked_add(PAGE_SIZE).unwrap()]);
    let try_it = |pointer: u64, size: u64, cookie: u64| {
        let param = Param::new(Attr::PAGE_LIST, pointer, size, cookie);
        let message = guest.message(Command::REGISTER_SHM, 0, &[param]);
        guest.run(message).header.ret.get()
    };
    for (pointer, size, pages) in [
        (both.get(), 1, 1),
        (both.get() + 0xfff, 1, 1),
        (both.get() + 0xfff, 2, 2),
        (both.get() + 0x800, PAGE_SIZE, 2),
    ] {
        assert_eq!(try_it(pointer, size, 9), 0);
        assert_eq!(vm.stats().pages_pinned, pages);
        assert_eq!(guest.unregister(9), 0);
    }
    for (pointer, size, cookie) in [
        (both.get(), 0, 9),
        (both.get(), 1, 0),
        (0, 1, 9),
        (both.get(), u64::MAX, 9),
        (both.get() + 0xfff, u64::MAX, 9),
        (both.get() + 0xfff, u64::MAX - 0xfff, 9),
    ] {
        assert_eq!(
            try_it(pointer, size, cookie),
            BAD,
            "{pointer:#x} {size:#x} {cookie}"
        );
    }
    // More than the quota, however it is written.
    for size in [1 << 32, 1 << 43, (1 << 28) + 1] {
        assert_eq!(
            try_it(both.get(), size, 9),
            TeeResult::OUT_OF_MEMORY.0,
            "{size:#x}"
        );
    }
    assert_eq!((vm.stats().pages_pinned, vm.stats().buffers), (0, 0));
    vm.end();
}

#[test]
fn bad_page_lists_leave_nothing_pinned() {
    let vm = Vm::with_pages(&Machine::new(), 1, Config::default(), 3000);
    let before = vm.baseline();
    let guest = vm.guest();
    let good: Vec<Ipa> = (0..LONG).map(|_| guest.alloc(1)).collect();
    let end = RAM_BASE + 3000 * PAGE_SIZE;
    let bad = [
        0,
        0x0900_0000,
        0x4200_0000,
        0x28_6000_0000,
        RAM_BASE + 1,
        end,
        1 << 44,
        u64::MAX << 12,
    ];
    let positions = [0, 511, 63, 64, 510, 599];
    let positions = positions.into_iter().filter(|&at| at < LONG);
    for (position, bad) in positions.zip(bad.into_iter().cycle()) {
        let mut pages = good.clone();
        pages[position] = Ipa::new(bad);
        let list = guest.page_list(&pages);
        let param = Param::new(Attr::PAGE_LIST, list.get(), LONG as u64 * PAGE_SIZE, 9);
        let message = guest.message(Command::REGISTER_SHM, 0, &[param]);
        assert_eq!(
            guest.run(message).header.ret.get(),
            BAD,
            "{position} {bad:#x}"
        );
        assert_eq!(vm.baseline(), before);
    }
    if cfg!(miri) {
        return vm.end();
    }
    // Links: to itself (a bounded loop of valid entries), to a device, not aligned.
    let list = guest.page_list(&good);
    let register = |link: u64| {
        vm.host
            .poke(Ipa::new(list.get() + 511 * 8), &link.to_le_bytes());
        let param = Param::new(Attr::PAGE_LIST, list.get(), 600 * PAGE_SIZE, 9);
        guest
            .run(guest.message(Command::REGISTER_SHM, 0, &[param]))
            .header
            .ret
            .get()
    };
    assert_eq!(register(0x0900_0000), BAD);
    assert_eq!(register(list.get() + 8), BAD);
    assert_eq!(register(0), BAD);
    assert_eq!(vm.baseline(), before);
    assert_eq!(register(list.get()), 0);
    assert_eq!(guest.unregister(9), 0);
    assert_eq!(vm.baseline(), before);
    vm.end();
}

#[test]
fn a_page_may_be_shared_twice() {
    let vm = vm();
    let guest = vm.guest();
    let at = guest.alloc(1);
    let list = guest.page_list(&[at, at, at]);
    for cookie in [5, 6] {
        let param = Param::new(Attr::PAGE_LIST, list.get(), 3 * PAGE_SIZE, cookie);
        let message = guest.message(Command::REGISTER_SHM, 0, &[param]);
        assert_eq!(guest.run(message).header.ret.get(), 0);
    }
    assert_eq!(vm.host.machine().pins(), 6);
    assert_eq!(guest.unregister(5), 0);
    assert_eq!(vm.host.machine().pins(), 3);
    // Until it is shared too often.
    vm.host.machine().limit_pins(5);
    let param = Param::new(Attr::PAGE_LIST, list.get(), 3 * PAGE_SIZE, 5);
    let message = guest.message(Command::REGISTER_SHM, 0, &[param]);
    assert_eq!(
        guest.run(message).header.ret.get(),
        TeeResult::OUT_OF_MEMORY.0
    );
    assert_eq!(vm.host.machine().pins(), 3);
    vm.end();
}

/// What the guest writes into its list while or after it is read changes nothing.
#[test]
fn page_lists_are_read_once() {
    let vm = Vm::with_pages(&Machine::new(), 1, Config::default(), 2000);
    let guest = vm.guest();
    vm.host.machine().scramble(true);
    let pages = if cfg!(miri) { 513 } else { 600 };
    assert_eq!(guest.register(pages).1, 0);
    assert_eq!(vm.host.machine().registered(1), 1);
    assert_eq!(vm.host.machine().pins(), pages);
    vm.end();
}

#[cfg(not(miri))]
#[test]
fn the_hypervisor_runs_out_of_pages() {
    let vm = Vm::with_pages(&Machine::new(), 1, Config::default(), 800);
    let guest = vm.guest();
    let before = vm.baseline();
    vm.host.machine().limit_shared_pages(1);
    let full = TeeResult::OUT_OF_MEMORY.0;
    assert_eq!(guest.register(600).1, full);
    assert_eq!(vm.baseline(), before);
    assert_eq!(guest.register(6).1, 0);
    vm.end();
}

/// Pages and buffers come back to the baseline however often a registration fails half-way.
#[test]
fn repeated_failures_leave_no_residue() {
    let vm = vm();
    let guest = vm.guest();
    let before = vm.baseline();
    let at = guest.alloc(1);
    let list = guest.page_list(&[at, at, Ipa::new(0x4020_0000)]);
    let param = Param::new(Attr::PAGE_LIST, list.get(), 3 * PAGE_SIZE, 9);
    let message = guest.message(Command::REGISTER_SHM, 0, &[param]);
    for _ in 0..if cfg!(miri) { 5 } else { 20_000 } {
        guest.begin(message);
    }
    assert_eq!(vm.baseline(), before);
    assert_eq!(guest.read_message(message).header.ret.get(), BAD);
    // Nothing but the result was written.
    assert_eq!(guest.read_message(message).params[0], param);
    let mut session = [0; 4];
    vm.host.peek(
        message.checked_add(SESSION_OFFSET as u64).unwrap(),
        &mut session,
    );
    assert_eq!(session, [0; 4]);
    vm.end();
}
