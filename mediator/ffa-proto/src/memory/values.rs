// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The values in a descriptor, without their layout.

use crate::endpoint::EndpointId;
use crate::handle::Handle;
use bitflags::bitflags;

/// Memory region attributes: type, cacheability, shareability, security (DEN0077A issue E, table 10.18).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(transparent)]
pub struct MemoryAttributes(u16);

impl MemoryAttributes {
    /// Normal memory, write-back cacheable, inner shareable. OP-TEE 4.10 takes only this.
    pub const NORMAL_WRITE_BACK_INNER: Self = Self(0x2f);

    /// Returns the attributes with these bits: 8 in version 1.0, 16 later.
    pub const fn new(bits: u16) -> Self {
        Self(bits)
    }

    /// Returns the bits.
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// Memory access permissions of a receiver: data access in bits 1:0, instruction access in bits 3:2.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(transparent)]
pub struct Permissions(u8);

impl Permissions {
    /// Read only, instruction access not given.
    pub const READ_ONLY: Self = Self(1);
    /// Read and write, instruction access not given. OP-TEE 4.10 takes only this.
    pub const READ_WRITE: Self = Self(2);

    /// Returns the permissions with these bits.
    pub const fn new(bits: u8) -> Self {
        Self(bits)
    }

    /// Returns the bits.
    pub const fn get(self) -> u8 {
        self.0
    }
}

bitflags! {
    /// Flags of a transaction. Bits without a name are kept, and have meanings for retrieving memory.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct TransactionFlags: u32 {
        /// Zero the memory before the receiver gets it.
        const ZERO = 1 << 0;
        /// The call may be interrupted.
        const TIME_SLICE = 1 << 1;

        const _ = !0;
    }
}

/// The part of a descriptor that is about the whole transaction. Nothing of it has been checked but its reserved bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transaction {
    /// The endpoint that sends the memory. That it is the caller has not been checked.
    pub sender: EndpointId,
    /// The memory's attributes.
    pub attributes: MemoryAttributes,
    /// How the memory is sent.
    pub flags: TransactionFlags,
    /// [`Handle::NONE`] in what an endpoint sends: the callee chooses.
    pub handle: Handle,
    /// A value for the receivers.
    pub tag: u64,
}

/// A receiver of the memory, and its access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Receiver {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Its permissions.
    pub permissions: Permissions,
    /// Flags, which have meanings only for retrieving memory.
    pub flags: u8,
    /// In a record of 32 bytes, a value for the receiver; zero in one of 16.
    pub implementation_defined: [u64; 2],
}

impl Receiver {
    /// Returns a receiver that reads and writes.
    pub const fn read_write(endpoint: EndpointId) -> Self {
        Self {
            endpoint,
            permissions: Permissions::READ_WRITE,
            flags: 0,
            implementation_defined: [0; 2],
        }
    }
}
