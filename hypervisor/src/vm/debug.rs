// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The debug registers of the vCPU that is on this pCPU.

use super::instance::VcpuRef;
use super::pcpu::{LiveState, Pcpu, here};
use postern_arch::debug;
use postern_devices::debug::{DebugRegister, DebugUnit};

/// Performs the running vCPU's access to `register`: writes a value, or reads one. Returns the
/// value read; zero for a write.
pub fn access(running: VcpuRef, register: DebugRegister, write: Option<u64>) -> u64 {
    let mut saved = running.vcpu.saved.lock();
    let Some(value) = write else {
        return saved.debug.read(register);
    };
    saved.debug.write(register, value);
    vcpu_load(here(), &saved.debug);
    0
}

/// Loads the debug registers of a vCPU that uses them. For any other vCPU, turns debug exceptions
/// off.
#[inline]
pub fn vcpu_load(here: &Pcpu, unit: &DebugUnit) {
    if unit.is_in_use() {
        debug::load(unit);
        here.live.set(here.live.get() | LiveState::DEBUG);
    } else {
        vcpu_put(here);
    }
}

/// Turns debug exceptions off where the debug registers hold the state of the vCPU that leaves.
#[inline]
pub fn vcpu_put(here: &Pcpu) {
    let live = here.live.get();
    if live.contains(LiveState::DEBUG) {
        here.live.set(live - LiveState::DEBUG);
        debug::quiet();
    }
}
