// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The mediator's interface to this hypervisor.

use super::{exchange, secure_entries};
use crate::irq::sections;
use crate::sched::masked::Cause;
use crate::vm::context_switch;
use crate::vm::frames::SharedPool;
use crate::vm::instance::Vm;
use crate::vm::pcpu::{LiveState, here};
use crate::vm::vectors;
use mediator::addr::{Ipa, PAGE_SIZE, Pa};
use mediator::{
    EndingCall, EndingHost, ForeignInterrupt, GuestMemoryError, Host, Leak, LongOperation,
    Mediator, PinError, SecureMonitor, SharedPage,
};
use optee_proto::Uuid;
use postern_arch::{debug, guest_ram, smc};
use postern_console::log::Level;
use spin::Once;

/// The pages that the mediators share with OP-TEE: shadow pages and rebuilt page lists. The pool
/// has as many pages as all VMs together may use, so no VM can take another's.
pub static SHARED_PAGES: Once<SharedPool> = Once::new();

/// What continues a call of a VM that ends.
type StepCall = fn(&Mediator, &VmHost, EndingCall);

static STEP_CALL: Once<StepCall> = Once::new();

/// Sets what continues a call of a VM that ends: [`EndingCall::step`] as the image compiles it. The mediator's code for a
/// call is generic and would be compiled a second time here. Once, at boot.
pub fn continue_ending_calls_by(step: StepCall) {
    STEP_CALL.call_once(|| step);
}

/// Makes one call to the secure world.
#[inline]
pub fn secure_call(args: [u64; 8]) -> [u64; 8] {
    smc::call(args)
}

/// Calls the secure world where this pCPU holds state of a vCPU that the call must not see, or not change. OP-TEE
/// saves V registers before it uses them, and changes the rest of the Z registers by that.
#[cold]
fn apart<T>(live: LiveState, enter: impl FnOnce() -> T) -> T {
    vectors::save(here());
    if live.contains(LiveState::DEBUG) {
        debug::quietly(enter)
    } else {
        enter()
    }
}

/// One VM, on the current pCPU.
pub struct VmHost {
    /// The VM whose memory and pins the mediator uses.
    pub vm: &'static Vm,
}

impl SecureMonitor for VmHost {
    #[inline]
    fn smc(&self, args: [u64; 8]) -> [u64; 8] {
        let enter = || secure_entries::here().around(|| secure_call(args));
        let live = here().live.get();
        if live.is_empty() {
            return enter();
        }
        apart(live, enter)
    }
}

impl Host for VmHost {
    #[inline]
    #[allow(unsafe_code, reason = "a second check is 10 % of a short call")]
    fn read_guest(&self, from: Ipa, into: &mut [u8]) -> Result<(), GuestMemoryError> {
        let at = self
            .vm
            .memory
            .translate(from, into.len() as u64)
            .ok_or(GuestMemoryError(from))?;
        // SAFETY: `translate` found the whole range in this VM's RAM, which was opened at boot.
        unsafe { guest_ram::read_open(at, into) };
        Ok(())
    }

    #[inline]
    #[allow(unsafe_code, reason = "as in `read_guest`")]
    fn write_guest(&self, to: Ipa, bytes: &[u8]) -> Result<(), GuestMemoryError> {
        let at = self
            .vm
            .memory
            .translate(to, bytes.len() as u64)
            .ok_or(GuestMemoryError(to))?;
        // SAFETY: as in `read_guest`.
        unsafe { guest_ram::write_open(at, bytes) };
        Ok(())
    }

    #[inline]
    fn pin(&self, page: Ipa) -> Result<Pa, PinError> {
        self.vm.memory.pin(page)
    }

    #[inline]
    fn unpin(&self, page: Ipa) {
        self.vm.memory.unpin(page);
    }

    fn alloc_shared(&self) -> Option<SharedPage> {
        let page = SHARED_PAGES.get()?.allocate()?;
        guest_ram::zero(page, PAGE_SIZE);
        Some(SharedPage::new(page))
    }

    #[inline]
    fn clear_shared(&self, page: &SharedPage) {
        guest_ram::zero(page.pa(), PAGE_SIZE);
    }

    fn free_shared(&self, page: SharedPage) {
        if let Some(pages) = SHARED_PAGES.get() {
            let freed = pages.free(page.pa());
            // Without the error in the text: to format it takes 600 bytes.
            assert!(
                freed.is_ok(),
                "the type of a shared page permits one release"
            );
        }
    }

    #[inline]
    fn read_shared(&self, page: &SharedPage, offset: usize, into: &mut [u8]) {
        assert!(offset + into.len() <= PAGE_SIZE as usize);
        guest_ram::read(Pa::new(page.pa().get() + offset as u64), into);
    }

    #[inline]
    fn write_shared(&self, page: &SharedPage, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= PAGE_SIZE as usize);
        guest_ram::write(Pa::new(page.pa().get() + offset as u64), bytes);
    }

    fn write_tx(&self, offset: usize, bytes: &[u8]) {
        exchange::write_tx(offset, bytes);
    }

    fn take_interrupts(&self) {
        sections::take_pending();
    }

    fn foreign_interrupt(&self) -> ForeignInterrupt {
        sections::take_pending();
        match here().current.get() {
            Some(running) if !context_switch::guest_must_run(running) => ForeignInterrupt::Resume,
            // Without a vCPU, a VM is being torn down: its next step follows after the waiting
            // work.
            _ => ForeignInterrupt::ReturnToGuest,
        }
    }

    #[inline]
    fn long_operation<T>(&self, what: LongOperation, act: impl FnOnce() -> T) -> T {
        let cause = match what {
            LongOperation::Reserve => Cause::Prepare,
            LongOperation::Import => Cause::TakeIn,
            LongOperation::Unpin => Cause::Unpin,
        };
        sections::lengthy(cause, act)
    }

    fn report_leak(&self, what: Leak, app: Uuid) {
        match what {
            Leak::Session => self.vm.log(
                Level::Warn,
                format_args!("OP-TEE has not closed a session with application {app}"),
            ),
            Leak::Application => self.vm.log(
                Level::Info,
                format_args!("OP-TEE keeps application {app} in memory"),
            ),
        }
    }
}

impl EndingHost for VmHost {
    fn step_call(&self, mediator: &Mediator, call: EndingCall) {
        match STEP_CALL.get() {
            Some(step) => step(mediator, self, call),
            None => unreachable!("the image says at boot how calls are continued"),
        }
    }
}
