// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Something that happens while a call is in OP-TEE.

use super::Vm;
use crate::addr::{Ipa, Pa};
use crate::{ForeignInterrupt, GuestMemoryError, Host, Leak, PinError, SecureMonitor, SharedPage};
use core::cell::RefCell;
use optee_proto::Uuid;

/// The VM's host, but before each SMC something happens on another pCPU.
struct During<'a, F> {
    vm: &'a Vm,
    happens: RefCell<F>,
}

/// One SMC of the guest's; `happens` whenever that leads to an SMC to OP-TEE.
pub(crate) fn during_smc(vm: &Vm, regs: [u64; 8], happens: impl FnMut(&Vm)) -> [u64; 4] {
    let host = During {
        vm,
        happens: RefCell::new(happens),
    };
    vm.mediator.smc(&host, &regs)
}

impl<F: FnMut(&Vm)> SecureMonitor for During<'_, F> {
    fn smc(&self, args: [u64; 8]) -> [u64; 8] {
        (self.happens.borrow_mut())(self.vm);
        self.vm.host.smc(args)
    }
}

impl<F: FnMut(&Vm)> Host for During<'_, F> {
    fn read_guest(&self, from: Ipa, into: &mut [u8]) -> Result<(), GuestMemoryError> {
        self.vm.host.read_guest(from, into)
    }

    fn write_guest(&self, to: Ipa, bytes: &[u8]) -> Result<(), GuestMemoryError> {
        self.vm.host.write_guest(to, bytes)
    }

    fn pin(&self, page: Ipa) -> Result<Pa, PinError> {
        self.vm.host.pin(page)
    }

    fn unpin(&self, page: Ipa) {
        self.vm.host.unpin(page);
    }

    fn alloc_shared(&self) -> Option<SharedPage> {
        self.vm.host.alloc_shared()
    }

    fn clear_shared(&self, page: &SharedPage) {
        self.vm.host.clear_shared(page);
    }

    fn free_shared(&self, page: SharedPage) {
        self.vm.host.free_shared(page);
    }

    fn read_shared(&self, page: &SharedPage, offset: usize, into: &mut [u8]) {
        self.vm.host.read_shared(page, offset, into);
    }

    fn write_shared(&self, page: &SharedPage, offset: usize, bytes: &[u8]) {
        self.vm.host.write_shared(page, offset, bytes);
    }

    fn write_tx(&self, offset: usize, bytes: &[u8]) {
        self.vm.host.write_tx(offset, bytes);
    }

    fn take_interrupts(&self) {
        self.vm.host.take_interrupts();
    }

    fn foreign_interrupt(&self) -> ForeignInterrupt {
        self.vm.host.foreign_interrupt()
    }

    fn report_leak(&self, what: Leak, app: Uuid) {
        self.vm.host.report_leak(what, app);
    }
}
