// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The PL011 (DDI 0183), and the generic UART of the Server Base System Architecture, which has no control registers
//! (DEN0029, appendix B).
//!
//! The receive interrupts are not cleared but end with their causes: the level falls below the trigger, and the
//! timeout's FIFO runs empty. Clearing them would lose the interrupt for what is left.

use super::{Condition, Reg, Step, Table};

/// The data register.
pub const DR: Reg = Reg::new(0x00);
/// The flags.
pub const FR: Reg = Reg::new(0x18);
/// The control register.
pub const CR: Reg = Reg::new(0x30);
/// The FIFOs' trigger levels.
pub const IFLS: Reg = Reg::new(0x34);
/// The interrupt mask: a set bit enables the interrupt.
pub const IMSC: Reg = Reg::new(0x38);
/// Clears interrupts.
pub const ICR: Reg = Reg::new(0x44);

pub const FR_BUSY: u32 = 1 << 3;
pub const FR_RXFE: u32 = 1 << 4;
pub const FR_TXFF: u32 = 1 << 5;

/// UARTEN, TXE and RXE.
const CR_ENABLED: u32 = 1 | 1 << 8 | 1 << 9;
/// The receive FIFO's trigger is an eighth, so that input is seen early; the transmit FIFO's is a half, so that the line
/// does not run dry before the interrupt is taken.
const IFLS_RX_EIGHTH_TX_HALF: u32 = 0b00_0010;
pub const RX_AND_TIMEOUT: u32 = 1 << 4 | 1 << 6;
pub const TX: u32 = 1 << 5;
pub const ALL_INTERRUPTS: u32 = 0x7ff;

/// The transmit interrupt is not cleared: its step may have been the last one.
const CLEAR_ALL_BUT_TX: Step = Step::write(ICR, ALL_INTERRUPTS & !TX);
const ENABLE_RX: Step = Step {
    register: IMSC,
    keep: TX,
    set: RX_AND_TIMEOUT,
};

/// The PL011.
pub const PL011: Table = Table {
    send: DR,
    receive: DR,
    last: ICR,
    depth: 32,
    has_room: Condition::clear(FR, FR_TXFF),
    takes_burst: None,
    has_received: Condition::clear(FR, FR_RXFE),
    is_idle: Condition::clear(FR, FR_BUSY),
    is_spurious: None,
    listen: &[
        Step::change(CR, 0, CR_ENABLED),
        Step::write(IFLS, IFLS_RX_EIGHTH_TX_HALF),
        CLEAR_ALL_BUT_TX,
        ENABLE_RX,
    ],
    before_drain: &[],
    after_drain: &[],
    after_send: &[],
    transmit_on: &[Step::change(IMSC, 0, TX)],
    transmit_off: &[Step::change(IMSC, TX, 0)],
};

/// The generic UART.
pub const SBSA: Table = Table {
    listen: &[CLEAR_ALL_BUT_TX, ENABLE_RX],
    ..PL011
};
