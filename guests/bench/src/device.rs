// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Measures accesses to devices: those that the hypervisor emulates, and the interrupts that it
//! forwards.

use crate::meter::{self, Meter};
use alloc::format;
use alloc::string::String;
use guest_bare::machine::machine;
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

/// Measures all of them.
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
