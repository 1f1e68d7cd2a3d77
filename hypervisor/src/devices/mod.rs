// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Emulated devices: plain state machines that are given one access at a time.

pub use postern_base::mmio;
pub use postern_devices::*;
pub use postern_vgic as vgic;
