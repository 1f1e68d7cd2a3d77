// SPDX-License-Identifier: Apache-2.0 OR MIT
//! GlobalPlatform results: `TEE_SUCCESS`, `TEE_ERROR_*` and `TEEC_ORIGIN_*`.

use core::fmt;

/// A result in a message's `ret`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct TeeResult(pub u32);

impl TeeResult {
    /// `TEE_SUCCESS`
    pub const SUCCESS: Self = Self(0);
    /// `TEE_ERROR_GENERIC`
    pub const GENERIC: Self = Self(0xffff_0000);
    /// `TEE_ERROR_ACCESS_DENIED`
    pub const ACCESS_DENIED: Self = Self(0xffff_0001);
    /// `TEE_ERROR_CANCEL`
    pub const CANCEL: Self = Self(0xffff_0002);
    /// `TEE_ERROR_ACCESS_CONFLICT`
    pub const ACCESS_CONFLICT: Self = Self(0xffff_0003);
    /// `TEE_ERROR_EXCESS_DATA`
    pub const EXCESS_DATA: Self = Self(0xffff_0004);
    /// `TEE_ERROR_BAD_FORMAT`
    pub const BAD_FORMAT: Self = Self(0xffff_0005);
    /// `TEE_ERROR_BAD_PARAMETERS`
    pub const BAD_PARAMETERS: Self = Self(0xffff_0006);
    /// `TEE_ERROR_BAD_STATE`
    pub const BAD_STATE: Self = Self(0xffff_0007);
    /// `TEE_ERROR_ITEM_NOT_FOUND`
    pub const ITEM_NOT_FOUND: Self = Self(0xffff_0008);
    /// `TEE_ERROR_NOT_IMPLEMENTED`
    pub const NOT_IMPLEMENTED: Self = Self(0xffff_0009);
    /// `TEE_ERROR_NOT_SUPPORTED`
    pub const NOT_SUPPORTED: Self = Self(0xffff_000a);
    /// `TEE_ERROR_NO_DATA`
    pub const NO_DATA: Self = Self(0xffff_000b);
    /// `TEE_ERROR_OUT_OF_MEMORY`
    pub const OUT_OF_MEMORY: Self = Self(0xffff_000c);
    /// `TEE_ERROR_BUSY`
    pub const BUSY: Self = Self(0xffff_000d);
    /// `TEE_ERROR_COMMUNICATION`
    pub const COMMUNICATION: Self = Self(0xffff_000e);
    /// `TEE_ERROR_SECURITY`
    pub const SECURITY: Self = Self(0xffff_000f);
    /// `TEE_ERROR_SHORT_BUFFER`
    pub const SHORT_BUFFER: Self = Self(0xffff_0010);
    /// `TEE_ERROR_EXTERNAL_CANCEL`
    pub const EXTERNAL_CANCEL: Self = Self(0xffff_0011);
    /// `TEE_ERROR_TARGET_DEAD`
    pub const TARGET_DEAD: Self = Self(0xffff_3024);
}

impl fmt::Debug for TeeResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TeeResult({:#x})", self.0)
    }
}

/// The origin of a result, in a message's `ret_origin`: `TEEC_ORIGIN_*`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(transparent)]
pub struct Origin(pub u32);

impl Origin {
    /// `TEEC_ORIGIN_API`: the client's library.
    pub const API: Self = Self(1);
    /// `TEEC_ORIGIN_COMMS`: something in between, such as a mediator.
    pub const COMMS: Self = Self(2);
    /// `TEEC_ORIGIN_TEE`: OP-TEE's core.
    pub const TEE: Self = Self(3);
    /// `TEEC_ORIGIN_TRUSTED_APP`: the trusted application.
    pub const TRUSTED_APP: Self = Self(4);
}
