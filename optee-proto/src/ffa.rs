// SPDX-License-Identifier: Apache-2.0 OR MIT
//! OP-TEE's service over FF-A: `optee_ffa.h`.
//!
//! A call is an `FFA_MSG_SEND_DIRECT_REQ` to OP-TEE's partition ([`PARTITION`]) by SMC32. w3 names the [`Service`], w4
//! to w7 are its arguments, and the answer's w3 to w7 its results: five words, [`Words`]. A handle is in two of them,
//! the lower half first, as FF-A has it and unlike [`crate::smc::pair`].
//!
//! The message in memory is that of the SMC ABI, but memory is named by handles: [`Fmem`].

use crate::Uuid;
use crate::le::U64;
use crate::msg::{Attr, Param};
use bitflags::bitflags;
use core::fmt;

/// OP-TEE's partition: `OPTEE_FFA_UUID` of Linux's driver, 486178e0-e7f8-11e3-bc5e-0002a5d5c51b.
pub const PARTITION: Uuid = Uuid(0x4861_78e0_e7f8_11e3_bc5e_0002_a5d5_c51b_u128.to_be_bytes());

/// w3 to w7 of a request or of an answer.
pub type Words = [u32; 5];

/// `OPTEE_FFA_VERSION_MAJOR` and `OPTEE_FFA_VERSION_MINOR`: the answer to [`Service::GET_API_VERSION`], in w3 and w4.
pub const API_VERSION: (u32, u32) = (1, 0);

/// A service, in w3: `OPTEE_FFA_*`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Service(u32);

impl Service {
    /// `OPTEE_FFA_GET_API_VERSION`: the API's version in w3 and w4.
    pub const GET_API_VERSION: Self = Self(0);
    /// `OPTEE_FFA_GET_OS_VERSION`: OP-TEE's version in w3 and w4, a build identifier in w5.
    pub const GET_OS_VERSION: Self = Self(1);
    /// `OPTEE_FFA_EXCHANGE_CAPABILITIES`: see [`Capabilities`].
    pub const EXCHANGE_CAPABILITIES: Self = Self(2);
    /// `OPTEE_FFA_UNREGISTER_SHM`: the memory with the handle in w4 and w5 is not used any more. OP-TEE 4.10 panics for
    /// a handle of all ones, and succeeds for one that it does not know.
    pub const UNREGISTER_SHM: Self = Self(3);
    /// `OPTEE_FFA_ENABLE_ASYNC_NOTIF`: the notification in w4 asks for a bottom half.
    pub const ENABLE_ASYNC_NOTIF: Self = Self(5);
    /// `OPTEE_FFA_RELEASE_PROTMEM`: the protected memory with the handle in w4 and w5 is given back.
    pub const RELEASE_PROTMEM: Self = Self(8);
    /// `OPTEE_FFA_YIELDING_CALL_WITH_ARG`: a message in shared memory, its handle in w4 and w5, its offset in w6.
    pub const CALL_WITH_ARG: Self = Self(Self::YIELDING);
    /// `OPTEE_FFA_YIELDING_CALL_RESUME`: goes on with the call that w7 names.
    pub const RESUME: Self = Self(Self::YIELDING | 1);

    /// Bit `OPTEE_FFA_YIELDING_CALL_BIT`.
    const YIELDING: u32 = 1 << 31;

    /// Returns the service with this number.
    #[inline]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Returns the number.
    #[inline]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Returns whether this is a yielding call rather than a blocking one.
    #[inline]
    pub const fn is_yielding(self) -> bool {
        self.0 & Self::YIELDING != 0
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ffa::Service({:#x})", self.0)
    }
}

/// `OPTEE_FFA_MAX_ASYNC_NOTIF_VALUE`: the number of notifications. w4 of [`Service::ENABLE_ASYNC_NOTIF`] is below it.
pub const MAX_ASYNC_NOTIF_VALUE: u32 = 64;

bitflags! {
    /// Capabilities of OP-TEE, in w5 of the answer to [`Service::EXCHANGE_CAPABILITIES`].
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct SecureCaps: u32 {
        /// `OPTEE_FFA_SEC_CAP_ARG_OFFSET`: a message may be at an offset in its memory.
        const ARG_OFFSET = 1 << 0;
        /// `OPTEE_FFA_SEC_CAP_ASYNC_NOTIF`: asynchronous notifications.
        const ASYNC_NOTIF = 1 << 1;
        /// `OPTEE_FFA_SEC_CAP_RPMB_PROBE`: wants the RPMB partition probed by the kernel.
        const RPMB_PROBE = 1 << 2;
        /// `OPTEE_FFA_SEC_CAP_PROTMEM`: protected memory.
        const PROTMEM = 1 << 3;

        const _ = !0;
    }
}

/// The answer to [`Service::EXCHANGE_CAPABILITIES`], if w3 is zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capabilities {
    /// The number of parameters that the room for RPC messages behind a message has: bits 7:0 of w4.
    pub rpc_params: u8,
    /// What OP-TEE can do. Bits without a name are kept.
    pub caps: SecureCaps,
    /// The largest notification value.
    pub max_notification: u32,
}

impl Capabilities {
    /// Returns the capabilities in an answer, or the status in w3 as the error.
    ///
    /// # Errors
    ///
    /// [`Status`] if w3 is not zero, or [`Status::INVALID_PARAMETERS`] if reserved bits of w4 or w7 are set.
    pub const fn read(answer: &Words) -> Result<Self, Status> {
        let [status, params, caps, max_notification, w7] = *answer;
        if status != 0 {
            return Err(Status(status as i32));
        }
        if params > 0xff || w7 != 0 {
            return Err(Status::INVALID_PARAMETERS);
        }
        Ok(Self {
            rpc_params: params as u8,
            caps: SecureCaps::from_bits_retain(caps),
            max_notification,
        })
    }

    /// Returns the answer.
    pub const fn to_words(&self) -> Words {
        let caps = self.caps.bits();
        [0, self.rpc_params as u32, caps, self.max_notification, 0]
    }
}

/// The status of a service, in w3 of the answer: a code of FF-A, or a result of a TEE with bit 31 set.
///
/// OP-TEE 4.10 was seen to answer results of the GlobalPlatform API where the header names codes of FF-A.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Status(i32);

impl Status {
    /// Success.
    pub const OK: Self = Self(0);
    /// `FFA_INVALID_PARAMETERS`
    pub const INVALID_PARAMETERS: Self = Self(-2);
    /// `FFA_BUSY`
    pub const BUSY: Self = Self(-4);
    /// `FFA_DENIED`: there is no such yielding call.
    pub const DENIED: Self = Self(-6);
    /// `TEE_ERROR_BAD_PARAMETERS`: a handle, an offset, or what w7 names is wrong.
    pub const TEE_BAD_PARAMETERS: Self = Self(0xffff_0006_u32 as i32);
    /// `TEE_ERROR_ITEM_NOT_FOUND`: OP-TEE does not know the VM.
    pub const TEE_ITEM_NOT_FOUND: Self = Self(0xffff_0008_u32 as i32);
    /// `TEE_ERROR_OUT_OF_MEMORY`
    pub const TEE_OUT_OF_MEMORY: Self = Self(0xffff_000c_u32 as i32);
    /// `TEE_ERROR_BUSY`: no thread is free, try later.
    pub const TEE_BUSY: Self = Self(0xffff_000d_u32 as i32);

    /// Returns the status in w3.
    #[inline]
    pub const fn from_w(w3: u32) -> Self {
        Self(w3 as i32)
    }

    /// Returns the status as w3 has it.
    #[inline]
    pub const fn to_w(self) -> u32 {
        self.0 as u32
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ffa::Status({:#x})", self.0)
    }
}

/// How a yielding call returns, in w4 of an answer whose w3 is zero: `OPTEE_FFA_YIELDING_CALL_RETURN_*`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Return {
    /// `OPTEE_FFA_YIELDING_CALL_RETURN_DONE`: the result is in the message.
    Done,
    /// `OPTEE_FFA_YIELDING_CALL_RETURN_RPC_CMD`: an RPC message is behind the message. w7 names the call.
    RpcCommand(u32),
    /// `OPTEE_FFA_YIELDING_CALL_RETURN_INTERRUPT`: an interrupt for the normal world. w7 names the call.
    Interrupt(u32),
}

impl Return {
    /// Returns how a call returns, or the status in w3 as the error. Words that the kind does not use are not looked at.
    ///
    /// # Errors
    ///
    /// [`Status`] if w3 is not zero, or [`Status::INVALID_PARAMETERS`] for a kind that the header does not have.
    pub const fn read(answer: &Words) -> Result<Self, Status> {
        let [status, kind, _, _, call] = *answer;
        match (status, kind) {
            (0, 0) => Ok(Self::Done),
            (0, 1) => Ok(Self::RpcCommand(call)),
            (0, 2) => Ok(Self::Interrupt(call)),
            (0, _) => Err(Status::INVALID_PARAMETERS),
            _ => Err(Status(status as i32)),
        }
    }

    /// Returns the answer.
    pub const fn to_words(self) -> Words {
        match self {
            Self::Done => [0, 0, 0, 0, 0],
            Self::RpcCommand(call) => [0, 1, 0, 0, call],
            Self::Interrupt(call) => [0, 2, 0, 0, call],
        }
    }
}

/// Splits a handle into two words, the lower half first.
#[inline]
pub const fn pair(handle: u64) -> [u32; 2] {
    [handle as u32, (handle >> 32) as u32]
}

/// Joins the handle in two words, the lower half first.
#[inline]
pub const fn unpair(lower: u32, upper: u32) -> u64 {
    (upper as u64) << 32 | lower as u64
}

/// A memory reference in a message: `struct optee_msg_param_fmem`. Its types are those of RMEM
/// (`OPTEE_MSG_ATTR_TYPE_FMEM_*` are the same numbers), and it has other fields in the same three words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fmem {
    /// The offset into the shared memory: `offs_high` and `offs_low`, 48 bits.
    pub offset: u64,
    /// `internal_offs`: the offset of the memory in its first page.
    pub internal_offset: u16,
    /// The size in bytes.
    pub size: u64,
    /// `global_id`: the memory's handle, or [`Fmem::NULL`].
    pub handle: u64,
}

impl Fmem {
    /// `OPTEE_MSG_FMEM_INVALID_GLOBAL_ID`: no memory.
    pub const NULL: u64 = u64::MAX;
    /// The number of offsets that there are bits for: 2^48.
    pub const OFFSETS: u64 = 1 << 48;

    /// Returns the reference in a parameter, whose type has not been checked.
    pub const fn read(param: &Param) -> Self {
        let offsets = param.a.get();
        Self {
            offset: offsets % Self::OFFSETS,
            internal_offset: (offsets >> 48) as u16,
            size: param.b.get(),
            handle: param.c.get(),
        }
    }

    /// Returns the reference as a parameter, or `None` if the offset has more than 48 bits.
    pub const fn write(&self, attr: Attr) -> Option<Param> {
        if self.offset >= Self::OFFSETS {
            return None;
        }
        let offsets = (self.internal_offset as u64) << 48 | self.offset;
        Some(Param {
            attr: U64::new(attr.0),
            a: U64::new(offsets),
            b: U64::new(self.size),
            c: U64::new(self.handle),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    #[test]
    fn services_have_the_values_of_the_header() {
        assert_eq!(Service::CALL_WITH_ARG.get(), 0x8000_0000);
        assert_eq!(Service::RESUME.get(), 0x8000_0001);
        assert!(Service::RESUME.is_yielding() && !Service::RELEASE_PROTMEM.is_yielding());
    }

    /// w4 and w5 are those of OP-TEE 4.10.
    #[test]
    fn capabilities_of_optee_read_back() {
        let answer = [0, 4, 7, 63, 0];
        let read = Capabilities::read(&answer).unwrap();
        let all = SecureCaps::ARG_OFFSET | SecureCaps::ASYNC_NOTIF | SecureCaps::RPMB_PROBE;
        assert_eq!((read.rpc_params, read.caps), (4, all));
        assert_eq!(read.to_words(), answer);
        for bad in [[0, 0x100, 7, 63, 0], [0, 4, 7, 63, 1]] {
            assert_eq!(Capabilities::read(&bad), Err(Status::INVALID_PARAMETERS));
        }
        let denied = [Status::DENIED.to_w(), 4, 7, 63, 0];
        assert_eq!(Capabilities::read(&denied), Err(Status::DENIED));
    }

    #[test]
    fn return_of_a_kind_that_is_not_known_is_an_error() {
        for kind in [Return::Done, Return::RpcCommand(3), Return::Interrupt(4)] {
            assert_eq!(Return::read(&kind.to_words()), Ok(kind));
        }
        assert_eq!(
            Return::read(&[0, 3, 0, 0, 0]),
            Err(Status::INVALID_PARAMETERS)
        );
        let busy = Return::read(&[0xffff_000d, 0, 0, 0, 0]);
        assert_eq!(busy, Err(Status::TEE_BUSY));
    }

    #[test]
    fn fmem_has_the_layout_of_the_header() {
        let fmem = Fmem {
            offset: 0x1234_5678_9abc,
            internal_offset: 0xdef,
            size: 0x1000,
            handle: 0x1000_0001_0000,
        };
        let param = fmem.write(Attr::RMEM_INPUT).unwrap();
        // offs_low, offs_high, internal_offs.
        let expected = [0xbc, 0x9a, 0x78, 0x56, 0x34, 0x12, 0xef, 0x0d];
        assert_eq!(param.as_bytes()[8..16], expected);
        assert_eq!(Fmem::read(&param), fmem);
        let far = Fmem {
            offset: 1 << 48,
            ..fmem
        };
        assert_eq!(far.write(Attr::RMEM_INPUT), None);
    }

    #[test]
    fn handle_has_its_lower_half_first() {
        assert_eq!(pair(0x1000_0001_0000), [0x1_0000, 0x1000]);
        assert_eq!(unpair(0x1_0000, 0x1000), 0x1000_0001_0000);
    }
}
