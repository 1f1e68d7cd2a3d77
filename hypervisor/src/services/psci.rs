// SPDX-License-Identifier: Apache-2.0 OR MIT
//! PSCI 1.1 for guests (DEN0022): their vCPUs on and off, and the whole VM off.
//!
//! The guest's PSCI never reaches the firmware: its CPUs are not the machine's.

use super::vcpu_power::{CpuOnError, PowerState, VcpuPower};
use crate::vm::lifecycle::LifecycleEvent;
use mediator::addr::Ipa;
use optee_proto::smc::FunctionId;
use postern_base::ids::VcpuIndex;
use postern_smccc::arch;
use postern_smccc::call::{Call, OwningEntity, SmcReturn};
use postern_smccc::psci::*;

/// What PSCI asks of the caller's VM.
pub trait PowerView {
    /// The power state of a vCPU; `None` where the VM has no such vCPU.
    fn power(&self, vcpu: VcpuIndex) -> Option<&VcpuPower>;

    /// Whether a vCPU can start to execute at `entry`: whether the VM has RAM there.
    fn is_ram(&self, entry: Ipa) -> bool;
}

/// What the hypervisor is to do for a PSCI call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing: the guest goes on with this in X0 to X3.
    Return(SmcReturn),
    /// Start a vCPU, which [`decide`] has moved from off to pending for the caller: reset its
    /// registers, set these two, make it runnable; then the guest goes on with X0 = 0
    /// ([`SmcReturn::SUCCESS`]).
    TurnOn {
        /// Which.
        vcpu: VcpuIndex,
        /// Where it starts, at EL1 with the MMU off.
        entry: Ipa,
        /// Its X0.
        context: u64,
    },
    /// Stop the calling vCPU; the call does not return.
    TurnOffSelf,
    /// Let the calling vCPU sleep as WFI does; then it goes on with X0 = 0
    /// ([`SmcReturn::SUCCESS`]).
    Suspend,
    /// The whole VM ends.
    SystemOff,
    /// The whole VM wants to start anew.
    SystemReset,
}

/// The vCPU that makes a call, and what is done to it and to its VM.
pub trait Caller {
    /// Starts another vCPU of the VM, whose power state was claimed.
    fn turn_on(&self, vcpu: VcpuIndex, entry: Ipa, context: u64);

    /// Lets the vCPU sleep as WFI does.
    fn suspend(&self);

    /// Tells the VM what has happened to it.
    fn handle(&self, event: LifecycleEvent);

    /// Takes the vCPU off its pCPU for good: its guest executes no further instruction.
    fn leave(&self);
}

/// Does what [`decide`] has said. Returns what the guest goes on with, or `None` where the vCPU does not come back.
pub fn carry_out(action: Action, caller: &impl Caller) -> Option<SmcReturn> {
    match action {
        Action::Return(answer) => return Some(answer),
        Action::TurnOn {
            vcpu,
            entry,
            context,
        } => {
            caller.turn_on(vcpu, entry, context);
            return Some(SmcReturn::SUCCESS);
        }
        Action::Suspend => {
            caller.suspend();
            return Some(SmcReturn::SUCCESS);
        }
        Action::TurnOffSelf => {}
        Action::SystemOff => caller.handle(LifecycleEvent::GuestOff),
        Action::SystemReset => caller.handle(LifecycleEvent::GuestReset),
    }
    // Also where the VM was ending already, because another vCPU has called at the same time: nothing else
    // would keep this one from returning into its guest.
    caller.leave();
    None
}

/// Whether the function lies in PSCI's range: fast calls of the standard secure service with a
/// number below 0x20.
#[inline]
pub const fn owns(function: FunctionId) -> bool {
    function.is_fast()
        && matches!(OwningEntity::of(function), OwningEntity::StandardSecure)
        && function.number() < 0x20
}

/// What to do for `call`. A successful CPU_ON has claimed the target's [`VcpuPower`] on return.
pub fn decide(call: &Call, vm: &impl PowerView) -> Action {
    let args = call.args();
    match call.function() {
        VERSION => Action::Return(SmcReturn::value(VERSION_1_1)),
        CPU_SUSPEND | CPU_SUSPEND_64 => cpu_suspend(args[0], Ipa::new(args[1]), vm),
        CPU_OFF => Action::TurnOffSelf,
        CPU_ON | CPU_ON_64 => cpu_on(args[0], Ipa::new(args[1]), args[2], vm),
        AFFINITY_INFO | AFFINITY_INFO_64 => Action::Return(affinity_info(args[0], args[1], vm)),
        MIGRATE_INFO_TYPE => Action::Return(SmcReturn::value(MIGRATION_NOT_REQUIRED)),
        SYSTEM_OFF => Action::SystemOff,
        SYSTEM_RESET => Action::SystemReset,
        SYSTEM_RESET2 | SYSTEM_RESET2_64 => {
            // The type is a 32-bit argument; of those with bit 31 (vendor) there are none.
            if args[0] as u32 == SYSTEM_WARM_RESET {
                Action::SystemReset
            } else {
                Action::Return(PsciError::INVALID_PARAMETERS.into())
            }
        }
        FEATURES => Action::Return(features(call.queried_function())),
        _ => Action::Return(SmcReturn::NOT_SUPPORTED),
    }
}

/// The vCPU with this MPIDR affinity; everything but Aff0 is zero in all of them.
fn target(affinity: u64, vm: &impl PowerView) -> Option<(VcpuIndex, &VcpuPower)> {
    let vcpu = VcpuIndex::new(usize::try_from(affinity).ok()?)?;
    Some((vcpu, vm.power(vcpu)?))
}

fn is_entry(entry: Ipa, vm: &impl PowerView) -> bool {
    entry.get().is_multiple_of(4) && vm.is_ram(entry)
}

fn cpu_on(affinity: u64, entry: Ipa, context: u64, vm: &impl PowerView) -> Action {
    let Some((vcpu, power)) = target(affinity, vm) else {
        return Action::Return(PsciError::INVALID_PARAMETERS.into());
    };
    if !is_entry(entry, vm) {
        return Action::Return(PsciError::INVALID_ADDRESS.into());
    }
    // Last, because a claim that leads to nothing would have to be undone.
    match power.claim() {
        Ok(()) => Action::TurnOn {
            vcpu,
            entry,
            context,
        },
        Err(CpuOnError::AlreadyOn) => Action::Return(PsciError::ALREADY_ON.into()),
        Err(CpuOnError::OnPending) => Action::Return(PsciError::ON_PENDING.into()),
    }
}

/// Standby, in the original format of power_state. A power-down request is taken for standby as
/// well, which the specification allows: a call that returns is one whose wake-up event came
/// before the power went, and it returns as a standby does.
fn cpu_suspend(power_state: u64, entry: Ipa, vm: &impl PowerView) -> Action {
    const RESERVED: u64 = 0xfc << 24 | 0xfe << 16;
    const POWER_DOWN: u64 = 1 << 16;
    // The state is a 32-bit argument of the SMC64 call, too.
    if power_state & RESERVED != 0 {
        Action::Return(PsciError::INVALID_PARAMETERS.into())
    } else if power_state & POWER_DOWN != 0 && !is_entry(entry, vm) {
        Action::Return(PsciError::INVALID_ADDRESS.into())
    } else {
        Action::Suspend
    }
}

fn affinity_info(affinity: u64, lowest_level: u64, vm: &impl PowerView) -> SmcReturn {
    // From PSCI 1.0 on, levels above 0 need not be answered.
    match target(affinity, vm) {
        Some((_, power)) if lowest_level & 0xffff_ffff == 0 => {
            SmcReturn::value(match power.state() {
                PowerState::On => ON,
                PowerState::Off => OFF,
                PowerState::OnPending => ON_PENDING,
            })
        }
        _ => PsciError::INVALID_PARAMETERS.into(),
    }
}

const fn features(function: FunctionId) -> SmcReturn {
    match function {
        // SMCCC_VERSION is not PSCI's, but how a guest that knows PSCI finds the rest of SMCCC (DEN0028E, discovery).
        // For CPU_SUSPEND the zero says more: original format, no OS-initiated mode.
        VERSION
        | CPU_SUSPEND
        | CPU_SUSPEND_64
        | CPU_OFF
        | CPU_ON
        | CPU_ON_64
        | AFFINITY_INFO
        | AFFINITY_INFO_64
        | MIGRATE_INFO_TYPE
        | SYSTEM_OFF
        | SYSTEM_RESET
        | FEATURES
        | SYSTEM_RESET2
        | SYSTEM_RESET2_64
        | arch::VERSION => SmcReturn::SUCCESS,
        _ => SmcReturn::NOT_SUPPORTED,
    }
}

#[cfg(test)]
mod tests;
