// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The debug registers of the vCPU that is on this pCPU.

use super::instance::VcpuRef;
use super::pcpu::{Pcpu, here};
use postern_arch::debug;
use postern_devices::debug::{DebugRegister, DebugUnit};

/// Does the running vCPU's access to `register`: the write of a value, or a read. Returns what was read.
pub fn access(running: VcpuRef, register: DebugRegister, write: Option<u64>) -> u64 {
    let mut saved = running.vcpu.saved.lock();
    let Some(value) = write else {
        return saved.debug.read(register);
    };
    saved.debug.write(register, value);
    vcpu_load(here(), &saved.debug);
    0
}

/// Gives the hardware the registers of a vCPU that uses them; others have a hardware that is quiet.
#[inline]
pub fn vcpu_load(here: &Pcpu, unit: &DebugUnit) {
    if unit.is_in_use() {
        debug::load(unit);
        here.debug_is_loaded.set(true);
    } else {
        vcpu_put(here);
    }
}

/// Has the hardware be quiet for whoever is next.
#[inline]
pub fn vcpu_put(here: &Pcpu) {
    if here.debug_is_loaded.replace(false) {
        debug::quiet();
    }
}
