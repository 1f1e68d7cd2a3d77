// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The handlers of all exits from guests. Each exit ends in [`run::before_return`].

use super::{dispatch, guest_exception, host_cpu, mmio, run};
use crate::irq::{owners, sections};
use crate::lifecycle::transitions;
use crate::sched::masked::Cause;
use crate::sched::run_queues::PcpuRequests;
use crate::vm::instance::{ExitReason, GuestAnomaly, VcpuRef};
use crate::vm::pcpu::{Pcpu, here};
use crate::vm::{context_switch, cpu_interface, debug, physical_timer, scheduler, vectors};
use aarch64_cpu::registers::{ESR_EL2, FAR_EL2, HPFAR_EL2};
use mediator::addr::Ipa;
use postern_arch::timer;
use postern_arch::vcpu_context::{CallFrame, Frame};
use postern_console::log::{Level, LogOnce};
use postern_exceptions::decode::{
    DeviceAccess, Esr, Fault, GuestVa, Hpfar, SysRegAccess, Trap, class,
};
use postern_exceptions::inject::Exception;
use postern_exceptions::serror::{Reaction, Severity};
use postern_exceptions::sysreg::{self, Outcome};
use tock_registers::interfaces::Readable;

/// Answers an SMC with immediate zero. Returns whether more work is due before the guest continues,
/// which [`run::before_return`] does with the whole frame.
#[inline]
pub fn smc(frame: &mut CallFrame) -> bool {
    call(frame, ExitReason::Smc)
}

/// Answers an HVC with immediate zero, like [`smc`].
#[inline]
pub fn hvc(frame: &mut CallFrame) -> bool {
    call(frame, ExitReason::Hvc)
}

// The guest's PC is already past the instruction.
#[inline]
fn call(frame: &mut CallFrame, exit: ExitReason) -> bool {
    let here = here();
    let running = running(here);
    running.vcpu.count(exit);
    dispatch::dispatch(frame, running);
    context_switch::has_exit_work(here, running)
}

/// Handles a synchronous exit other than a call with immediate zero, such as a trapped access or
/// WFI.
// Not inlined into the image, which is compiled for speed.
#[inline(never)]
pub fn synchronous(frame: &mut Frame) {
    let since = timer::now();
    let here = here();
    let running = running(here);
    let esr = Esr::new(ESR_EL2.get());
    let far = GuestVa::new(FAR_EL2.get());
    if let Some(access) = DeviceAccess::decode(esr, Hpfar::new(HPFAR_EL2.get()), far) {
        device_access(frame, running, access, esr.instruction_length());
        return run::before_return_from_trap(frame, here, running, since);
    }
    match esr.class() {
        class::SMC => {
            running.vcpu.count(ExitReason::Smc);
            undefined(frame);
        }
        class::HVC => {
            running.vcpu.count(ExitReason::Hvc);
            // The PC is already past the HVC.
            frame.step_back(4);
            undefined(frame);
        }
        class::SYSTEM_REGISTER => system_register(frame, running, esr),
        _ => other(frame, running, esr, far),
    }
    run::before_return_from_trap(frame, here, running, since);
}

/// Handles a physical interrupt.
pub fn interrupt(frame: &mut Frame) {
    sections::open();
    running(here()).vcpu.count(ExitReason::Irq);
    owners::take_pending();
    sections::end_part(Cause::Interrupt);
    run::before_return_in_section(frame);
}

/// Handles an SError that was taken while a guest ran. Its cause may be elsewhere: a guest without
/// devices of its own can reach nothing that raises one on purpose. The SError is reported as the
/// machine's, and the VM stops only if the syndrome says that the running software consumed the error.
///
/// # Panics
/// The error may have spread to EL2, and the guest has no device that can be its cause.
// Not inlined, as `synchronous`.
#[inline(never)]
pub fn system_error(frame: &mut Frame) {
    static OTHERS: LogOnce = LogOnce::new();
    let here = here();
    let running = running(here);
    let esr = Esr::new(ESR_EL2.get());
    let severity = Severity::of(esr);
    let is_new = match severity {
        Severity::Contained => running.vm.log_once(GuestAnomaly::SystemError),
        _ => OTHERS.record(),
    };
    if is_new {
        running.vm.log(
            Level::Warn,
            format_args!(
                "SError {:#x}, {}, while it ran on CPU {}",
                esr.get(),
                severity.name(),
                here.id().get()
            ),
        );
    }
    match severity.reaction(running.vm.mapping.has_devices()) {
        Reaction::Continue => {}
        Reaction::EndVm => transitions::lost_state(running.vm),
        Reaction::Panic => panic!("SError {:#x}: the error is not contained", esr.get()),
    }
    run::before_return(frame);
}

#[inline]
fn running(here: &Pcpu) -> VcpuRef {
    here.current
        .get()
        .expect("a guest was running, or there would be no exit from it")
}

/// Injects an Undefined exception for a call with a non-zero immediate, which SMCCC reserves
/// (DEN0028E 2.9).
fn undefined(frame: &mut Frame) {
    guest_exception::inject(frame, Exception::Undefined);
}

/// Performs an access to a device, or refuses it.
#[inline]
fn device_access(frame: &mut Frame, running: VcpuRef, access: DeviceAccess, length: u64) {
    let DeviceAccess {
        ipa,
        transfer,
        write,
        va,
    } = access;
    if is_mapped(running, ipa) {
        return;
    }
    running.vcpu.count(ExitReason::Mmio);
    match mmio::access(frame, running, ipa, transfer, write) {
        mmio::AccessResult::Completed => frame.skip(length),
        mmio::AccessResult::Retry => {}
        mmio::AccessResult::Unmapped => refuse_access(frame, running, ipa.get(), va, write),
    }
}

// Not inlined, so that an access to a device does not save registers for it.
#[inline(never)]
fn other(frame: &mut Frame, running: VcpuRef, esr: Esr, far: GuestVa) {
    let trap = Trap::decode(esr, Hpfar::new(HPFAR_EL2.get()), far);
    if is_spurious_fault(&trap, running) {
        return;
    }
    match trap {
        Trap::Wfi => {
            running.vcpu.count(ExitReason::Wfx);
            frame.skip(esr.instruction_length());
            context_switch::wait_for_interrupt(running);
        }
        Trap::Wfe => {
            running.vcpu.count(ExitReason::Wfx);
            frame.skip(esr.instruction_length());
            scheduler::request(PcpuRequests::RESCHEDULE);
        }
        // No access to a device, or `device_access` has performed it.
        Trap::DataAbort(abort) => {
            let at = abort.ipa.map_or(far.get(), Ipa::get);
            refuse_access(frame, running, at, abort.va, abort.write);
        }
        Trap::InstructionAbort(abort) => {
            running.vcpu.count(ExitReason::Abort);
            if running.vm.log_once(GuestAnomaly::Abort) {
                let text = format_args!("executes outside its memory at {far:?}");
                running.vm.log(Level::Warn, text);
            }
            guest_exception::inject(frame, Exception::InstructionAbort { va: abort.va });
        }
        Trap::Fp | Trap::Sve if vectors::load(running) => running.vcpu.count(ExitReason::Other),
        _ => {
            running.vcpu.count(ExitReason::Other);
            if running.vm.log_once(GuestAnomaly::Instruction) {
                running.vm.log(
                    Level::Warn,
                    format_args!(
                        "undefined: {trap} (ESR {:#x}) at {:#x}",
                        esr.get(),
                        frame.pc
                    ),
                );
            }
            guest_exception::inject(frame, Exception::Undefined);
        }
    }
}

/// Returns whether the fault is on RAM that the VM has: another vCPU was changing the tables around
/// it, which makes entries invalid for a short time. The guest retries.
#[inline]
fn is_spurious_fault(trap: &Trap, running: VcpuRef) -> bool {
    let (ipa, fault) = match trap {
        Trap::DataAbort(abort) => (abort.ipa, abort.fault),
        Trap::InstructionAbort(abort) => (abort.ipa, abort.fault),
        _ => return false,
    };
    fault == Fault::Translation && ipa.is_some_and(|ipa| is_mapped(running, ipa))
}

/// Returns whether a byte is RAM that the VM has.
#[inline]
fn is_mapped(running: VcpuRef, ipa: Ipa) -> bool {
    running.vm.memory.translate(ipa, 1).is_some()
}

#[cold]
fn refuse_access(frame: &mut Frame, running: VcpuRef, at: u64, va: Option<GuestVa>, write: bool) {
    running.vcpu.count(ExitReason::Abort);
    if running.vm.log_once(GuestAnomaly::Abort) {
        running.vm.log(
            Level::Warn,
            format_args!(
                "{} outside its memory: IPA {at:#x}, at {:#x}",
                if write { "write" } else { "read" },
                frame.pc
            ),
        );
    }
    guest_exception::inject(frame, Exception::DataAbort { va, write });
}

/// Sets the result of a read. A write has none.
fn answer(frame: &mut Frame, access: SysRegAccess, value: u64) {
    if !access.write
        && let Some(index) = access.rt.index()
    {
        frame.x[index] = value;
    }
}

#[inline(never)]
fn system_register(frame: &mut Frame, running: VcpuRef, esr: Esr) {
    running.vcpu.count(ExitReason::Sysreg);
    let access = SysRegAccess::decode(esr);
    let register = |frame: &Frame| access.rt.index().map_or(0, |index| frame.x[index]);
    let write = access.write.then(|| register(frame));
    match sysreg::access(access.reg, write, host_cpu::id_values(running.vm.sve)) {
        Outcome::Value(value) => answer(frame, access, value),
        Outcome::Ignored => {}
        Outcome::Sgi(register, value) => {
            let set = running
                .vm
                .vgic
                .send_sgi(running.vcpu.index, register, value);
            scheduler::kick(running.vm, set);
        }
        Outcome::Deactivate(value) => cpu_interface::deactivate(running, value),
        Outcome::Interface(register, write) => {
            let value = cpu_interface::interface_access(running, register, write);
            answer(frame, access, value);
        }
        Outcome::PhysicalTimer(register, write) => {
            let value = physical_timer::access(running, register, write);
            answer(frame, access, value);
        }
        Outcome::Debug(register, write) => {
            let value = debug::access(running, register, write);
            answer(frame, access, value);
        }
        Outcome::Undefined => {
            if running.vm.log_once(GuestAnomaly::Register) {
                running.vm.log(
                    Level::Warn,
                    format_args!(
                        "{} of unknown system register {:?} at {:#x}",
                        if access.write { "write" } else { "read" },
                        access.reg,
                        frame.pc
                    ),
                );
            }
            guest_exception::inject(frame, Exception::Undefined);
            return;
        }
    }
    frame.skip(esr.instruction_length());
}
