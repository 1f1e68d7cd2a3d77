// SPDX-License-Identifier: Apache-2.0 OR MIT
//! PSCI 1.1 for guests (DEN0022): their vCPUs on and off, and the whole VM off.
//!
//! The guest's PSCI never reaches the firmware: its CPUs are not the machine's.

use super::call::{Call, FunctionId, NOT_SUPPORTED, OwningEntity, Returned, value};
use super::power::{NotOff, Power, PowerState};
use crate::vm::life::Event;
use mediator::addr::Ipa;
use postern_base::ids::VcpuIndex;

const VERSION: FunctionId = FunctionId::new(0x8400_0000);
const CPU_SUSPEND: FunctionId = FunctionId::new(0x8400_0001);
const CPU_SUSPEND_64: FunctionId = FunctionId::new(0xc400_0001);
const CPU_OFF: FunctionId = FunctionId::new(0x8400_0002);
const CPU_ON: FunctionId = FunctionId::new(0x8400_0003);
const CPU_ON_64: FunctionId = FunctionId::new(0xc400_0003);
const AFFINITY_INFO: FunctionId = FunctionId::new(0x8400_0004);
const AFFINITY_INFO_64: FunctionId = FunctionId::new(0xc400_0004);
const MIGRATE_INFO_TYPE: FunctionId = FunctionId::new(0x8400_0006);
const SYSTEM_OFF: FunctionId = FunctionId::new(0x8400_0008);
const SYSTEM_RESET: FunctionId = FunctionId::new(0x8400_0009);
const FEATURES: FunctionId = FunctionId::new(0x8400_000a);
const SYSTEM_RESET2: FunctionId = FunctionId::new(0x8400_0012);
const SYSTEM_RESET2_64: FunctionId = FunctionId::new(0xc400_0012);
/// Not PSCI's, but how a guest that knows PSCI finds the rest of SMCCC (DEN0028, discovery).
const SMCCC_VERSION: FunctionId = FunctionId::new(0x8000_0000);

/// Major 1, minor 1.
const VERSION_1_1: i32 = 0x1_0001;
/// MIGRATE_INFO_TYPE: the trusted OS is not bound to a CPU, or there is none.
const MIGRATION_NOT_REQUIRED: i32 = 2;
/// The only architectural type of SYSTEM_RESET2.
const SYSTEM_WARM_RESET: u64 = 0;

const SUCCESS: i32 = 0;
const INVALID_PARAMETERS: i32 = -2;
const ALREADY_ON: i32 = -4;
const ON_PENDING: i32 = -5;
const INVALID_ADDRESS: i32 = -9;

/// What PSCI asks of the caller's VM.
pub trait PowerView {
    /// The power state of a vCPU; `None` where the VM has no such vCPU.
    fn power(&self, vcpu: VcpuIndex) -> Option<&Power>;

    /// Whether a vCPU can start to execute at `entry`: whether the VM has RAM there.
    fn is_ram(&self, entry: Ipa) -> bool;
}

/// What the hypervisor is to do for a PSCI call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing: the guest goes on with this in X0 to X3.
    Return(Returned),
    /// Start a vCPU, which [`decide`] has moved from off to pending for the caller: reset its
    /// registers, set these two, make it runnable; then the guest goes on with X0 = 0
    /// ([`SUCCESS_RETURNED`]).
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
    /// ([`SUCCESS_RETURNED`]).
    Suspend,
    /// The whole VM ends.
    SystemOff,
    /// The whole VM wants to start anew.
    SystemReset,
}

/// What a guest finds in X0 to X3 after [`Action::TurnOn`] or [`Action::Suspend`].
pub const SUCCESS_RETURNED: Returned = value(SUCCESS);

/// The vCPU that makes a call, and what is done to it and to its VM.
pub trait Caller {
    /// Starts another vCPU of the VM, whose power state was claimed.
    fn turn_on(&self, vcpu: VcpuIndex, entry: Ipa, context: u64);

    /// Lets the vCPU sleep as WFI does.
    fn suspend(&self);

    /// Tells the VM what has happened to it.
    fn happened(&self, event: Event);

    /// Takes the vCPU off its pCPU for good: its guest executes no further instruction.
    fn leave(&self);
}

/// Does what [`decide`] has said. Returns what the guest goes on with, or `None` where the vCPU does not come back.
pub fn carry_out(action: Action, caller: &impl Caller) -> Option<Returned> {
    match action {
        Action::Return(answer) => return Some(answer),
        Action::TurnOn {
            vcpu,
            entry,
            context,
        } => {
            caller.turn_on(vcpu, entry, context);
            return Some(SUCCESS_RETURNED);
        }
        Action::Suspend => {
            caller.suspend();
            return Some(SUCCESS_RETURNED);
        }
        Action::TurnOffSelf => {}
        Action::SystemOff => caller.happened(Event::GuestOff),
        Action::SystemReset => caller.happened(Event::GuestReset),
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
        && matches!(function.owner(), OwningEntity::StandardSecure)
        && function.number() < 0x20
}

/// What to do for `call`. A successful CPU_ON has claimed the target's [`Power`] on return.
pub fn decide(call: &Call, vm: &impl PowerView) -> Action {
    let args = call.first_three();
    match call.function() {
        VERSION => Action::Return(value(VERSION_1_1)),
        CPU_SUSPEND | CPU_SUSPEND_64 => cpu_suspend(args[0], Ipa::new(args[1]), vm),
        CPU_OFF => Action::TurnOffSelf,
        CPU_ON | CPU_ON_64 => cpu_on(args[0], Ipa::new(args[1]), args[2], vm),
        AFFINITY_INFO | AFFINITY_INFO_64 => Action::Return(affinity_info(args[0], args[1], vm)),
        MIGRATE_INFO_TYPE => Action::Return(value(MIGRATION_NOT_REQUIRED)),
        SYSTEM_OFF => Action::SystemOff,
        SYSTEM_RESET => Action::SystemReset,
        SYSTEM_RESET2 | SYSTEM_RESET2_64 => {
            // The type is a 32-bit argument; of those with bit 31 (vendor) there are none.
            if args[0] & 0xffff_ffff == SYSTEM_WARM_RESET {
                Action::SystemReset
            } else {
                Action::Return(value(INVALID_PARAMETERS))
            }
        }
        FEATURES => Action::Return(features(call.asked())),
        _ => Action::Return(NOT_SUPPORTED),
    }
}

/// The vCPU with this MPIDR affinity; everything but Aff0 is zero in all of them.
fn target(affinity: u64, vm: &impl PowerView) -> Option<(VcpuIndex, &Power)> {
    let vcpu = VcpuIndex::new(usize::try_from(affinity).ok()?)?;
    Some((vcpu, vm.power(vcpu)?))
}

fn is_entry(entry: Ipa, vm: &impl PowerView) -> bool {
    entry.get().is_multiple_of(4) && vm.is_ram(entry)
}

fn cpu_on(affinity: u64, entry: Ipa, context: u64, vm: &impl PowerView) -> Action {
    let Some((vcpu, power)) = target(affinity, vm) else {
        return Action::Return(value(INVALID_PARAMETERS));
    };
    if !is_entry(entry, vm) {
        return Action::Return(value(INVALID_ADDRESS));
    }
    // Last, because a claim that leads to nothing would have to be undone.
    match power.claim() {
        Ok(()) => Action::TurnOn {
            vcpu,
            entry,
            context,
        },
        Err(NotOff::AlreadyOn) => Action::Return(value(ALREADY_ON)),
        Err(NotOff::OnPending) => Action::Return(value(ON_PENDING)),
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
        Action::Return(value(INVALID_PARAMETERS))
    } else if power_state & POWER_DOWN != 0 && !is_entry(entry, vm) {
        Action::Return(value(INVALID_ADDRESS))
    } else {
        Action::Suspend
    }
}

fn affinity_info(affinity: u64, lowest_level: u64, vm: &impl PowerView) -> Returned {
    // From PSCI 1.0 on, levels above 0 need not be answered.
    match target(affinity, vm) {
        Some((_, power)) if lowest_level & 0xffff_ffff == 0 => value(match power.state() {
            PowerState::On => 0,
            PowerState::Off => 1,
            PowerState::OnPending => 2,
        }),
        _ => value(INVALID_PARAMETERS),
    }
}

const fn features(function: FunctionId) -> Returned {
    match function {
        // For CPU_SUSPEND the zero says more: original format, no OS-initiated mode.
        VERSION | CPU_SUSPEND | CPU_SUSPEND_64 | CPU_OFF | CPU_ON | CPU_ON_64 | AFFINITY_INFO
        | AFFINITY_INFO_64 | MIGRATE_INFO_TYPE | SYSTEM_OFF | SYSTEM_RESET | FEATURES
        | SYSTEM_RESET2 | SYSTEM_RESET2_64 | SMCCC_VERSION => value(SUCCESS),
        _ => NOT_SUPPORTED,
    }
}

#[cfg(test)]
mod tests;
