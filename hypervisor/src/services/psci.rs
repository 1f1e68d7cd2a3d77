// SPDX-License-Identifier: Apache-2.0 OR MIT
//! PSCI 1.1 for guests (DEN0022): powers their vCPUs on and off, and the whole VM off.
//!
//! A guest's PSCI call never reaches the firmware, because the guest's CPUs are not the machine's.

use super::vcpu_power::{CpuOnError, PowerState, VcpuPower};
use crate::vm::lifecycle::LifecycleEvent;
use mediator::addr::Ipa;
use optee_proto::smc::FunctionId;
use postern_base::ids::VcpuIndex;
use postern_smccc::arch;
use postern_smccc::call::{Call, OwningEntity, SmcReturn};
use postern_smccc::psci::*;

/// The state of the caller's VM that PSCI needs.
pub trait PowerView {
    /// Returns the power state of a vCPU, or `None` if the VM has no such vCPU.
    fn power(&self, vcpu: VcpuIndex) -> Option<&VcpuPower>;

    /// Returns whether a vCPU can start at `entry`: whether the VM has RAM there.
    fn is_ram(&self, entry: Ipa) -> bool;
}

/// The hypervisor's action for a PSCI call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Return these values in X0 to X3.
    Return(SmcReturn),
    /// Start a vCPU, which [`decide`] has moved from off to pending for the caller: reset its
    /// registers, set these two, and make it runnable. Then return X0 = 0 ([`SmcReturn::SUCCESS`]).
    TurnOn {
        /// The vCPU to start.
        vcpu: VcpuIndex,
        /// The address at which it starts, at EL1 with the MMU off.
        entry: Ipa,
        /// The value of its X0.
        context: u64,
    },
    /// Stop the calling vCPU; the call does not return.
    TurnOffSelf,
    /// Suspend the calling vCPU as WFI does. Then return X0 = 0 ([`SmcReturn::SUCCESS`]).
    Suspend,
    /// Stop the VM.
    SystemOff,
    /// Reset the VM.
    SystemReset,
}

/// The vCPU that makes a call, with the operations on it and its VM.
pub trait Caller {
    /// Starts another vCPU of the VM, whose power state was claimed.
    fn turn_on(&self, vcpu: VcpuIndex, entry: Ipa, context: u64);

    /// Suspends the vCPU as WFI does.
    fn suspend(&self);

    /// Passes an event to the VM's lifecycle.
    fn handle(&self, event: LifecycleEvent);

    /// Takes the vCPU off its pCPU. Its guest executes no further instruction.
    fn leave(&self);
}

/// Carries out an action of [`decide`]. Returns the values for the guest, or `None` if the vCPU
/// does not return from the call.
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
    // The vCPU leaves even if the VM was ending already, because another vCPU has called at the
    // same time: nothing else would keep this one from returning to its guest.
    caller.leave();
    None
}

/// Returns whether the function is in PSCI's range: fast calls of the standard secure service with
/// a number below 0x20.
#[inline]
pub const fn owns(function: FunctionId) -> bool {
    function.is_fast()
        && matches!(OwningEntity::of(function), OwningEntity::StandardSecure)
        && function.number() < 0x20
}

/// Returns the action for `call`. A successful CPU_ON has claimed the target's [`VcpuPower`] on
/// return.
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
            // The type is a 32-bit argument. No vendor type (bit 31 set) is supported.
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

/// Returns the vCPU with this MPIDR affinity. All fields other than Aff0 are zero in every vCPU.
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
    // The claim is last, because a claim that is not followed by a start would have to be undone.
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

/// Suspends the vCPU as standby, with the original format of power_state. A power-down request is
/// treated as standby too, which the specification allows: a power-down call that returns is one
/// whose wake-up event came before the power was removed, and it returns as a standby call does.
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
    // From PSCI 1.0 on, levels above 0 are optional.
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
        // SMCCC_VERSION is not a PSCI function, but a guest that knows PSCI finds the rest of SMCCC
        // through it (DEN0028E, discovery). For CPU_SUSPEND, zero also means: original format, no
        // OS-initiated mode.
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
