// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The way of an SMC to the SPMC.

use super::machine::State;
use super::spmc::Spmc;
use alloc::format;
use ffa_proto::answer::refusal;
use ffa_proto::call::FrameworkMessage;
use ffa_proto::{EndpointId, ErrorCode, Function, Registers, Request, Version, Width};

/// Makes a call for a VM, or for the hypervisor itself if that is zero.
pub(super) fn smc(state: &mut State, vm: u16, args: [u64; 8]) -> [u64; 8] {
    let call = Registers::from_8(args);
    let id = call.id();
    let Some(function) = id.function() else {
        state.violate(format!("{args:x?} is no call of FF-A"));
        return [u64::from(u32::MAX), 0, 0, 0, 0, 0, 0, 0];
    };
    let is_short = id.width() == Width::Smc32;
    if args[0] >> 32 != 0 || is_short && args.iter().any(|arg| arg >> 32 != 0) {
        state.violate(format!("{args:x?} has more than 32 bits in a register"));
    }
    if let Some(at) = state.ffa_answers.iter().position(|&(of, _)| of == function) {
        return state.ffa_answers.remove(at).1;
    }
    let on_behalf = on_behalf(state, vm, function, &call);
    let Some(mut spmc) = state.spmc.take() else {
        return refusal(id, ErrorCode::NOT_SUPPORTED).to_8();
    };
    let answer = answer(&mut spmc, on_behalf, &call, state);
    state.spmc = Some(spmc);
    answer.to_8()
}

fn answer(
    spmc: &mut Spmc,
    on_behalf: EndpointId,
    call: &Registers,
    state: &mut State,
) -> Registers {
    // One that has stopped answers nothing: the trap that it stepped on is a violation.
    spmc.call(on_behalf, call, state)
        .unwrap_or_else(|| refusal(call.id(), ErrorCode::ABORTED))
}

/// Returns for whom a call is made. What only the hypervisor may do it does for itself, but for the life of a VM.
fn on_behalf(state: &mut State, vm: u16, function: Function, call: &Registers) -> EndpointId {
    let hypervisor = EndpointId::HYPERVISOR;
    let is_for_setup = matches!(
        function,
        Function::Version
            | Function::Features
            | Function::RxtxMap
            | Function::RxtxUnmap
            | Function::RxRelease
            | Function::PartitionInfoGet
            | Function::PartitionInfoGetRegs
            | Function::NotificationInfoGet
    );
    if vm != 0 && is_for_setup {
        state.violate(format!("{} for VM {vm}", function.name()));
    }
    match Request::decode(call, Version::V1_2) {
        Ok(Request::DirectRequest(message)) => {
            let about_life = [FrameworkMessage::VM_CREATED, FrameworkMessage::VM_DESTROYED];
            let is_about_life = message
                .framework
                .is_some_and(|kind| about_life.contains(&kind));
            let named = call.to_8()[5];
            if is_about_life && (vm == 0 || named == u64::from(vm)) {
                return hypervisor;
            }
            EndpointId::new(vm)
        }
        _ => EndpointId::new(vm),
    }
}
