// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The UART of Amlogic's SoCs (S922X datasheet, chapter 11.9). Its interrupt comes with the steps of the FIFOs' levels.

use super::{Condition, Reg, Step, Table};

/// The byte to send.
pub const WFIFO: Reg = Reg::new(0x00);
/// The received byte.
pub const RFIFO: Reg = Reg::new(0x04);
/// The control register with the interrupt enables.
pub const CONTROL: Reg = Reg::new(0x08);
/// The flags.
pub const STATUS: Reg = Reg::new(0x0c);
/// The levels that interrupt.
pub const MISC: Reg = Reg::new(0x10);

/// The transmitter's and the receiver's enables.
pub const CONTROL_ENABLED: u32 = 1 << 12 | 1 << 13;
pub const CONTROL_RX: u32 = 1 << 27;
pub const CONTROL_TX: u32 = 1 << 28;
pub const STATUS_RX_EMPTY: u32 = 1 << 20;
pub const STATUS_TX_FULL: u32 = 1 << 21;
pub const STATUS_TX_EMPTY: u32 = 1 << 22;
pub const STATUS_TX_ACTIVE: u32 = 1 << 25;
/// One byte received, half of the smaller FIFO left to send.
pub const MISC_LEVELS: u32 = 0xffff;
pub const MISC_RX_1_TX_32: u32 = 1 | 32 << 8;

/// The UART.
pub const MESON: Table = Table {
    send: WFIFO,
    receive: RFIFO,
    last: MISC,
    depth: 128,
    has_room: Condition::clear(STATUS, STATUS_TX_FULL),
    takes_burst: None,
    has_received: Condition::clear(STATUS, STATUS_RX_EMPTY),
    is_idle: Condition::is(STATUS, STATUS_TX_EMPTY | STATUS_TX_ACTIVE, STATUS_TX_EMPTY),
    is_spurious: None,
    listen: &[
        Step::change(MISC, MISC_LEVELS, MISC_RX_1_TX_32),
        Step::change(CONTROL, 0, CONTROL_RX | CONTROL_ENABLED),
    ],
    before_drain: &[],
    after_drain: &[],
    after_send: &[],
    transmit_on: &[Step::change(CONTROL, 0, CONTROL_TX)],
    transmit_off: &[Step::change(CONTROL, CONTROL_TX, 0)],
};
