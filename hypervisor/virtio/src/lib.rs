// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Virtio devices that EL2 emulates for its guests, after VIRTIO 1.2: plain state machines over a guest's memory.
//!
//! - [`queue`] has split virtqueues (2.7), the device's side.
//! - [`mmio`] has the registers of virtio-mmio (4.2), the same for all devices.
//! - [`net`] has the network device (5.1), [`console`] the console (5.3), and [`link`] connects several of one kind, each
//!   in another VM.
//! - [`requests`] serves the requests of a driver to its own device: [`rng`] is the entropy device (5.4), [`blk`] a
//!   read-only disk (5.2).
//!
//! All that a guest writes is hostile: rings, descriptors, registers. Each field is fetched once into private memory,
//! checked, and used from there. A chain of descriptors ends after as many as the queue has. What a driver must never
//! do breaks its device, which says so (DEVICE_NEEDS_RESET) and rests until the driver resets it.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod blk;
pub mod console;
pub mod link;
pub mod mmio;
pub mod net;
pub mod queue;
pub mod ram;
pub mod requests;
pub mod rng;

#[cfg(test)]
mod tests;
