//! Emulated devices: plain state machines that are given one access at a time.

pub use postern_base::mmio;
pub use postern_devices::*;
pub use postern_vgic as vgic;
