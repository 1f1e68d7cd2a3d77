// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The exception vectors.

use super::world::{CallFrame, Frame};
use super::{barrier, stack};
use crate::vm::Exit;
use aarch64_cpu::registers::VBAR_EL2;
use core::arch::global_asm;
use tock_registers::interfaces::Writeable;

global_asm!(
    include_str!("vectors.S"),
    guest_smc = sym guest_smc,
    guest_hvc = sym guest_hvc,
    after_call = sym after_call,
    guest_sync = sym guest_sync,
    guest_irq = sym guest_irq,
    guest_serror = sym guest_serror,
    first_guest = sym first_guest,
    el2_exception = sym el2_exception,
    spare_stack_top = sym stack::SPARE_STACK_TOP,
);

unsafe extern "C" {
    // In the package `postern`, for how they are compiled.
    fn guest_smc(frame: &mut CallFrame) -> bool;
    fn guest_hvc(frame: &mut CallFrame) -> bool;
    static vectors: u8;
    fn enter_first_guest(stack_top: u64) -> !;
}

/// Points this pCPU at the vectors.
pub fn install() {
    VBAR_EL2.set((&raw const vectors) as u64);
    barrier::isb();
}

/// Leaves the boot path of pCPU `index` for good: its stack starts anew, and the scheduler runs.
pub fn enter_scheduler(index: usize) -> ! {
    // SAFETY: the stack is this pCPU's own, and nothing on it is used any more: we never return.
    unsafe { enter_first_guest(stack::top(index)) }
}

/// An SMC. Whether there is more to do before the guest goes on, for which `after_call` has the whole frame.
#[inline]
pub fn smc(frame: &mut CallFrame) -> bool {
    crate::trap::handler::call(frame, Exit::Smc)
}

/// As [`smc`], for an HVC.
#[inline]
pub fn hvc(frame: &mut CallFrame) -> bool {
    crate::trap::handler::call(frame, Exit::Hvc)
}

extern "C" fn after_call(frame: &mut Frame) {
    crate::sched::run::before_return(frame);
}

extern "C" fn guest_sync(frame: &mut Frame) {
    crate::trap::handler::synchronous(frame);
}

extern "C" fn guest_irq(frame: &mut Frame) {
    crate::trap::handler::interrupt(frame);
}

extern "C" fn guest_serror(frame: &mut Frame) {
    crate::trap::handler::system_error(frame);
}

extern "C" fn first_guest(frame: &mut Frame) {
    crate::sched::run::first(frame);
}

extern "C" fn el2_exception(kind: u64, esr: u64, elr: u64, far: u64, sp: u64) -> ! {
    let image = super::mmu::image().start;
    panic!(
        "exception {kind} in EL2: ESR {esr:#x}, at {elr:#x} (image + {:#x}), FAR {far:#x}, SP {sp:#x}",
        elr.wrapping_sub(image)
    )
}
