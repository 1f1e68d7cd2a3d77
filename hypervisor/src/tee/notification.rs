// SPDX-License-Identifier: Apache-2.0 OR MIT
//! OP-TEE's asynchronous notifications (`optee_smc.h`, OPTEE_SMC_ASYNC_NOTIF_VALUE).
//!
//! OP-TEE has one physical interrupt for all VMs. EL2 owns it; when it arrives, every VM that has
//! enabled notifications gets a virtual one of its own, and asks OP-TEE, through the mediator, for
//! what is meant for it. OP-TEE keeps the events of the VMs apart. A VM that was not meant finds
//! nothing, which the ABI allows.

use crate::irq::Handled;
use crate::irq::owners::register_spi;
use crate::platform::{self, machine};
use crate::vm::instance::Vm;
use crate::vm::registry;
use core::sync::atomic::{AtomicUsize, Ordering};
use postern_arch::{gic, percpu};
use postern_base::ids::PcpuIndex;
use postern_boot_tree::Interrupt;

/// The physical interrupt, where OP-TEE has one.
pub fn interrupt() -> Option<Interrupt> {
    machine().optee?.notification
}

/// The pCPU that takes it.
static IRQ_PCPU: AtomicUsize = AtomicUsize::new(PcpuIndex::BOOT.get());

/// Has the boot pCPU take it.
pub fn init() {
    let boot = platform::mpidr_of(PcpuIndex::BOOT);
    if let Some(spi) = interrupt() {
        register_spi(spi.intid.get(), on_interrupt);
        gic::enable_spi(spi, boot);
    }
}

/// A pCPU does not come back from the secure world: if it was to take the interrupt, this one does, for the VMs whose
/// calls are on other pCPUs.
pub fn take_over_irq(stuck: PcpuIndex) {
    let here = percpu::id();
    if let Some(spi) = interrupt()
        && IRQ_PCPU.load(Ordering::Relaxed) == stuck.get()
    {
        IRQ_PCPU.store(here.get(), Ordering::Relaxed);
        gic::route_spi(spi, platform::mpidr_of(here));
    }
}

/// Tells all VMs that OP-TEE has notifications for somebody.
fn on_interrupt() -> Handled {
    registry::all().iter().for_each(Vm::notify);
    Handled::Quiet
}
