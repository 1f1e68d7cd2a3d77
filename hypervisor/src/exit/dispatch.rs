// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The dispatch of a trapped SMC or HVC to the service that answers it.

use super::host_cpu;
use crate::irq::sections;
use crate::lifecycle::transitions;
use crate::sched::masked::Cause;
use crate::sched::run_queues::PcpuRequests;
use crate::services::{discovery, memory, psci, smccc, trng};
use crate::tee::host::VmHost;
use crate::vm::instance::{GuestAnomaly, VcpuRef};
use crate::vm::lifecycle::LifecycleEvent;
use crate::vm::{context_switch, scheduler};
use mediator::addr::Ipa;
use mediator::ffa::{Answer, GuestRegisters};
use mediator::{Host, Mediator};
use optee_proto::smc::{FunctionId, Return};
use postern_arch::vcpu_context::CallFrame;
use postern_arch::{entropy, smc};
use postern_base::ids::VcpuIndex;
use postern_console::log::Level;
use postern_smccc::call::{Call, SmcReturn};
use postern_smccc::vendor;

/// Answers the call in `frame`.
#[inline]
pub fn dispatch(frame: &mut CallFrame, running: VcpuRef) {
    let function = FunctionId::from_x0(frame.x[0]);
    if Mediator::owns(function) {
        tee(frame, running);
    } else if !Mediator::owns_ffa(function)
        || !answer_ffa(&VmHost { vm: running.vm }, frame, running)
    {
        dispatch_local(frame, running);
    }
}

/// Answers a call to the trusted OS or a trusted application.
#[inline]
fn tee(frame: &mut CallFrame, running: VcpuRef) {
    let Some(mediator) = running.vm.mediator() else {
        frame.x[..4].copy_from_slice(&[Return::UNKNOWN_FUNCTION.get(), 0, 0, 0]);
        return;
    };
    let answer = mediator.smc(&VmHost { vm: running.vm }, &frame.x);
    frame.x[..4].copy_from_slice(&answer);
}

/// Answers a call of FF-A (DEN0077A). Returns whether the VM has a TEE that it reaches by FF-A.
// Not inlined, as `dispatch_local`. Generic, so that it is compiled for speed, with the image.
#[inline(never)]
fn answer_ffa<H: Host>(host: &H, frame: &mut CallFrame, running: VcpuRef) -> bool {
    let Some(mediator) = running.vm.mediator().filter(|vm| vm.speaks_ffa()) else {
        return false;
    };
    let registers = GuestRegisters {
        x: &mut frame.x,
        more: &mut frame.more,
    };
    match mediator.ffa(host, registers) {
        Answer::Done => {}
        Answer::Repeat => frame.repeat(),
    }
    true
}

// Not inlined, so that the path to the TEE need not save the registers that this needs.
#[inline(never)]
fn dispatch_local(frame: &mut CallFrame, running: VcpuRef) {
    let call = Call::new(&frame.x);
    let function = call.function();
    let answer = if psci::owns(function) {
        match power(&call, running) {
            Some(answer) => answer,
            // The vCPU does not return from the call.
            None => return,
        }
    } else if function == vendor::MEM_RELINQUISH {
        relinquish(&call, running)
    } else if smccc::owns(function) {
        match smccc::decide(&call, host_cpu::workarounds()) {
            smccc::Action::Return(answer) => answer,
            smccc::Action::Forward(id) => {
                smc::call([id.into(), 0, 0, 0, 0, 0, 0, 0]);
                SmcReturn::SUCCESS
            }
        }
    } else if trng::owns(function) {
        if entropy::is_available() {
            trng::answer(&call, &mut MachineEntropy)
        } else {
            SmcReturn::NOT_SUPPORTED
        }
    } else {
        // A query for a service is not an anomaly.
        if !discovery::is_query(function) && running.vm.log_once(GuestAnomaly::Call) {
            let vm = running.vm;
            vm.log(Level::Warn, format_args!("unknown call {function:?}"));
        }
        SmcReturn::NOT_SUPPORTED
    };
    frame.x[..4].copy_from_slice(&answer.words());
}

#[inline(never)]
fn relinquish(call: &Call, running: VcpuRef) -> SmcReturn {
    let vm = running.vm;
    let answer = match memory::range(call) {
        Ok(range) => sections::lengthy(Cause::Call, || {
            vm.mapping
                .relinquish(&vm.memory, range, sections::take_pending)
        }),
        Err(answer) => answer,
    };
    answer.returned()
}

fn power(call: &Call, running: VcpuRef) -> Option<SmcReturn> {
    psci::carry_out(psci::decide(call, running.vm), &running)
}

/// The machine's source of true random numbers.
struct MachineEntropy;

impl trng::Entropy for MachineEntropy {
    fn bits(&mut self) -> Option<[u64; 3]> {
        entropy::bits()
    }
}

impl psci::Caller for VcpuRef {
    // Not inlined, so that a call that needs less saves fewer registers.
    #[inline(never)]
    fn turn_on(&self, vcpu: VcpuIndex, entry: Ipa, context: u64) {
        sections::lengthy(Cause::Call, || {
            transitions::turn_on(self.vm, vcpu, entry, context);
        });
    }

    fn suspend(&self) {
        context_switch::wait_for_interrupt(*self);
    }

    #[inline(never)]
    fn handle(&self, event: LifecycleEvent) {
        sections::lengthy(Cause::Call, || transitions::handle(self.vm, event));
    }

    fn leave(&self) {
        scheduler::request(PcpuRequests::OFF);
    }
}
