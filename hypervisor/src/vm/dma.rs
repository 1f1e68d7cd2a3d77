// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What devices access by themselves: the SMMUs' interrupts, what they tell of VMs' devices, and the reset of PCI
//! functions.

use super::instance::{GuestAnomaly, Vm};
use super::pci_reset::{self, ConfigSpace, Function, Position, Progress};
use super::registry;
use crate::console::output;
use crate::irq::Handled;
use crate::irq::owners::register_spi;
use crate::platform::machine;
use mediator::addr::Pa;
use postern_arch::bus::Machine;
use postern_arch::distributor::Bus;
use postern_arch::{gic, smmu};
use postern_base::ids::PcpuIndex;
use postern_console::log::{Level, LogOnce};

/// The SMMUs' own errors.
static GLOBAL_ERRORS: LogOnce = LogOnce::new();

/// Routes the SMMUs' interrupts to the boot pCPU.
pub fn init() {
    for smmu in &machine().smmus {
        for (interrupt, handler) in [
            (smmu.event, on_event as fn() -> Handled),
            (smmu.global_error, on_global_error),
        ] {
            if let Some(interrupt) = interrupt {
                register_spi(interrupt.intid.get(), handler);
                gic::enable_spi(interrupt, PcpuIndex::BOOT);
            }
        }
    }
}

/// Counts the accesses that SMMUs have not let pass, and logs the first and the last of each VM.
fn on_event() -> Handled {
    let more = smmu::take_events(|event| {
        // Streams that belong to no VM make no events.
        if let Some(vm) = event.vm.and_then(|vm| registry::all().get(vm.get()))
            && (vm.log_once(GuestAnomaly::Dma) || event.is_last)
        {
            vm.log(Level::Warn, format_args!("a device is refused, {event}"));
        }
    });
    // What is left announces itself no more. It is taken as another interrupt, so EL2 does other things in between.
    if more && let Some(interrupt) = machine().smmus.iter().find_map(|smmu| smmu.event) {
        gic::set_spi_pending(interrupt.intid.get(), true);
    }
    Handled::Quiet
}

/// Acknowledges SMMUs' own errors, such as events that were lost. The first is logged.
fn on_global_error() -> Handled {
    let errors = smmu::take_global_errors();
    // With an interrupt comes what it was for.
    on_event();
    if errors.bits != 0 && GLOBAL_ERRORS.record() {
        output::log(Level::Warn, format_args!("SMMU: GERROR {:#x}", errors.bits));
    }
    Handled::Quiet
}

/// The configuration space of a root bus, at this address.
struct RootBus(Pa);

impl RootBus {
    /// Returns the address of a register. The space is 1 MiB, and ends below the end of the address space.
    const fn at(&self, at: Function, register: u16) -> Pa {
        Pa::new(self.0.get() + at.offset() + register as u64)
    }
}

impl ConfigSpace for RootBus {
    fn read(&self, at: Function, register: u16) -> u32 {
        Machine.read(self.at(at, register))
    }

    fn write(&mut self, at: Function, register: u16, value: u32) {
        Machine.write(self.at(at, register), value);
    }
}

/// Does a step of the reset of what is behind a VM's PCI host. Returns `None` where the VM has no such host.
pub fn reset_functions(vm: &Vm, host: usize, at: Position) -> Option<Progress> {
    let space = vm.root_buses.get(host)?;
    Some(pci_reset::step(&mut RootBus(*space), at))
}
