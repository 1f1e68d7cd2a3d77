// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Puts vCPUs on this pCPU and takes them off: the registers.

use super::lists::{fill, read_back, set_timer_active};
use super::{debug, physical_timer};
use crate::arch::world::Frame;
use crate::arch::{barrier, ich, percpu::Pcpu};
use crate::vm::Running;

/// Takes the vCPU off, whose general registers are in `frame`.
pub fn take_off(here: &Pcpu, running: Running, frame: &Frame) {
    read_back(here, running);
    ich::set_hcr(0);
    let mut saved = running.vcpu.saved.lock();
    saved.frame = frame.clone();
    saved.context.save(here.switched);
    drop(saved);
    if here.timer_is_active.get() {
        set_timer_active(here, false);
    }
    debug::take_off(here);
    here.guest_timer_at.set(u64::MAX);
    here.current.set(None);
    running.vcpu.seat.leave();
}

/// Puts a vCPU on this pCPU; `false` where its VM is paused or stopping, so that it must not run.
pub fn put_on(here: &Pcpu, running: Running, frame: &mut Frame) -> bool {
    // `stop` asks who is where after it has said that the VM stops.
    let seat = &running.vcpu.seat;
    if !seat.take(here.id(), || !running.vm.may_run()) {
        return false;
    }
    here.current.set(Some(running));
    let saved = running.vcpu.saved.lock();
    *frame = saved.frame.clone();
    saved
        .context
        .load(&running.vcpu.machine(running.vm), here.switched);
    debug::put_on(here, &saved.debug);
    // Two vCPUs of a VM share its VMID, and may use one address space identifier differently.
    let last = &here.last_vcpu[running.vm.index.get()];
    if last.replace(Some(running.vcpu.index)) != Some(running.vcpu.index) {
        barrier::invalidate_guest_tlb();
    }
    drop(saved);
    physical_timer::settle(here, running);
    fill(here, running);
    true
}
