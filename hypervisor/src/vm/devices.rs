// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A VM's devices except its interrupt controller and its console.

use super::own_virtio::OwnVirtio;
use crate::platform::WALL_CLOCK;
use alloc::boxed::Box;
use postern_arch::timer;
use postern_base::lock::{Class, Lock};
use postern_console::monitor_uart::MonitorUart;
use postern_devices::generic_watchdog::GenericWatchdog;
use postern_devices::pl031::Pl031;
use postern_devices::pl061::Pl061;

/// Returns the machine's time: seconds since 1970.
pub fn seconds() -> u32 {
    WALL_CLOCK.seconds_at(timer::now(), timer::frequency())
}

/// A VM's devices other than `Vm::console` and `Vm::vgic`.
pub struct Devices {
    /// A privileged VM's second UART.
    pub monitor_uart: Option<Box<MonitorUart>>,
    /// The GPIO controller of the power button.
    pub gpio: Lock<Pl061>,
    /// The real-time clock.
    pub rtc: Lock<Pl031>,
    /// The watchdog, if the VM has one.
    pub watchdog: Option<Lock<GenericWatchdog>>,
    /// The virtio devices that are the VM's alone.
    pub virtio: OwnVirtio,
}

impl Devices {
    /// Returns the devices in their state after power-on.
    pub fn new(privileged: bool, watchdog: bool, virtio: OwnVirtio) -> Self {
        Self {
            monitor_uart: privileged.then(|| Box::new(MonitorUart::new())),
            gpio: Lock::new(Class::Gpio, Pl061::new()),
            rtc: Lock::new(Class::Rtc, Pl031::new(seconds())),
            watchdog: watchdog.then(|| Lock::new(Class::GuestWatchdog, GenericWatchdog::new())),
            virtio,
        }
    }

    /// Resets the devices to their state after power-on.
    pub fn reset(&self) {
        *self.gpio.lock() = Pl061::new();
        // A time that the guest set ends with its life: the next one starts with the machine's.
        *self.rtc.lock() = Pl031::new(seconds());
        if let Some(watchdog) = &self.watchdog {
            let mut watchdog = watchdog.lock();
            *watchdog = watchdog.after_reset();
        }
        if let Some(uart) = &self.monitor_uart {
            uart.reset();
        }
        self.virtio.reset();
    }
}
