// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A VM's devices but its interrupt controller: the guest's accesses, and what reaches them from
//! outside.

use super::Vm;
use crate::arch::timer;
use crate::console::manager::Manager;
use crate::console::monitor::machine::ThisMachine;
use crate::platform::WALL_CLOCK;
use crate::sched::{run, sections};
use crate::vm::layout::{self, Device};
use alloc::boxed::Box;
use postern_base::lock::{Class, Lock};
use postern_base::mmio::Access;
use postern_devices::pl031::Pl031;
use postern_devices::pl061::Pl061;
use postern_vgic::{IntId, VcpuSet, Wire};

/// The interrupts' inputs at the vGIC. SPIs begin at INTID 32.
const UART_INTID: IntId = intid(layout::UART_SPI);
const MANAGER_INTID: IntId = intid(layout::MANAGER_SPI);
const GPIO_INTID: IntId = intid(layout::GPIO_SPI);
const RTC_INTID: IntId = intid(layout::RTC_SPI);

const fn intid(spi: u32) -> IntId {
    match IntId::new(32 + spi) {
        Some(intid) => intid,
        None => panic!("the devices' SPIs are some that the vGIC has"),
    }
}

/// The machine's time: seconds since 1970.
fn seconds() -> u32 {
    WALL_CLOCK.seconds_at(timer::now(), timer::frequency())
}

/// The devices that `Vm::console` does not have.
pub(super) struct Devices {
    /// A privileged VM's.
    manager: Option<Box<Manager>>,
    gpio: Lock<Pl061>,
    rtc: Lock<Pl031>,
}

impl Devices {
    pub(super) fn new(privileged: bool) -> Self {
        Self {
            manager: privileged.then(|| Box::new(Manager::new())),
            gpio: Lock::new(Class::Gpio, Pl061::new()),
            rtc: Lock::new(Class::Rtc, Pl031::new(seconds())),
        }
    }

    /// As after power-on.
    pub(super) fn reset(&self) {
        *self.gpio.lock() = Pl061::new();
        // What a guest set was its own: the next one has the machine's time.
        *self.rtc.lock() = Pl031::new(seconds());
        if let Some(manager) = &self.manager {
            manager.reset();
        }
    }
}

impl Vm {
    /// A guest's access to a device that is not its interrupt controller: what a read finds; `None`
    /// where this VM does not have it.
    pub fn device_access(&'static self, device: Device, access: Access) -> Option<u64> {
        match device {
            Device::Uart => {
                let (value, kick) = self
                    .console
                    .access(access, |level| self.drive(UART_INTID, level));
                run::kick(self, kick);
                Some(value)
            }
            Device::Manager => {
                let drive = |level| self.drive(MANAGER_INTID, level);
                let manager = self.devices.manager.as_ref()?;
                // A command may take long, and takes interrupts meanwhile. The trap's end closes it.
                sections::open();
                Some(manager.access(access, &ThisMachine, drive, |kick| run::kick(self, kick)))
            }
            Device::Rtc if !WALL_CLOCK.is_set() => None,
            Device::Rtc => Some(self.with_rtc(|rtc| rtc.access(access, seconds()))),
            Device::Gpio => Some(self.with_gpio(|gpio| gpio.access(access))),
            Device::Distributor | Device::Redistributors => None,
        }
    }

    /// A byte for the guest's console.
    pub fn receive(&'static self, byte: u8) {
        let kick = self
            .console
            .receive(byte, |level| self.drive(UART_INTID, level));
        run::kick(self, kick);
    }

    /// The machine's UART has room again for what the guest has to say.
    pub fn console_goes_on(&'static self) {
        let kick = self.console.go_on(|level| self.drive(UART_INTID, level));
        run::kick(self, kick);
    }

    /// Presses the guest's power button, and releases it as soon as the guest has seen it pressed.
    /// What it makes of that is its own business.
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
        let kick = self.drive(RTC_INTID, rtc.irq_line());
        drop(rtc);
        run::kick(self, kick);
        result
    }

    fn with_gpio<R>(&'static self, change: impl FnOnce(&mut Pl061) -> R) -> R {
        let mut gpio = self.devices.gpio.lock();
        let result = change(&mut gpio);
        // Under the device's lock, so that levels arrive in their order.
        let kick = self.drive(GPIO_INTID, gpio.irq_line());
        drop(gpio);
        run::kick(self, kick);
        result
    }

    fn drive(&self, intid: IntId, level: bool) -> VcpuSet {
        match Wire::spi(intid) {
            Some(wire) => self.vgic.set_line(wire, level),
            None => VcpuSet::EMPTY,
        }
    }
}
