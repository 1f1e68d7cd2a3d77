// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The exception vectors.

use super::{barrier, percpu, stack};
use aarch64_cpu::registers::VBAR_EL2;
use core::arch::global_asm;
use tock_registers::interfaces::Writeable;

global_asm!(
    include_str!("vectors.S"),
    el2_exception = sym el2_exception,
    spare_stack_top = sym stack::SPARE_STACK_TOP,
);

unsafe extern "C" {
    static vectors: u8;
    fn enter_first_guest(stack_top: u64) -> !;
}

/// Names the functions that the vectors call. For the image, once, which is compiled for speed.
///
/// - `smc` and `hvc` get the head of the frame of a call with immediate zero. They return whether there is more to do
///   before the guest goes on: `after_call` does that, with the whole frame.
/// - `synchronous`, `interrupt` and `system_error` get the frame at any other exit.
/// - `first` fills the frame of the first vCPU of a pCPU.
#[macro_export]
macro_rules! vectors {
    (
        smc: $smc:path,
        hvc: $hvc:path,
        after_call: $after_call:path,
        synchronous: $synchronous:path,
        interrupt: $interrupt:path,
        system_error: $system_error:path,
        first: $first:path $(,)?
    ) => {
        #[unsafe(no_mangle)]
        extern "C" fn guest_smc(frame: &mut $crate::vcpu_context::CallFrame) -> bool {
            $smc(frame)
        }

        #[unsafe(no_mangle)]
        extern "C" fn guest_hvc(frame: &mut $crate::vcpu_context::CallFrame) -> bool {
            $hvc(frame)
        }

        #[unsafe(no_mangle)]
        extern "C" fn guest_call_end(frame: &mut $crate::vcpu_context::Frame) {
            $after_call(frame);
        }

        #[unsafe(no_mangle)]
        extern "C" fn guest_sync(frame: &mut $crate::vcpu_context::Frame) {
            $synchronous(frame);
        }

        #[unsafe(no_mangle)]
        extern "C" fn guest_irq(frame: &mut $crate::vcpu_context::Frame) {
            $interrupt(frame);
        }

        #[unsafe(no_mangle)]
        extern "C" fn guest_serror(frame: &mut $crate::vcpu_context::Frame) {
            $system_error(frame);
        }

        #[unsafe(no_mangle)]
        extern "C" fn first_guest(frame: &mut $crate::vcpu_context::Frame) {
            $first(frame);
        }
    };
}

/// Points this pCPU at the vectors.
pub fn install() {
    VBAR_EL2.set((&raw const vectors) as u64);
    barrier::isb();
}

/// Leaves the boot path of this pCPU for good: its stack starts anew, and the scheduler runs.
pub fn enter_scheduler() -> ! {
    // SAFETY: the stack is this pCPU's own, and nothing on it is used any more: we never return.
    unsafe { enter_first_guest(stack::top(percpu::id())) }
}

extern "C" fn el2_exception(kind: u64, esr: u64, elr: u64, far: u64, sp: u64) -> ! {
    let image = super::mmu::image().start;
    panic!(
        "exception {kind} in EL2: ESR {esr:#x}, at {elr:#x} (image + {:#x}), FAR {far:#x}, SP {sp:#x}",
        elr.wrapping_sub(image)
    )
}
