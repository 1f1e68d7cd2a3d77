// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The vector state of the vCPU that is on this pCPU, if its VM has SVE.

use super::instance::VcpuRef;
use super::pcpu::{LiveState, Pcpu, here};

/// Puts the running vCPU's vector state on this pCPU, because an instruction that uses it trapped. Returns whether the
/// guest can execute the instruction now.
pub fn load(running: VcpuRef) -> bool {
    let here = here();
    let loaded = running.vcpu.saved.lock().context.load_vectors();
    if loaded {
        here.live.set(here.live.get() | LiveState::VECTORS);
    }
    loaded
}

/// Takes the current vCPU's vector state off this pCPU if it is there. The vCPU's next use of it traps.
#[inline]
pub fn save(here: &Pcpu) {
    let live = here.live.get();
    if live.contains(LiveState::VECTORS) {
        here.live.set(live - LiveState::VECTORS);
        if let Some(running) = here.current.get() {
            running.vcpu.saved.lock().context.save_vectors();
        }
    }
}
