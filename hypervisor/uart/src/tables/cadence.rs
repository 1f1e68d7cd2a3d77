// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Cadence's UART of Zynq and ZynqMP (AMD UG1085 chapter 21, UG1087).
//!
//! The interrupt status keeps each cause until a one is written to it, and has it again at once if it lasts. So it is
//! cleared before the FIFOs are looked at.

use super::{Condition, Reg, Step, Table};

/// The control register.
pub const CR: Reg = Reg::new(0x00);
/// Enables interrupts: a set bit enables, a clear bit does nothing.
pub const IER: Reg = Reg::new(0x08);
/// Disables interrupts.
pub const IDR: Reg = Reg::new(0x0c);
/// The interrupt status.
pub const ISR: Reg = Reg::new(0x14);
/// The receive FIFO's trigger level.
pub const RXWM: Reg = Reg::new(0x20);
/// The flags.
pub const SR: Reg = Reg::new(0x2c);
/// The FIFOs.
pub const FIFO: Reg = Reg::new(0x30);

pub const CR_RX_ENABLE: u32 = 1 << 2;
pub const CR_RX_DISABLE: u32 = 1 << 3;
pub const CR_TX_ENABLE: u32 = 1 << 4;
pub const CR_TX_DISABLE: u32 = 1 << 5;
pub const RX_TRIGGER: u32 = 1 << 0;
pub const RX_EMPTY: u32 = 1 << 1;
pub const TX_EMPTY: u32 = 1 << 3;
pub const TX_FULL: u32 = 1 << 4;
pub const TX_ACTIVE: u32 = 1 << 11;
pub const ALL_INTERRUPTS: u32 = 0x1fff;

/// The UART.
pub const CADENCE: Table = Table {
    send: FIFO,
    receive: FIFO,
    last: FIFO,
    depth: 64,
    has_room: Condition::clear(SR, TX_FULL),
    takes_burst: None,
    has_received: Condition::clear(SR, RX_EMPTY),
    is_idle: Condition::is(SR, TX_EMPTY | TX_ACTIVE, TX_EMPTY),
    is_spurious: None,
    listen: &[
        Step::change(
            CR,
            CR_RX_DISABLE | CR_TX_DISABLE,
            CR_RX_ENABLE | CR_TX_ENABLE,
        ),
        // One byte interrupts, so that there is no need of a timeout.
        Step::write(RXWM, 1),
        Step::write(IDR, ALL_INTERRUPTS & !TX_EMPTY),
        Step::write(ISR, ALL_INTERRUPTS & !TX_EMPTY),
        Step::write(IER, RX_TRIGGER),
    ],
    before_drain: &[Step::write(ISR, ALL_INTERRUPTS)],
    after_drain: &[],
    after_send: &[],
    // What was empty once is no news.
    transmit_on: &[Step::write(ISR, TX_EMPTY), Step::write(IER, TX_EMPTY)],
    transmit_off: &[Step::write(IDR, TX_EMPTY)],
};
