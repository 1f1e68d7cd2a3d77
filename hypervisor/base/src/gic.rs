// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The architecture versions of the interrupt controller.

/// The version of a machine's GIC, and of the GIC that guests get on it: a CPU whose GIC has no system registers cannot
/// offer them to a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GicVersion {
    /// GICv2, for example GIC-400 (IHI 0048B.b).
    V2,
    /// GICv3, and GICv4 as far as it is the same (IHI 0069H).
    V3,
}
