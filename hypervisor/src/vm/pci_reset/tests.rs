// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Functions as QEMU has them, and some that are odd.

use super::*;
use std::cell::Cell;
use std::collections::BTreeMap;

/// A root bus.
#[derive(Default)]
struct Bus {
    functions: BTreeMap<Function, BTreeMap<u16, u32>>,
    accesses: Cell<u32>,
    /// Functions that were reset, and how.
    resets: Vec<(u8, &'static str)>,
}

const fn at(device: u8, function: u8) -> Function {
    Function { device, function }
}

/// Where the fake's capabilities are.
const PM_AT: u16 = 0x40;
const EXPRESS_AT: u16 = 0x80;

impl Bus {
    /// Adds a function in the middle of its work, with a header type.
    fn add(&mut self, function: Function, header: u32) -> &mut BTreeMap<u16, u32> {
        let space = self.functions.entry(function).or_default();
        space.insert(IDENTITY, 0x1042_1af4);
        // Memory and Bus Master.
        space.insert(COMMAND, 0b110);
        space.insert(HEADER, header << 16);
        space
    }

    fn with_capabilities(&mut self, function: Function, device_capabilities: u32, pm: u32) {
        let space = self.add(function, 0);
        space.insert(COMMAND, 0b110 | HAS_CAPABILITIES);
        space.insert(CAPABILITIES, PM_AT.into());
        space.insert(PM_AT, u32::from(EXPRESS_AT) << 8 | POWER_MANAGEMENT);
        space.insert(PM_AT + POWER_CONTROL, pm);
        space.insert(EXPRESS_AT, EXPRESS);
        space.insert(EXPRESS_AT + DEVICE_CAPABILITIES, device_capabilities);
        // Errors that a one would clear.
        space.insert(EXPRESS_AT + DEVICE_CONTROL, 0xf_2810);
    }

    fn get(&self, function: Function, register: u16) -> u32 {
        self.functions[&function]
            .get(&register)
            .copied()
            .unwrap_or(0)
    }

    /// Resets all. Returns the milliseconds that were waited.
    fn reset(&mut self) -> u32 {
        let (mut position, mut waited) = (Position::START, 0);
        loop {
            self.accesses.set(0);
            let progress = step(self, position);
            assert!(self.accesses.get() < 8 * 8 * 120, "{}", self.accesses.get());
            match progress {
                Progress::More(next) => position = next,
                Progress::Later(next, milliseconds) => {
                    waited += milliseconds;
                    position = next;
                }
                Progress::Done(milliseconds) => return waited + milliseconds,
            }
        }
    }
}

impl ConfigSpace for Bus {
    fn read(&self, at: Function, register: u16) -> u32 {
        self.accesses.set(self.accesses.get() + 1);
        assert!(register.is_multiple_of(4) && register < 0x100);
        match self.functions.get(&at) {
            Some(space) => space.get(&register).copied().unwrap_or(0),
            None => u32::MAX,
        }
    }

    fn write(&mut self, at: Function, register: u16, value: u32) {
        self.accesses.set(self.accesses.get() + 1);
        let space = self.functions.get_mut(&at).expect("no write to nobody");
        let old = space.get(&register).copied().unwrap_or(0);
        let is_bridge = space[&HEADER] >> 16 & 0x7f == 1;
        let value = match register {
            COMMAND => {
                assert_eq!(value >> 16, 0, "nothing of Status is cleared");
                old & !0xffff | value
            }
            BRIDGE_CONTROL if is_bridge => {
                if old & !value & SECONDARY_BUS_RESET != 0 {
                    self.resets.push((at.device, "bus"));
                }
                value
            }
            _ if register == PM_AT + POWER_CONTROL => {
                if old & POWER_STATE == 3 && value & POWER_STATE == 0 {
                    self.resets.push((at.device, "D3hot"));
                }
                value
            }
            _ if register == EXPRESS_AT + DEVICE_CONTROL => {
                assert_eq!(value >> 16, 0, "nothing of Device Status is cleared");
                assert_eq!(value, 0x2810 | INITIATE_RESET);
                self.resets.push((at.device, "FLR"));
                // As after power-on.
                space.insert(COMMAND, HAS_CAPABILITIES);
                0x2810
            }
            other => panic!("a write to {other:#x}"),
        };
        self.functions.get_mut(&at).unwrap().insert(register, value);
    }
}

#[test]
fn each_function_is_reset_in_the_best_way_that_it_has() {
    let mut bus = Bus::default();
    bus.add(at(0, 0), 0);
    bus.with_capabilities(at(1, 0), CAN_RESET, 0);
    bus.with_capabilities(at(7, 0), 0, 0x100);
    bus.with_capabilities(at(8, 0), 0, NO_SOFT_RESET);
    bus.add(at(31, 0), 0x81).insert(BRIDGE_CONTROL, 0x2_0123);
    bus.add(at(31, 6), 0x01).insert(BRIDGE_CONTROL, 0);
    assert_eq!(bus.reset(), 2 * SETTLE);
    assert_eq!(
        bus.resets,
        [(1, "FLR"), (7, "D3hot"), (31, "bus"), (31, "bus")]
    );
    for function in bus.functions.keys() {
        let command = bus.get(*function, COMMAND) & 0xffff;
        assert_eq!(command, QUIET, "{function:?}");
    }
    assert_eq!(bus.get(at(31, 0), BRIDGE_CONTROL), 0x2_0123);
    assert_eq!(bus.get(at(7, 0), PM_AT + POWER_CONTROL), 0x100);
}

/// A function beside function 0 counts only where that one says so.
#[test]
fn other_functions_are_looked_for_where_there_may_be_some() {
    let mut bus = Bus::default();
    bus.add(at(4, 3), 0);
    bus.reset();
    assert_eq!(bus.get(at(4, 3), COMMAND), 0b110);
    bus.add(at(4, 0), 0x80);
    bus.reset();
    assert_eq!(bus.get(at(4, 3), COMMAND), QUIET);
}

#[test]
fn capabilities_that_loop_or_lead_astray_end() {
    for first in [0, 0x10, 0x40, 0xf8, 0xff] {
        let mut bus = Bus::default();
        for function in 0..8 {
            let space = bus.add(at(0, function), 0x80);
            space.insert(COMMAND, HAS_CAPABILITIES);
            space.insert(CAPABILITIES, first);
            space.insert(0x40, 0x4005);
        }
        bus.reset();
        assert_eq!(bus.resets, []);
    }
}

#[test]
fn a_bus_without_functions_is_left_alone() {
    assert_eq!(Bus::default().reset(), 2 * SETTLE);
    assert_eq!(at(31, 7).offset(), 0xf_f000);
}
