// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The [`Host`] of one VM in the fake machine.

use super::machine::{FakeHost, Machine};
use crate::addr::{Ipa, PAGE_SIZE, Pa};
use crate::host::{
    ForeignInterrupt, GuestMemoryError, Host, Leak, LongOperation, PinError, SecureMonitor,
    SharedPage,
};
use crate::teardown::EndingHost;
use alloc::format;
use alloc::vec::Vec;
use optee_proto::Uuid;

impl SecureMonitor for FakeHost {
    fn smc(&self, args: [u64; 8]) -> [u64; 8] {
        let mut state = self.machine.state();
        state.smcs.push(args);
        if state.by_ffa {
            return super::monitor::smc(&mut state, self.vm, args);
        }
        let [x0, x1, x2, x3] = super::tee::smc(&mut state, self.vm, args);
        [x0, x1, x2, x3, 0, 0, 0, 0]
    }
}

impl EndingHost for FakeHost {}

impl FakeHost {
    /// Returns the most pages that were pinned or unpinned since the last question without taking interrupts in between.
    pub fn longest_stretch(&self) -> usize {
        self.machine.state().ram.longest_stretch()
    }

    /// Returns the operations since the last question that may take long.
    pub fn long_operations(&self) -> Vec<LongOperation> {
        core::mem::take(&mut self.machine.state().long_operations)
    }
}

impl Host for FakeHost {
    fn read_guest(&self, from: Ipa, into: &mut [u8]) -> Result<(), GuestMemoryError> {
        let mut state = self.machine.state();
        let pa = state
            .ram
            .translate(self.vm, from)
            .ok_or(GuestMemoryError(from))?;
        if !state.ram.read(pa, into) {
            state.violate(format!("read_guest({from}, {}) crosses a page", into.len()));
            return Err(GuestMemoryError(from));
        }
        if state.scramble {
            state
                .ram
                .write(pa, &into.iter().map(|byte| !byte).collect::<Vec<u8>>());
        }
        let range = from.get()..from.get() + into.len() as u64;
        while let Some(at) = state.flips.iter().position(|(at, _)| range.contains(at)) {
            let (at, bytes) = state.flips.remove(at);
            if let Some(pa) = state.ram.translate(self.vm, Ipa::new(at)) {
                state.ram.write(pa, &bytes);
            }
        }
        Ok(())
    }

    fn write_guest(&self, to: Ipa, bytes: &[u8]) -> Result<(), GuestMemoryError> {
        let mut state = self.machine.state();
        state.check_leak("write_guest", bytes);
        let pa = state
            .ram
            .translate(self.vm, to)
            .ok_or(GuestMemoryError(to))?;
        if !state.ram.write(pa, bytes) {
            state.violate(format!("write_guest({to}, {}) crosses a page", bytes.len()));
        }
        Ok(())
    }

    fn pin(&self, page: Ipa) -> Result<Pa, PinError> {
        let mut state = self.machine.state();
        assert!(page.is_page_aligned());
        let at = state
            .ram
            .translate(self.vm, page)
            .ok_or(PinError::NotOwnMemory(page))?;
        if state.ram.pins(at) >= state.max_pins {
            return Err(PinError::TooManyPins(page));
        }
        state.ram.pin(at);
        Ok(Pa::new(at))
    }

    fn unpin(&self, page: Ipa) {
        let mut state = self.machine.state();
        let at = state.ram.translate(self.vm, page);
        let Some(at) = at.filter(|&at| state.ram.unpin(at)) else {
            state.violate(format!("unpin({page}): not pinned"));
            return;
        };
        let free = state.ram.pins(at) == 0;
        if let Some(text) = free.then(|| state.tee.use_of(at)).flatten() {
            state.violate(text);
        }
    }

    fn alloc_shared(&self) -> Option<SharedPage> {
        let mut state = self.machine.state();
        state.shared_left = state.shared_left.checked_sub(1)?;
        Some(SharedPage::new(Pa::new(state.ram.share(self.vm))))
    }

    fn free_shared(&self, page: SharedPage) {
        let mut state = self.machine.state();
        let at = page.pa().get();
        if !state.ram.unshare(self.vm, at) {
            state.violate(format!("free_shared({at:#x}): not shared"));
        }
        state.shared_left += 1;
        if let Some(text) = state.tee.use_of(at) {
            state.violate(text);
        }
    }

    fn clear_shared(&self, page: &SharedPage) {
        self.write_shared(page, 0, &[0; PAGE_SIZE as usize]);
        let mut state = self.machine.state();
        let at = page.pa().get();
        if state.by_ffa {
            // OP-TEE may map it all the time, and use it now or not.
            let spmc = state.spmc.as_ref();
            let objects = spmc.map(|spmc| spmc.objects());
            let mut with = state.tee.objects_with(at);
            let is_active = with.any(|handle| objects.is_some_and(|all| all.is_active(handle)));
            let is_used = is_active || state.tee.has_message(at);
            drop(with);
            if is_used {
                state.violate(format!("the page {at:#x} is used when it is cleared"));
            }
        } else if let Some(text) = state.tee.use_of(at) {
            state.violate(text);
        }
    }

    fn read_shared(&self, page: &SharedPage, offset: usize, into: &mut [u8]) {
        let mut state = self.machine.state();
        if !state.ram.read(page.pa().get() + offset as u64, into) {
            state.violate(format!("read_shared({page:?}, {offset}, {})", into.len()));
        }
    }

    fn write_shared(&self, page: &SharedPage, offset: usize, bytes: &[u8]) {
        let mut state = self.machine.state();
        if !state.ram.write(page.pa().get() + offset as u64, bytes) {
            state.violate(format!("write_shared({page:?}, {offset}, {})", bytes.len()));
        }
    }

    fn write_tx(&self, offset: usize, bytes: &[u8]) {
        let (tx, _, pages) = Machine::exchange_buffers();
        let size = bytes.len();
        let mut state = self.machine.state();
        if !state.by_ffa || offset + size > usize::from(pages) * PAGE_SIZE as usize {
            state.violate(format!("write_tx({offset}, {size})"));
            return;
        }
        state.ram.write_all(tx.get() + offset as u64, bytes);
    }

    fn take_interrupts(&self) {
        self.machine.state().ram.take_interrupts();
    }

    fn long_operation<T>(&self, what: LongOperation, act: impl FnOnce() -> T) -> T {
        self.machine.state().long_operations.push(what);
        act()
    }

    fn foreign_interrupt(&self) -> ForeignInterrupt {
        self.machine
            .state()
            .foreign
            .pop_front()
            .unwrap_or(ForeignInterrupt::ReturnToGuest)
    }

    fn report_leak(&self, what: Leak, app: Uuid) {
        self.machine.state().report_leak.push((what, app));
    }
}
