// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What devices access by themselves: the SMMUs' interrupts, and what they tell of VMs' devices.

use super::instance::GuestAnomaly;
use super::registry;
use crate::irq::Handled;
use crate::irq::owners::register_spi;
use crate::platform::machine;
use postern_arch::{gic, smmu};
use postern_base::ids::{MAX_VMS, PcpuIndex};
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

/// Counts the accesses that SMMUs have not let pass, and logs the first of each VM.
fn on_event() -> Handled {
    let mut first = [None; MAX_VMS];
    smmu::take_events(|event| {
        // Streams that belong to no VM make no events.
        let vm = event.vm.and_then(|vm| registry::all().get(vm.get()));
        if let Some(vm) = vm
            && vm.log_once(GuestAnomaly::Dma)
        {
            first[vm.index.get()] = Some(event);
        }
    });
    for (vm, event) in registry::all().iter().zip(first) {
        if let Some(event) = event {
            vm.log(Level::Warn, format_args!("a device is refused, {event}"));
        }
    }
    Handled::Quiet
}

/// Acknowledges SMMUs' own errors, such as events that were lost. The first is logged.
fn on_global_error() -> Handled {
    let errors = smmu::take_global_errors();
    // With an interrupt comes what it was for.
    on_event();
    if errors.bits != 0 && GLOBAL_ERRORS.record() {
        log::warn!("SMMU: GERROR {:#x}", errors.bits);
    }
    Handled::Quiet
}
