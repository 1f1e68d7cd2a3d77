// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The buffers that EL2 has with the SPMC, over FF-A: the SPMC reads TX and writes RX.
//!
//! No Rust reference covers them, so they are copied to and from.

use mediator::addr::Pa;
use mediator::ffa::ExchangeBuffers;
use postern_arch::guest_ram;
use spin::Once;

static BUFFERS: Once<ExchangeBuffers> = Once::new();

/// Sets the buffers, which the SPMC has from here on.
pub fn init(buffers: ExchangeBuffers) {
    BUFFERS.call_once(|| buffers);
}

/// Copies into TX.
///
/// # Panics
/// The range is not inside TX, or there are no buffers.
pub fn write_tx(offset: usize, bytes: &[u8]) {
    let buffers = BUFFERS.get();
    let buffers = buffers.expect("only a mediator over FF-A writes");
    assert!(offset + bytes.len() <= buffers.bytes());
    guest_ram::write(Pa::new(buffers.tx.get() + offset as u64), bytes);
}

/// Copies out of the RX of these buffers.
///
/// # Panics
/// The range is not inside RX.
pub fn read_rx(buffers: &ExchangeBuffers, offset: usize, into: &mut [u8]) {
    assert!(offset + into.len() <= buffers.bytes());
    guest_ram::read(Pa::new(buffers.rx.get() + offset as u64), into);
}
