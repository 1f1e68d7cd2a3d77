// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Ids of partitions and of their execution contexts, 16 bits each (DEN0077A issue J, `FFA_ID_GET`).

use core::fmt;

/// The id of a partition: a VM, a secure partition, the hypervisor or the SPMC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct EndpointId(u16);

impl EndpointId {
    /// The hypervisor, or the only operating system of a machine without one.
    pub const HYPERVISOR: Self = Self(0);

    /// Returns the endpoint with this id.
    pub const fn new(id: u16) -> Self {
        Self(id)
    }

    /// Returns the id.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Returns whether the endpoint is in the secure world: bit 15.
    pub const fn is_secure(self) -> bool {
        self.0 & 0x8000 != 0
    }

    /// Returns whether the endpoint is a VM: neither secure nor the hypervisor.
    pub const fn is_vm(self) -> bool {
        self.0 != 0 && !self.is_secure()
    }
}

impl fmt::Debug for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EndpointId({:#x})", self.0)
    }
}

/// The number of an execution context of an endpoint: of a vCPU, if that is a VM.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct VcpuId(u16);

impl VcpuId {
    /// Returns the context with this number.
    pub const fn new(id: u16) -> Self {
        Self(id)
    }

    /// Returns the number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// Joins two 16-bit fields of a register, the upper one first.
pub(crate) const fn join(upper: u16, lower: u16) -> u32 {
    (upper as u32) << 16 | lower as u32
}

/// Splits a register into its two 16-bit fields, the upper one first.
pub(crate) const fn split(w: u32) -> (u16, u16) {
    ((w >> 16) as u16, w as u16)
}
