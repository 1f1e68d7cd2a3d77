// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pages that are shared with OP-TEE on a VM's behalf.

use super::{SESSION, Vm, vm};
use crate::Config;
use crate::addr::PAGE_SIZE;
use crate::fake::{Guest, Machine, Step};
use alloc::vec;
use alloc::vec::Vec;
use optee_proto::msg::{Attr, Command, Param};
use optee_proto::rpc::{self, Function, SHM_TYPE_APPL};
use optee_proto::smc;

/// The most that a VM can have shared is what [`crate::Mediator::shared_pages_max`] says, but for
/// the pages that are kept at hand.
#[test]
fn vm_stays_within_its_shared_pages() {
    let mut config = Config::default();
    (config.quotas.rpc_buffers, config.quotas.pages) = (2, 100);
    let vm = Vm::new(&Machine::new(), 1, config);
    let guest = vm.guest();
    for _ in 0..2 {
        let steps = [
            Step::ShmAlloc(SHM_TYPE_APPL, 10),
            Step::FreeRpc,
            Step::Command(rpc::Command::FS, vec![]),
        ];
        vm.host.machine().script(1, steps);
        let at = guest.alloc(1);
        let list = guest.page_list(&[at]);
        let param = Param::new(Attr::PAGE_LIST, list.get(), PAGE_SIZE, Guest::cookie(at));
        let allocate = |regs: [u64; 4]| {
            assert_eq!(regs[0], Function::ALLOC.a0());
            let at = guest.alloc(1);
            let ((a1, a2), (a4, a5)) = (smc::pair(at.get()), smc::pair(Guest::cookie(at)));
            (at, guest.resume(regs[3], [a1, a2, a4, a5]))
        };
        let begun = guest.begin(guest.message(Command::REGISTER_SHM, 0, &[param]));
        let (request, regs) = allocate(begun);
        guest.answer(&guest.read_message(request));
        let free = guest.resume(regs[3], [0; 4]);
        assert_eq!(free[0], Function::FREE.a0());
        let (_, regs) = allocate(guest.resume(free[3], [0; 4]));
        assert_eq!(regs[0], Function::CMD.a0());
    }
    let most = vm.mediator.shared_pages_max() as usize;
    assert_eq!(vm.host.shared_pages() + crate::pages::SPARE_PAGES, most);
    vm.end();
}

/// A VM keeps a few pages at hand, and no more, however many it had.
#[test]
fn surplus_pages_go_back_to_the_hypervisor() {
    use crate::pages::SPARE_PAGES;
    let vm = vm();
    let before = vm.host.shared_pages();
    let take = || vm.mediator.take_page(&vm.host).unwrap();
    let pages: Vec<_> = (0..2 * SPARE_PAGES).map(|_| take()).collect();
    for page in pages {
        vm.mediator.give_page(&vm.host, page);
    }
    let at_hand = vm.host.shared_pages() - before;
    assert!(at_hand <= SPARE_PAGES, "{at_hand}");
    vm.end();
}

/// All pages that a VM may share can lie in lists of one buffer: a page for each that is full.
#[test]
fn each_full_list_of_pages_has_a_page() {
    let most = |pages| {
        let mut config = Config::default();
        config.quotas.pages = pages;
        Vm::new(&Machine::new(), 1, config)
            .mediator
            .shared_pages_max()
    };
    let entries = optee_proto::msg::PAGE_LIST_ENTRIES as u32;
    assert_eq!(most(entries), most(0) + 1);
    assert_eq!(most(3 * entries - 1), most(0) + 2);
}

/// The list that named a buffer's pages to OP-TEE is free when the buffer is, however long the call
/// goes on.
#[test]
fn page_list_is_freed_with_its_buffer() {
    let vm = vm();
    let steps = [Step::ShmAlloc(0, 10), Step::ShmFree(0, 0)];
    vm.host.machine().script(1, steps);
    let guest = vm.guest();
    guest.run_with(
        guest.message(Command::INVOKE, SESSION, &[]),
        |guest, request| {
            vm.host.machine().limit_shared_pages(100);
            if request.command() == rpc::Command::SHM_FREE {
                // Only what was given back is there for another list.
                vm.host.machine().limit_shared_pages(0);
                assert_eq!(guest.register(1).1, 0);
            }
            false
        },
    );
    assert_eq!(guest.requests.lock().len(), 2);
    vm.end();
}
