//! Emulated devices: plain state machines that are given one access at a time.

pub mod debug;
pub mod mmio;
pub mod physical_timer;
pub mod pl011;
pub mod pl031;
pub mod pl061;
pub mod vgic;
