// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Accesses to the guest's devices.

use crate::control::monitor::El2System;
use crate::irq::sections;
use crate::vm::cpu_interface;
use crate::vm::instance::VcpuRef;
use crate::vm::{links, virtio};
use mediator::addr::Ipa;
use postern_arch::vcpu_context::Frame;
use postern_base::mmio::Access;
use postern_exceptions::decode::Transfer;
use postern_guest_tree::layout;

/// The result of an access.
pub enum AccessResult {
    /// The access is done, and the guest continues after the instruction.
    Completed,
    /// The guest retries the access.
    Retry,
    /// No device answers at that address.
    Unmapped,
}

/// Performs one access of the running vCPU to `ipa`.
// Always inlined: it has one caller, and its own saved registers would cost 20 instructions.
#[inline(always)]
pub fn access(
    frame: &mut Frame,
    running: VcpuRef,
    ipa: Ipa,
    transfer: Transfer,
    write: bool,
) -> AccessResult {
    let Some((device, offset)) = layout::device_at(ipa, running.vm.gic) else {
        return AccessResult::Unmapped;
    };
    let access = if write {
        let value = transfer.register.index().map_or(0, |index| frame.x[index]);
        Access::write(offset, transfer.size, value)
    } else {
        Access::read(offset, transfer.size)
    };
    if !access.is_aligned() {
        return AccessResult::Unmapped;
    }
    let value = match device {
        layout::Device::Distributor | layout::Device::Redistributors => {
            match cpu_interface::vgic_access(running, device, access) {
                cpu_interface::VgicAccess::Value(value) => value,
                cpu_interface::VgicAccess::Retry => return AccessResult::Retry,
                cpu_interface::VgicAccess::Unmapped => return AccessResult::Unmapped,
            }
        }
        layout::Device::CpuInterface => cpu_interface::second_page_access(running, access),
        layout::Device::Virtio => {
            match links::access(running.vm, access).or_else(|| virtio::access(running.vm, access)) {
                // More is to do than one exit does: interrupts are taken in between, and the slice may end.
                Some(outcome) if outcome.is_unfinished => return AccessResult::Retry,
                Some(outcome) => outcome.value,
                None => return AccessResult::Unmapped,
            }
        }
        layout::Device::MonitorUart => {
            // A command may take long and takes interrupts meanwhile. The end of the trap closes
            // the section.
            sections::open();
            match running.vm.monitor_uart_access(access, &El2System) {
                Some(value) => value,
                None => return AccessResult::Unmapped,
            }
        }
        layout::Device::Uart
        | layout::Device::Gpio
        | layout::Device::Rtc
        | layout::Device::WatchdogControl
        | layout::Device::WatchdogRefresh => match running.vm.device_access(device, access) {
            Some(value) => value,
            None => return AccessResult::Unmapped,
        },
    };
    if !write && let Some(index) = transfer.register.index() {
        frame.x[index] = transfer
            .size
            .extend(value, transfer.sign_extend, transfer.sixty_four);
    }
    AccessResult::Completed
}
