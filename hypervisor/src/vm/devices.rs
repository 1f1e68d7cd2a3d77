// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A VM's devices but its interrupt controller and its console.

use crate::platform::WALL_CLOCK;
use alloc::boxed::Box;
use postern_arch::timer;
use postern_base::lock::{Class, Lock};
use postern_console::monitor_uart::MonitorUart;
use postern_devices::pl031::Pl031;
use postern_devices::pl061::Pl061;

/// Returns the machine's time: seconds since 1970.
pub fn seconds() -> u32 {
    WALL_CLOCK.seconds_at(timer::now(), timer::frequency())
}

/// The devices that `Vm::console` does not have.
pub struct Devices {
    /// A privileged VM's second UART.
    pub monitor_uart: Option<Box<MonitorUart>>,
    /// With the power button.
    pub gpio: Lock<Pl061>,
    /// The clock.
    pub rtc: Lock<Pl031>,
}

impl Devices {
    /// As after power-on.
    pub fn new(privileged: bool) -> Self {
        Self {
            monitor_uart: privileged.then(|| Box::new(MonitorUart::new())),
            gpio: Lock::new(Class::Gpio, Pl061::new()),
            rtc: Lock::new(Class::Rtc, Pl031::new(seconds())),
        }
    }

    /// As after power-on.
    pub fn reset(&self) {
        *self.gpio.lock() = Pl061::new();
        // What a guest set was its own: the next one has the machine's time.
        *self.rtc.lock() = Pl031::new(seconds());
        if let Some(uart) = &self.monitor_uart {
            uart.reset();
        }
    }
}
