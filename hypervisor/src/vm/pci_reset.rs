// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The reset of what is behind a PCI host bridge, between two lives of the VM that has the bridge.
//!
//! It keeps a function from going on in the next life with what it was told in this one, and from asserting INTx. Behind
//! an SMMU, streams abort already, so this is not what keeps a function from memory; without one, it is.
//!
//! Only the root bus is walked: which buses are below is up to the guest. A bridge there resets all below it with its
//! secondary bus (PCI-to-PCI Bridge 1.2, 3.2.5.18). A function resets itself with a Function Level Reset (PCIe 5.0,
//! 6.6.2), or else by its way to D3hot and back, where it has no No_Soft_Reset (PCI Power Management 1.2, 5.4.1). What has
//! none of these stays as it is, with Bus Master and INTx off.

use core::ops::Range;

/// The devices of a bus.
const DEVICES: u8 = 32;
/// The devices that a step looks at.
const STEP: u8 = 8;
/// The milliseconds after a reset, until which a function may answer nothing (PCIe 5.0, 6.6.1).
pub const SETTLE: u32 = 100;

/// Vendor ID and Device ID; ones where no function is.
const IDENTITY: u16 = 0x00;
/// Command and Status. The bits of Status are cleared by writing them as one.
const COMMAND: u16 = 0x04;
/// Command: nothing but Interrupt Disable.
const QUIET: u32 = 1 << 10;
/// Status: there are capabilities.
const HAS_CAPABILITIES: u32 = 1 << 20;
/// The word with the header type.
const HEADER: u16 = 0x0c;
const MULTIFUNCTION: u32 = 1 << 23;
/// The offset of the first capability.
const CAPABILITIES: u16 = 0x34;
/// The word with Bridge Control, in the header of a bridge.
const BRIDGE_CONTROL: u16 = 0x3c;
const SECONDARY_BUS_RESET: u32 = 1 << 22;
/// The capabilities that are used.
const POWER_MANAGEMENT: u32 = 0x01;
const EXPRESS: u32 = 0x10;
/// The most capabilities that fit into the configuration space of PCI.
const MAX_CAPABILITIES: usize = 48;
/// Device Capabilities, of the Express capability.
const DEVICE_CAPABILITIES: u16 = 0x04;
const CAN_RESET: u32 = 1 << 28;
/// Device Control and Status.
const DEVICE_CONTROL: u16 = 0x08;
const INITIATE_RESET: u32 = 1 << 15;
const CONTROL: u32 = 0xffff;
/// The control and status register of power management.
const POWER_CONTROL: u16 = 0x04;
const POWER_STATE: u32 = 0b11;
const NO_SOFT_RESET: u32 = 1 << 3;

/// A function of the root bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Function {
    /// The device, 0 to 31.
    pub device: u8,
    /// The function, 0 to 7.
    pub function: u8,
}

impl Function {
    /// Returns the offset of its configuration space from that of its bus (ECAM, PCIe 5.0 7.2.2).
    pub const fn offset(self) -> u64 {
        (self.device as u64) << 15 | (self.function as u64) << 12
    }
}

/// The configuration space of the root bus.
pub trait ConfigSpace {
    /// Reads the word at a register, a multiple of four below 256; ones where there is no function.
    fn read(&self, at: Function, register: u16) -> u32;

    /// Writes a word.
    fn write(&mut self, at: Function, register: u16, value: u32);
}

/// How far a reset is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    phase: Phase,
    device: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Functions are turned off, and resets begin.
    Begin,
    /// Resets that last until they are ended are ended.
    End,
}

impl Position {
    /// The beginning.
    pub const START: Self = Self {
        phase: Phase::Begin,
        device: 0,
    };
}

/// What follows a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Another step.
    More(Position),
    /// Another step, after at least this number of milliseconds.
    Later(Position, u32),
    /// Nothing; but functions answer only after so many milliseconds.
    Done(u32),
}

/// Does a step: a few accesses for each of eight devices.
pub fn step(config: &mut impl ConfigSpace, at: Position) -> Progress {
    let end = at.device.saturating_add(STEP).min(DEVICES);
    for device in at.device..end {
        for at_function in functions(config, device) {
            match at.phase {
                Phase::Begin => begin(config, at_function),
                Phase::End => finish(config, at_function),
            }
        }
    }
    let next = |phase, device| Position { phase, device };
    match at.phase {
        phase if end < DEVICES => Progress::More(next(phase, end)),
        Phase::Begin => Progress::Later(next(Phase::End, 0), SETTLE),
        Phase::End => Progress::Done(SETTLE),
    }
}

/// Returns the functions that a device may have: none, one, or all.
fn functions<C: ConfigSpace>(config: &C, device: u8) -> impl Iterator<Item = Function> + use<C> {
    let first = Function {
        device,
        function: 0,
    };
    let numbers: Range<u8> = if config.read(first, IDENTITY) == u32::MAX {
        0..0
    } else if config.read(first, HEADER) & MULTIFUNCTION != 0 {
        0..8
    } else {
        0..1
    };
    numbers.map(move |function| Function { device, function })
}

fn is_bridge(config: &impl ConfigSpace, at: Function) -> bool {
    config.read(at, HEADER) >> 16 & 0x7f == 1
}

/// Turns a function off, and begins its reset.
fn begin(config: &mut impl ConfigSpace, at: Function) {
    if config.read(at, IDENTITY) == u32::MAX {
        return;
    }
    config.write(at, COMMAND, QUIET);
    if is_bridge(config, at) {
        let control = config.read(at, BRIDGE_CONTROL);
        config.write(at, BRIDGE_CONTROL, control | SECONDARY_BUS_RESET);
        return;
    }
    if let Some(express) = capability(config, at, EXPRESS)
        && config.read(at, express + DEVICE_CAPABILITIES) & CAN_RESET != 0
    {
        let control = config.read(at, express + DEVICE_CONTROL) & CONTROL;
        config.write(at, express + DEVICE_CONTROL, control | INITIATE_RESET);
    } else if let Some(power) = capability(config, at, POWER_MANAGEMENT) {
        let control = config.read(at, power + POWER_CONTROL) & CONTROL;
        if control & NO_SOFT_RESET == 0 {
            config.write(at, power + POWER_CONTROL, control | POWER_STATE);
        }
    }
}

/// Ends a reset that does not end by itself.
fn finish(config: &mut impl ConfigSpace, at: Function) {
    if config.read(at, IDENTITY) == u32::MAX {
        return;
    }
    if is_bridge(config, at) {
        let control = config.read(at, BRIDGE_CONTROL);
        config.write(at, BRIDGE_CONTROL, control & !SECONDARY_BUS_RESET);
    } else if let Some(power) = capability(config, at, POWER_MANAGEMENT) {
        let control = config.read(at, power + POWER_CONTROL) & CONTROL;
        if control & POWER_STATE != 0 {
            config.write(at, power + POWER_CONTROL, control & !POWER_STATE);
        }
    }
    // A reset may have set what it was before.
    config.write(at, COMMAND, QUIET);
}

/// Returns the offset of a capability.
fn capability(config: &impl ConfigSpace, at: Function, wanted: u32) -> Option<u16> {
    if config.read(at, COMMAND) & HAS_CAPABILITIES == 0 {
        return None;
    }
    let mut next = config.read(at, CAPABILITIES);
    for _ in 0..MAX_CAPABILITIES {
        let offset = (next & 0xfc) as u16;
        // The header is in front of all capabilities, and their registers are within the 256 bytes.
        if !(0x40..=0xf4).contains(&offset) {
            return None;
        }
        let head = config.read(at, offset);
        if head & 0xff == wanted {
            return Some(offset);
        }
        next = head >> 8;
    }
    None
}

#[cfg(test)]
mod tests;
