// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The low-power UART of i.MX7ULP, i.MX8Q, i.MX8ULP and i.MX9 (NXP IMX8DQXPRM chapter 16.12).
//!
//! After an overrun it receives nothing until the flag is cleared.

use super::{Condition, Reg, Step, Table};

/// The flags; a one clears those that are kept.
pub const STAT: Reg = Reg::new(0x14);
/// The control register with the interrupt enables.
pub const CTRL: Reg = Reg::new(0x18);
/// The data register.
pub const DATA: Reg = Reg::new(0x1c);

pub const STAT_TX_ROOM: u32 = 1 << 23;
pub const STAT_TX_DONE: u32 = 1 << 22;
pub const STAT_RECEIVED: u32 = 1 << 21;
pub const CTRL_TX: u32 = 1 << 23;
pub const CTRL_RX: u32 = 1 << 21;
/// The enables of other interrupts: overrun, noise, framing, parity, transmission complete, idle, matches.
pub const CTRL_OTHERS: u32 = 0xf << 24 | 1 << 22 | 1 << 20 | 1 << 15 | 1 << 14;
/// The transmitter's and the receiver's enables.
pub const CTRL_ENABLED: u32 = 1 << 19 | 1 << 18;

/// The UART.
pub const LPUART: Table = Table {
    send: DATA,
    receive: DATA,
    last: DATA,
    depth: 64,
    has_room: Condition::set(STAT, STAT_TX_ROOM),
    takes_burst: None,
    has_received: Condition::set(STAT, STAT_RECEIVED),
    is_idle: Condition::set(STAT, STAT_TX_DONE),
    is_spurious: None,
    listen: &[Step::change(CTRL, CTRL_OTHERS, CTRL_RX | CTRL_ENABLED)],
    before_drain: &[],
    // Written back, which clears what is set, and keeps the configuration that the register has too.
    after_drain: &[Step::change(STAT, 0, 0)],
    after_send: &[],
    transmit_on: &[Step::change(CTRL, 0, CTRL_TX)],
    transmit_off: &[Step::change(CTRL, CTRL_TX, 0)],
};
