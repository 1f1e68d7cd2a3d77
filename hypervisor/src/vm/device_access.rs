// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest's accesses to its devices except the interrupt controller, and the input of these
//! devices from outside.

use super::devices::seconds;
use super::instance::Vm;
use super::scheduler::kick;
use super::watchdog;
use crate::platform::WALL_CLOCK;
use crate::services::vcpu_power::PowerState;
use mediator::ffa::NOTIFICATION_PENDING_SGI;
use postern_base::ids::VcpuIndex;
use postern_base::mmio::Access;
use postern_console::monitor::System;
use postern_devices::generic_watchdog::Frame;
use postern_devices::pl031::Pl031;
use postern_devices::pl061::Pl061;
use postern_guest_tree::layout::{Device, SpiSource};
use postern_vgic::{IntId, IrqLine, VcpuSet};

impl Vm {
    /// Performs a guest's access to a device that EL2 emulates per VM, except the interrupt
    /// controller. Returns the value read; `None` where this VM does not have the device.
    pub fn device_access(&'static self, device: Device, access: Access) -> Option<u64> {
        match device {
            Device::Uart => {
                let drive = |level| self.drive(SpiSource::Uart, level);
                let (value, set) = self.console.access(access, drive);
                set.into_iter().for_each(|set| kick(self, set));
                Some(value)
            }
            _ => self.rare_device_access(device, access),
        }
    }

    /// Does the same for devices other than the UART.
    // Not inlined, so that an exit to another device saves fewer registers.
    #[inline(never)]
    fn rare_device_access(&'static self, device: Device, access: Access) -> Option<u64> {
        match device {
            Device::Rtc if !WALL_CLOCK.is_set() => None,
            Device::Rtc => Some(self.with_rtc(|rtc| rtc.access(access, seconds()))),
            Device::Gpio => Some(self.with_gpio(|gpio| gpio.access(access))),
            Device::WatchdogControl => watchdog::access(self, Frame::Control, access),
            Device::WatchdogRefresh => watchdog::access(self, Frame::Refresh, access),
            Device::Uart
            | Device::Distributor
            | Device::Redistributors
            | Device::CpuInterface
            | Device::MonitorUart
            | Device::Virtio => None,
        }
    }

    /// Performs a privileged guest's access to its second UART. Returns the value read; `None`
    /// where this VM has no second UART. Where the access completes a command, `system` executes
    /// it.
    #[inline(never)]
    pub fn monitor_uart_access(&'static self, access: Access, system: &impl System) -> Option<u64> {
        let uart = self.devices.monitor_uart.as_ref()?;
        let drive = |level| self.drive(SpiSource::MonitorUart, level);
        Some(uart.access(access, system, drive, |set| kick(self, set)))
    }

    /// Signals to the guest that OP-TEE has notifications for some VM, if the guest enabled them.
    /// The guest asks OP-TEE whether any is its own.
    pub fn notify(&'static self) {
        let wanting = self.mediator().filter(|vm| vm.wants_notifications());
        // The VM may end between this check and the interrupt. Then its vGIC is reset, or the guest
        // takes an interrupt without a notification, as it does for every notification of a
        // neighbour.
        let Some(mediator) = wanting else {
            return;
        };
        if mediator.speaks_ffa() {
            let target = self.notified_vcpu();
            kick(self, self.vgic.raise_sgi(target, NOTIFICATION_PENDING_SGI));
        } else if let Some(line) = self.line(SpiSource::Tee) {
            kick(self, self.vgic.pulse(line));
        }
    }

    /// Returns the vCPU that takes the interrupt of notifications over FF-A: the first one that is on.
    fn notified_vcpu(&self) -> VcpuIndex {
        let mut vcpus = self.vcpus.iter();
        let first = vcpus.find(|vcpu| vcpu.power.state() == PowerState::On);
        first.map_or(VcpuIndex::BOOT, |vcpu| vcpu.index)
    }

    /// Puts a received byte into the guest's console UART.
    pub fn receive(&'static self, byte: u8) {
        let drive = |level| self.drive(SpiSource::Uart, level);
        let set = self.console.receive(byte, drive);
        set.into_iter().for_each(|set| kick(self, set));
    }

    /// Resumes the guest's console output: the machine's UART has room again.
    pub fn resume_console(&'static self) {
        let drive = |level| self.drive(SpiSource::Uart, level);
        let set = self.console.resume_output(drive);
        set.into_iter().for_each(|set| kick(self, set));
    }

    /// Presses the guest's power button, and releases it as soon as the guest has seen it pressed.
    /// The guest decides how to react.
    pub fn press_power_button(&'static self) {
        self.with_gpio(Pl061::press);
    }

    /// Raises the alarm of the guest's clock if its time has come.
    pub fn pass_time(&'static self) {
        self.with_rtc(|rtc| rtc.pass(seconds()));
    }

    fn with_rtc<R>(&'static self, change: impl FnOnce(&mut Pl031) -> R) -> R {
        let mut rtc = self.devices.rtc.lock();
        let result = change(&mut rtc);
        // Under the device's lock, as in `with_gpio`.
        let set = self.drive(SpiSource::Rtc, rtc.irq_line());
        drop(rtc);
        kick(self, set);
        result
    }

    fn with_gpio<R>(&'static self, change: impl FnOnce(&mut Pl061) -> R) -> R {
        let mut gpio = self.devices.gpio.lock();
        let result = change(&mut gpio);
        // Under the device's lock, so that levels reach the vGIC in order.
        let set = self.drive(SpiSource::Gpio, gpio.irq_line());
        drop(gpio);
        kick(self, set);
        result
    }

    pub(super) fn drive(&self, source: SpiSource, level: bool) -> VcpuSet {
        match self.line(source) {
            Some(line) => self.vgic.set_line(line, level),
            None => VcpuSet::EMPTY,
        }
    }

    /// Drives the interrupt of the virtio device in a slot.
    pub(super) fn drive_virtio(&self, slot: usize, level: bool) -> VcpuSet {
        let intid = self.spis.virtio(slot).and_then(|spi| IntId::new(32 + spi));
        match intid.and_then(IrqLine::spi) {
            Some(line) => self.vgic.set_line(line, level),
            None => VcpuSet::EMPTY,
        }
    }

    /// Returns the vGIC's input for an interrupt. The SPIs are some that the vGIC has, and begin at INTID 32.
    fn line(&self, source: SpiSource) -> Option<IrqLine> {
        IrqLine::spi(IntId::new(32 + self.spis.of(source))?)
    }
}
