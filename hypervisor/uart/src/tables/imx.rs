// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The UART of i.MX (NXP IMX8MPRM chapter 16.2).

use super::{Condition, Reg, Step, Table};

/// The received byte.
pub const URXD: Reg = Reg::new(0x00);
/// The byte to send.
pub const UTXD: Reg = Reg::new(0x40);
/// Control registers with the interrupt enables.
pub const UCR1: Reg = Reg::new(0x80);
pub const UCR2: Reg = Reg::new(0x84);
pub const UCR4: Reg = Reg::new(0x8c);
/// The FIFOs' trigger levels.
pub const UFCR: Reg = Reg::new(0x90);
/// Status registers.
pub const USR2: Reg = Reg::new(0x98);
pub const UTS: Reg = Reg::new(0xb4);

pub const UCR1_RX_READY: u32 = 1 << 9;
pub const UCR1_TX_READY: u32 = 1 << 13;
/// Enables of other interrupts and of DMA: auto baud, idle, aging timer and DMA, transmitter empty, RTS.
pub const UCR1_OTHERS: u32 =
    1 << 15 | 1 << 14 | 1 << 12 | 1 << 8 | 1 << 6 | 1 << 5 | 1 << 3 | 1 << 2;
pub const UCR2_RX_TX: u32 = 1 << 1 | 1 << 2;
/// The aging timer's enable.
pub const UCR2_AGING: u32 = 1 << 3;
/// The enables of interrupts: data ready, overrun, break, transmission complete, wake, end of infrared, inversion stays.
pub const UCR4_INTERRUPTS: u32 = 1 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 7 | 1 << 8;
/// The trigger levels: one byte received, two left to send. The clock's divider and the DTE mode stay.
pub const UFCR_LEVELS: u32 = 0x3f | 0x3f << 10;
pub const UFCR_RX_1_TX_2: u32 = 1 | 2 << 10;
pub const USR2_RECEIVED: u32 = 1;
pub const USR2_TX_DONE: u32 = 1 << 3;
pub const UTS_TX_FULL: u32 = 1 << 4;

/// The UART.
pub const IMX: Table = Table {
    send: UTXD,
    receive: URXD,
    last: UTS,
    depth: 32,
    has_room: Condition::clear(UTS, UTS_TX_FULL),
    takes_burst: None,
    has_received: Condition::set(USR2, USR2_RECEIVED),
    is_idle: Condition::set(USR2, USR2_TX_DONE),
    is_spurious: None,
    listen: &[
        Step::change(UFCR, UFCR_LEVELS, UFCR_RX_1_TX_2),
        Step::change(UCR2, UCR2_AGING, UCR2_RX_TX),
        Step::change(UCR4, UCR4_INTERRUPTS, 0),
        Step::change(UCR1, UCR1_OTHERS, UCR1_RX_READY),
    ],
    before_drain: &[],
    after_drain: &[],
    after_send: &[],
    transmit_on: &[Step::change(UCR1, 0, UCR1_TX_READY)],
    transmit_off: &[Step::change(UCR1, UCR1_TX_READY, 0)],
};
