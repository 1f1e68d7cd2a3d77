// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Renesas' SCIF and HSCIF (R-Car Series 3rd Generation, chapters 52 and 53; RZ/V2H, chapter 7.3). The registers are the
//! same, two or four bytes apart.
//!
//! A flag is cleared by a zero after it was read as one; a one has no effect. After an overrun nothing is received until
//! the flag is cleared.

use super::{Condition, Reg, Step, Table};

/// The control register with the interrupt enables.
pub const SCSCR: Reg = Reg::new(2);
/// The byte to send.
pub const SCFTDR: Reg = Reg::byte(3);
/// The flags.
pub const SCFSR: Reg = Reg::new(4);
/// The received byte.
pub const SCFRDR: Reg = Reg::byte(5);
/// The FIFOs' control.
pub const SCFCR: Reg = Reg::new(6);
/// How many bytes are in the FIFOs: to send in the upper byte, received in the lower one.
pub const SCFDR: Reg = Reg::new(7);
/// The overrun.
pub const SCLSR: Reg = Reg::new(9);

pub const SCSCR_TX: u32 = 1 << 7;
pub const SCSCR_RX: u32 = 1 << 6;
/// The transmitter's and the receiver's enables.
pub const SCSCR_ENABLED: u32 = 1 << 5 | 1 << 4;
/// The clock's source.
pub const SCSCR_CLOCK: u32 = 3;
pub const SCFSR_ERROR: u32 = 1 << 7;
pub const SCFSR_TX_DONE: u32 = 1 << 6;
pub const SCFSR_TX_TRIGGER: u32 = 1 << 5;
pub const SCFSR_BREAK: u32 = 1 << 4;
pub const SCFSR_RX_TRIGGER: u32 = 1 << 1;
/// Fewer bytes than the trigger, and the line is silent.
pub const SCFSR_RX_REST: u32 = 1 << 0;
/// The triggers: one byte received, none left to send. An HSCIF's others are above the level that it is filled to.
pub const SCFCR_TRIGGERS: u32 = 0xf0;
pub const SCFCR_RX_1_TX_0: u32 = 3 << 4;
/// Sixteen bytes wait: a SCIF's FIFO is full. An HSCIF's holds more, and is not filled further.
pub const SCFDR_TX: u32 = 0x1f00;
pub const SCFDR_TX_16: u32 = 0x1000;
pub const SCFDR_RX: u32 = 0x00ff;

/// The UART.
pub const SCIF: Table = Table {
    send: SCFTDR,
    receive: SCFRDR,
    last: SCLSR,
    depth: 128,
    has_room: Condition::is_not(SCFDR, SCFDR_TX, SCFDR_TX_16),
    takes_burst: None,
    has_received: Condition::is_not(SCFDR, SCFDR_RX, 0),
    is_idle: Condition::set(SCFSR, SCFSR_TX_DONE),
    is_spurious: None,
    listen: &[
        Step::change(SCFCR, SCFCR_TRIGGERS, SCFCR_RX_1_TX_0),
        Step {
            register: SCSCR,
            keep: SCSCR_TX | SCSCR_CLOCK,
            set: SCSCR_RX | SCSCR_ENABLED,
        },
    ],
    before_drain: &[],
    after_drain: &[
        Step::change(
            SCFSR,
            SCFSR_RX_TRIGGER | SCFSR_RX_REST | SCFSR_ERROR | SCFSR_BREAK,
            0,
        ),
        Step::change(SCLSR, 1, 0),
    ],
    // They are set again if they last.
    after_send: &[Step::change(SCFSR, SCFSR_TX_TRIGGER | SCFSR_TX_DONE, 0)],
    transmit_on: &[Step::change(SCSCR, 0, SCSCR_TX)],
    transmit_off: &[Step::change(SCSCR, SCSCR_TX, 0)],
};
