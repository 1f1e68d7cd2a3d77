//! Emulated devices: plain state machines that are given one access at a time.

pub use postern_base::mmio;
pub use postern_vgic as vgic;

pub mod debug;
pub mod physical_timer;
pub mod pl011;
pub mod pl031;
pub mod pl061;
