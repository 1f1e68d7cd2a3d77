// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The physical GICv3's registers in memory (IHI 0069H): the distributor, and the redistributors. The system registers
//! belong to `gic.rs`.
//!
//! All waits are bounded. A register that does not change in time is an error, which names the register.

use super::distributor::*;
use mediator::addr::Pa;
use postern_base::ticks::Ticks;
use postern_boot_tree::{Mpidr, Trigger};
use thiserror::Error;

/// The extended PPIs.
const EXTENDED_PPIS: core::ops::Range<u32> = 1056..1120;
/// The extended SPIs.
const EXTENDED_SPIS: core::ops::Range<u32> = 4096..5120;

const GICD_IGROUPR: u64 = 0x0080;
const GICD_IGROUPR_E: u64 = 0x1000;
const GICD_ICENABLER_E: u64 = 0x1400;
const GICD_ICACTIVER_E: u64 = 0x1c00;
const GICD_IROUTER: u64 = 0x6000;
const GICD_CTLR_RWP: u32 = 1 << 31;
const GICD_CTLR_ARE_NS: u32 = 1 << 4;
const GICD_CTLR_ENABLE_GRP1: u32 = 1 << 1;
const GICD_TYPER_ESPI: u32 = 1 << 8;
const GICR_CTLR: u64 = 0x0000;
const GICR_CTLR_RWP: u32 = 1 << 3;
const GICR_CTLR_ENABLE_LPIS: u32 = 1 << 0;
const GICR_TYPER: u64 = 0x0008;
const GICR_TYPER_LAST: u64 = 1 << 4;
const GICR_WAKER: u64 = 0x0014;
const GICR_WAKER_PROCESSOR_SLEEP: u32 = 1 << 1;
const GICR_WAKER_CHILDREN_ASLEEP: u32 = 1 << 2;
/// The redistributor's second frame, with the SGIs and PPIs. Its registers lie as the distributor's do, and those of
/// the extended PPIs behind them.
const SGI_FRAME: u64 = 0x1_0000;
const REDISTRIBUTOR_STRIDE: u64 = 0x2_0000;
/// An error: a register does not change in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "the GIC does not get ready: {field} of {register} at {:#x} stays one for more than a second: \
     check the firmware and the GICv3 node's reg",
    at.get()
)]
pub struct GicError {
    /// The name of the register.
    pub register: &'static str,
    /// The field that does not change.
    pub field: &'static str,
    /// The address of the register.
    pub at: Pa,
}

/// Waits until `is_so` holds, for `patience` of the clock `now` at most. Returns whether it holds.
pub fn wait_until(
    mut now: impl FnMut() -> Ticks,
    patience: Ticks,
    mut is_so: impl FnMut() -> bool,
) -> bool {
    let since = now();
    while !is_so() {
        if now().since(since) > patience {
            // This pCPU may have been away between the two looks.
            return is_so();
        }
        core::hint::spin_loop();
    }
    true
}

/// A bit of a register to wait for, and its name.
struct Flag {
    register: &'static str,
    field: &'static str,
    offset: u64,
    bit: u32,
}

const DISTRIBUTOR_WRITES: Flag = Flag {
    register: "GICD_CTLR",
    field: "RWP",
    offset: GICD_CTLR,
    bit: GICD_CTLR_RWP,
};
const REDISTRIBUTOR_WRITES: Flag = Flag {
    register: "GICR_CTLR",
    field: "RWP",
    offset: GICR_CTLR,
    bit: GICR_CTLR_RWP,
};
const WAKE_UP: Flag = Flag {
    register: "GICR_WAKER",
    field: "ChildrenAsleep",
    offset: GICR_WAKER,
    bit: GICR_WAKER_CHILDREN_ASLEEP,
};

impl Flag {
    fn wait(&self, bus: &impl Bus, base: Pa) -> Result<(), GicError> {
        let at = offset(base, self.offset);
        let is_clear = || bus.read(at) & self.bit == 0;
        if wait_until(|| bus.now(), bus.second(), is_clear) {
            Ok(())
        } else {
            Err(GicError {
                register: self.register,
                field: self.field,
                at,
            })
        }
    }
}

/// Sets the distributor up: all SPIs, the extended ones too, disabled and inactive, group 1 on. Once, on the boot pCPU.
///
/// # Errors
/// It does not get ready.
pub fn init_distributor(bus: &impl Bus, base: Pa) -> Result<(), GicError> {
    let write = |register: u64, value| bus.write(offset(base, register), value);
    write(GICD_CTLR, GICD_CTLR_ARE_NS | GICD_CTLR_ENABLE_GRP1);
    DISTRIBUTOR_WRITES.wait(bus, base)?;
    let kind = bus.read(offset(base, GICD_TYPER));
    // The first word is the redistributors'.
    for number in 1..u64::from(kind & 0x1f) + 1 {
        write(GICD_ICENABLER + 4 * number, u32::MAX);
        write(GICD_ICACTIVER + 4 * number, u32::MAX);
        write(GICD_IGROUPR + 4 * number, u32::MAX);
    }
    if kind & GICD_TYPER_ESPI != 0 {
        for number in 0..u64::from(kind >> 27) + 1 {
            write(GICD_ICENABLER_E + 4 * number, u32::MAX);
            write(GICD_ICACTIVER_E + 4 * number, u32::MAX);
            write(GICD_IGROUPR_E + 4 * number, u32::MAX);
        }
    }
    DISTRIBUTOR_WRITES.wait(bus, base)
}

/// Finds the redistributor of the pCPU with this affinity
/// among regions of (start, end), in bytes; `stride` is the distance that the tree asks for.
pub fn find_redistributor(
    bus: &impl Bus,
    regions: impl Iterator<Item = (Pa, Pa)>,
    stride: u64,
    mpidr: Mpidr,
) -> Option<Pa> {
    let affinity = (mpidr.get() & 0xff_ffff) | (mpidr.get() >> 32) << 24;
    for (start, end) in regions {
        let mut frame = start.get();
        while frame + REDISTRIBUTOR_STRIDE <= end.get() {
            let kind = bus.read_double(Pa::new(frame + GICR_TYPER));
            if kind >> 32 == affinity {
                return Some(Pa::new(frame));
            }
            if kind & GICR_TYPER_LAST != 0 {
                break;
            }
            // VLPIs double the frames.
            frame += stride.max(REDISTRIBUTOR_STRIDE << ((kind >> 1) & 1));
        }
    }
    None
}

/// Sets a pCPU's redistributor up, on that pCPU: all private interrupts, the extended ones too, disabled and inactive,
/// but those of `own`, a bit each. LPIs are off, where the redistributor lets them be turned off.
///
/// # Errors
/// It does not get ready.
pub fn init_redistributor(bus: &impl Bus, base: Pa, own: u32) -> Result<(), GicError> {
    let waker = offset(base, GICR_WAKER);
    bus.write(waker, bus.read(waker) & !GICR_WAKER_PROCESSOR_SLEEP);
    WAKE_UP.wait(bus, base)?;
    let control = offset(base, GICR_CTLR);
    bus.write(control, bus.read(control) & !GICR_CTLR_ENABLE_LPIS);
    let write = |register: u64, value| bus.write(offset(base, SGI_FRAME + register), value);
    let kind = bus.read_double(offset(base, GICR_TYPER));
    // PPInum: none, one or two words of extended PPIs.
    let words = 1 + (kind >> 27 & 0x1f).min(2);
    for number in 0..words {
        write(GICD_ICENABLER + 4 * number, u32::MAX);
    }
    // Until then they may still be delivered (IHI 0069H, 12.11.2, GICR_CTLR.RWP).
    REDISTRIBUTOR_WRITES.wait(bus, base)?;
    for number in 0..words {
        write(GICD_ICACTIVER + 4 * number, u32::MAX);
        write(GICD_IGROUPR + 4 * number, u32::MAX);
    }
    enable_private(bus, private_frame(base), own);
    Ok(())
}

/// Sets up an SPI, which is disabled and stays so, and routes it to the pCPU with `mpidr`. Without a trigger it stays level or edge as
/// firmware left it.
pub fn configure_spi(bus: &impl Bus, base: Pa, intid: u32, trigger: Option<Trigger>, mpidr: Mpidr) {
    super::distributor::configure_spi(bus, base, intid, trigger, || {
        route_spi(bus, base, intid, mpidr);
    });
}

/// Routes an SPI to the pCPU with `mpidr`.
pub fn route_spi(bus: &impl Bus, base: Pa, intid: u32, mpidr: Mpidr) {
    let at = offset(base, GICD_IROUTER + 8 * u64::from(intid));
    bus.write_double(at, mpidr.get());
}

/// Disables an interrupt of any kind but LPIs: a private one in the private frame of this pCPU, or an SPI. LPIs are not
/// enabled ([`init_redistributor`]). A GICv2 has the same registers for the INTIDs that it has.
pub fn disable(bus: &impl Bus, distributor: Pa, private: Pa, intid: u32) {
    let (at, number) = match intid {
        0..32 => (offset(private, GICD_ICENABLER), intid),
        32..FIRST_SPECIAL_INTID => (offset(distributor, GICD_ICENABLER), intid),
        // They follow the 32 private ones.
        _ if EXTENDED_PPIS.contains(&intid) => (
            offset(private, GICD_ICENABLER),
            intid - EXTENDED_PPIS.start + 32,
        ),
        _ if EXTENDED_SPIS.contains(&intid) => (
            offset(distributor, GICD_ICENABLER_E),
            intid - EXTENDED_SPIS.start,
        ),
        _ => return,
    };
    bus.write(offset(at, word(number)), bit(number));
}

/// Returns the private frame of a redistributor.
pub const fn private_frame(redistributor: Pa) -> Pa {
    offset(redistributor, SGI_FRAME)
}

#[cfg(test)]
mod tests;
