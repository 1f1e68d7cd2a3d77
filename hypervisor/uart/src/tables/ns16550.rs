// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The 8250 with FIFOs (TI, PC16550D), Synopsys' DW_apb_uart (databook 4.03a), and the BCM2835's mini UART (BCM2835 ARM
//! Peripherals, 2.2).
//!
//! A read of the interrupt identification ends the transmit interrupt until the transmitter is empty again. The driver
//! reads it only where bytes are written next, or where they wait for an empty transmitter.

use super::{Condition, Reg, Step, Table};

/// The receive buffer and the transmit holding register.
pub const DATA: Reg = Reg::new(0);
/// The interrupt enables.
pub const IER: Reg = Reg::new(1);
/// The interrupt identification when read, the FIFO control when written.
pub const IIR_FCR: Reg = Reg::new(2);
/// The modem control.
pub const MCR: Reg = Reg::new(4);
/// The line status.
pub const LSR: Reg = Reg::new(5);
/// The status of a DW_apb_uart.
pub const USR: Reg = Reg::new(0x1f);

pub const IER_RECEIVED: u32 = 1 << 0;
pub const IER_EMPTY: u32 = 1 << 1;
pub const LSR_RECEIVED: u32 = 1 << 0;
/// The transmit FIFO is empty; on the mini UART, it has room.
pub const LSR_EMPTY: u32 = 1 << 5;
pub const LSR_IDLE: u32 = 1 << 6;
pub const IIR_FIFOS: u32 = 0xc0;
pub const IIR_SOURCE: u32 = 0x0f;
pub const IIR_TIMEOUT: u32 = 0x0c;
/// FIFOs are on, and the receive trigger is one byte. What is in the FIFOs stays.
const FCR_FIFOS: u32 = 1;
/// Lets the interrupt out, where there is a gate.
const MCR_OUT2: u32 = 1 << 3;

/// The 8250.
pub const NS16550: Table = Table {
    send: DATA,
    receive: DATA,
    last: LSR,
    depth: 64,
    has_room: Condition::set(LSR, LSR_EMPTY),
    takes_burst: Some(Condition::set(IIR_FCR, IIR_FIFOS)),
    has_received: Condition::set(LSR, LSR_RECEIVED),
    is_idle: Condition::set(LSR, LSR_IDLE),
    is_spurious: Some(Condition::is(IIR_FCR, IIR_SOURCE, IIR_TIMEOUT)),
    listen: &[
        Step::write(IIR_FCR, FCR_FIFOS),
        Step::change(MCR, 0, MCR_OUT2),
        Step {
            register: IER,
            keep: IER_EMPTY,
            set: IER_RECEIVED,
        },
    ],
    before_drain: &[],
    after_drain: &[],
    after_send: &[],
    transmit_on: &[Step::change(IER, 0, IER_EMPTY)],
    transmit_off: &[Step::change(IER, IER_EMPTY, 0)],
};

/// Synopsys' 8250. A write of the line control while a byte is on the line, which firmware may have done, asserts an
/// interrupt that ends with a read of the status.
pub const DESIGN_WARE: Table = Table {
    last: USR,
    // The register ignores writes.
    before_drain: &[Step::change(USR, 0, 0)],
    ..NS16550
};

/// The mini UART. It says that its FIFOs are on whatever is, and its transmitter is "empty" when it has room.
pub const BCM2835_AUX: Table = Table {
    depth: 8,
    takes_burst: None,
    ..NS16550
};
