// SPDX-License-Identifier: Apache-2.0 OR MIT
//! OP-TEE's asynchronous notifications (`optee_smc.h`, OPTEE_SMC_ASYNC_NOTIF_VALUE; over FF-A DEN0077A, 10).
//!
//! OP-TEE has one physical interrupt for all VMs, and EL2 owns it: an SPI, or over FF-A an SGI that
//! it donates and raises on the pCPU where it runs. When it arrives, every VM that has enabled
//! notifications gets a virtual interrupt, and asks OP-TEE for its events through the mediator.
//! OP-TEE keeps the events of VMs apart. A VM without an event finds nothing, which the ABI allows.

use crate::irq::Handled;
use crate::irq::owners::{Handler, register_spi};
use crate::platform::machine;
use crate::vm::instance::Vm;
use crate::vm::registry;
use core::sync::atomic::{AtomicUsize, Ordering};
use postern_arch::{gic, percpu};
use postern_base::ids::PcpuIndex;
use postern_boot_tree::Interrupt;

/// The handlers of the SGIs that the secure world may donate. Nothing else sends them.
pub fn donated_sgis() -> impl Iterator<Item = (u32, Handler)> {
    let sgis = (0..u32::BITS).filter(|intid| gic::is_donated_sgi(*intid));
    sgis.map(|intid| (intid, on_interrupt as Handler))
}

/// Returns the physical interrupt, if OP-TEE has an SPI.
pub fn interrupt() -> Option<Interrupt> {
    machine().optee?.notification
}

/// The pCPU to which the interrupt is routed.
static IRQ_PCPU: AtomicUsize = AtomicUsize::new(PcpuIndex::BOOT.get());

/// Routes the interrupt to the boot pCPU.
pub fn init() {
    if let Some(spi) = interrupt() {
        register_spi(spi.intid.get(), on_interrupt);
        gic::enable_spi(spi, PcpuIndex::BOOT);
    }
}

/// Routes the interrupt to this pCPU, if it is routed to a pCPU that does not return from the
/// secure world. VMs whose calls are on other pCPUs need it.
pub fn take_over_irq(stuck: PcpuIndex) {
    let here = percpu::id();
    if let Some(spi) = interrupt()
        && IRQ_PCPU.load(Ordering::Relaxed) == stuck.get()
    {
        IRQ_PCPU.store(here.get(), Ordering::Relaxed);
        gic::route_spi(spi, here);
    }
}

/// Notifies all VMs, because OP-TEE has an event for at least one.
fn on_interrupt() -> Handled {
    registry::all().iter().for_each(Vm::notify);
    Handled::Quiet
}
