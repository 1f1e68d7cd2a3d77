// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Measures accesses to devices: those that the hypervisor emulates, and the interrupts that it
//! forwards.

use crate::meter::{self, Meter};
use alloc::format;
use alloc::string::String;
use guest_bare::machine::machine;
use guest_bare::rtc::Register;
use guest_bare::{cpu, gic, timer};

/// The rounds of each measurement.
const ROUNDS: usize = 8;
/// The ticks until the timer's interrupt: more than preparing the wait takes.
const SOON: u64 = 2000;
/// GICD_TYPER, IHI 0069H 12.9.38 and IHI 0048B.b 4.3.2.
const GICD_TYPER: u64 = 0x4;
/// UARTFR, and its bit that is set while there is nothing to receive.
const UARTFR: u64 = 0x18;
const UARTFR_RXFE: u32 = 1 << 4;

/// Acknowledges the interrupt that was sent to this vCPU.
fn take() -> Result<u32, String> {
    match gic::take() {
        Some(gic::POKE) => Ok(gic::POKE),
        other => Err(format!("the interrupt did not come: {other:?}")),
    }
}

/// A PL031 that is the program's own: its registers, and its interrupt.
#[derive(Clone, Copy)]
struct OwnClock {
    base: u64,
    intid: u32,
}

impl OwnClock {
    const fn address(self, register: Register) -> u64 {
        self.base + register as u64
    }

    fn write(self, register: Register, value: u32) {
        // SAFETY: a register of the PL031 that the tree names, mapped as device memory; it masters no memory.
        unsafe { core::ptr::write_volatile(self.address(register) as *mut u32, value) };
    }

    fn read(self, register: Register) -> u32 {
        // SAFETY: as in `write`.
        unsafe { core::ptr::read_volatile(self.address(register) as *const u32) }
    }

    /// Sets the alarm off, behind its mask. It stays on until it is cleared.
    fn set_off(self) -> bool {
        self.write(Register::Mask, 0);
        // The next second may begin in between.
        (0..3).any(|_| {
            self.write(Register::Match, self.read(Register::Data));
            self.read(Register::Raw) & 1 != 0
        })
    }

    /// Lets the alarm through, counted: the interrupt comes with the store.
    fn interrupt(self) -> Result<(), String> {
        meter::store(self.address(Register::Mask), 1);
        let taken = gic::take();
        self.write(Register::Mask, 0);
        match taken {
            Some(intid) if intid == self.intid => {
                gic::end(intid);
                Ok(())
            }
            other => Err(format!("the device's interrupt did not come: {other:?}")),
        }
    }
}

/// Measures the interrupt of the machine's clock, if the program has it.
pub fn measure_own(meter: &Meter) {
    let Some((base, intid)) = machine().machine_rtc else {
        return;
    };
    let clock = OwnClock { base, intid };
    if !clock.set_off() {
        return meter::failed("device-interrupt", "the alarm does not go off");
    }
    gic::enable_spi(intid);
    meter.measure("device-interrupt", ROUNDS, || clock.interrupt());
    gic::disable_spi(intid);
    clock.write(Register::Clear, 1);
}

/// Measures all others.
pub fn measure(meter: &Meter) {
    let machine = machine();
    meter.measure("mmio-gicd-typer", ROUNDS, || {
        match meter::load(machine.distributor + GICD_TYPER) {
            0 => Err("GICD_TYPER is zero".into()),
            _ => Ok(()),
        }
    });
    if let Some(uart) = machine.uart {
        meter.measure("mmio-uartfr", ROUNDS, || match meter::load(uart + UARTFR) {
            flags if flags & UARTFR_RXFE != 0 => Ok(()),
            flags => Err(format!("UARTFR is {flags:#x}")),
        });
    }
    let this = cpu::index();
    meter.measure("sgi-self", ROUNDS, || {
        meter::poke(this);
        take().map(gic::end)
    });
    meter.measure("interrupt-end", ROUNDS, || {
        gic::poke(this);
        take().map(meter::end_interrupt)
    });
    meter.measure("timer-interrupt", ROUNDS, || {
        let ticks =
            meter::marked(|| timer::interrupt_after(SOON)).ok_or("the interrupt did not come")?;
        meter::waited(ticks);
        Ok(())
    });
}
