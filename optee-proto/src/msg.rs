// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The message in memory: `struct optee_msg_arg` and `struct optee_msg_param` of `optee_msg.h`.
//!
//! A message is a [`Header`] of 32 bytes followed by `num_params` times [`Param`], 32 bytes
//! each, little endian. Offsets that a mediator writes to one by one have names.

use crate::le::{U32, U64};
use core::fmt;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct optee_msg_arg` without its parameters.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Header {
    /// The command: a [`Command`], or in an RPC a [`crate::rpc::Command`].
    pub cmd: U32,
    /// The trusted application's function, for [`Command::INVOKE`].
    pub func: U32,
    /// The session; an output of [`Command::OPEN_SESSION`], an input of the others.
    pub session: U32,
    /// The request's number in [`Command::CANCEL`].
    pub cancel_id: U32,
    /// Padding.
    pub pad: U32,
    /// Output: the result ([`crate::TeeResult`]).
    pub ret: U32,
    /// Output: the origin of the result ([`crate::Origin`]).
    pub ret_origin: U32,
    /// Number of parameters that follow.
    pub num_params: U32,
}

/// `struct optee_msg_param`. The three payload words mean, by the type in `attr`:
///
/// | type | `a` | `b` | `c` |
/// |---|---|---|---|
/// | VALUE | a | b | c |
/// | TMEM | `buf_ptr` | `size` | `shm_ref` |
/// | RMEM | `offs` | `size` | `shm_ref` |
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Param {
    /// Type and flags: [`Attr`].
    pub attr: U64,
    /// `value.a`, `tmem.buf_ptr`, `rmem.offs`.
    pub a: U64,
    /// `value.b`, `tmem.size`, `rmem.size`.
    pub b: U64,
    /// `value.c`, `tmem.shm_ref`, `rmem.shm_ref`.
    pub c: U64,
}

impl Param {
    /// Returns the parameter with these four words.
    #[inline]
    pub const fn new(attr: Attr, a: u64, b: u64, c: u64) -> Self {
        Self {
            attr: U64::new(attr.0),
            a: U64::new(a),
            b: U64::new(b),
            c: U64::new(c),
        }
    }

    /// Returns its type and flags.
    #[inline]
    pub const fn attr(&self) -> Attr {
        Attr(self.attr.get())
    }
}

/// Bytes of a [`Header`].
pub const HEADER_SIZE: usize = size_of::<Header>();
/// Bytes of a [`Param`].
pub const PARAM_SIZE: usize = size_of::<Param>();
/// Offset of `session` in a header.
pub const SESSION_OFFSET: usize = 8;
/// Offset of `ret` in a header; `ret_origin` follows.
pub const RET_OFFSET: usize = 20;
/// `OPTEE_MSG_NONCONTIG_PAGE_SIZE`: bytes of a page of a page list.
pub const PAGE_LIST_SIZE: usize = 4096;
/// Number of page addresses in a page of a page list. The word after them is the address of the next page.
pub const PAGE_LIST_ENTRIES: usize = PAGE_LIST_SIZE / size_of::<u64>() - 1;
/// `OPTEE_MSG_MAX_NUM_PARAMS`: the most parameters that fit into a page.
pub const MAX_PARAMS: usize = (PAGE_LIST_SIZE - HEADER_SIZE) / PARAM_SIZE;

/// Returns the bytes of a message with this many parameters: `OPTEE_MSG_GET_ARG_SIZE`.
#[inline]
pub const fn size(params: usize) -> usize {
    HEADER_SIZE + PARAM_SIZE * params
}

/// A parameter's `attr`: `OPTEE_MSG_ATTR_*`. All 64 bits count.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Attr(pub u64);

impl Attr {
    /// `OPTEE_MSG_ATTR_TYPE_NONE`
    pub const NONE: Self = Self(0);
    /// `OPTEE_MSG_ATTR_TYPE_VALUE_INPUT`
    pub const VALUE_INPUT: Self = Self(1);
    /// `OPTEE_MSG_ATTR_TYPE_VALUE_OUTPUT`
    pub const VALUE_OUTPUT: Self = Self(2);
    /// `OPTEE_MSG_ATTR_TYPE_VALUE_INOUT`
    pub const VALUE_INOUT: Self = Self(3);
    /// `OPTEE_MSG_ATTR_TYPE_RMEM_INPUT`: part of a registered buffer.
    pub const RMEM_INPUT: Self = Self(5);
    /// `OPTEE_MSG_ATTR_TYPE_RMEM_OUTPUT`
    pub const RMEM_OUTPUT: Self = Self(6);
    /// `OPTEE_MSG_ATTR_TYPE_RMEM_INOUT`
    pub const RMEM_INOUT: Self = Self(7);
    /// `OPTEE_MSG_ATTR_TYPE_TMEM_INPUT`: memory by physical address.
    pub const TMEM_INPUT: Self = Self(9);
    /// `OPTEE_MSG_ATTR_TYPE_TMEM_OUTPUT`
    pub const TMEM_OUTPUT: Self = Self(0xa);
    /// `OPTEE_MSG_ATTR_TYPE_TMEM_INOUT`
    pub const TMEM_INOUT: Self = Self(0xb);
    /// `OPTEE_MSG_ATTR_TYPE_TMEM_OUTPUT | OPTEE_MSG_ATTR_NONCONTIG`: a page list, in
    /// [`Command::REGISTER_SHM`] and the answer to [`crate::rpc::Command::SHM_ALLOC`].
    pub const PAGE_LIST: Self = Self(0xa | Self::NONCONTIG);
    /// [`Attr::VALUE_INPUT`] that OP-TEE keeps for itself, in [`Command::OPEN_SESSION`].
    pub const META_VALUE_INPUT: Self = Self(1 | Self::META);

    /// `OPTEE_MSG_ATTR_TYPE_MASK`
    pub const TYPE_MASK: u64 = 0xff;
    /// `OPTEE_MSG_ATTR_META`
    pub const META: u64 = 1 << 8;
    /// `OPTEE_MSG_ATTR_NONCONTIG`
    pub const NONCONTIG: u64 = 1 << 9;
}

impl fmt::Debug for Attr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attr({:#x})", self.0)
    }
}

/// A command to the secure world: `OPTEE_MSG_CMD_*`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Command(pub u32);

impl Command {
    /// `OPTEE_MSG_CMD_OPEN_SESSION`: parameter 0 carries the application's UUID, parameter 1
    /// the client's UUID and its login method ([`login`]).
    pub const OPEN_SESSION: Self = Self(0);
    /// `OPTEE_MSG_CMD_INVOKE_COMMAND`
    pub const INVOKE: Self = Self(1);
    /// `OPTEE_MSG_CMD_CLOSE_SESSION`
    pub const CLOSE_SESSION: Self = Self(2);
    /// `OPTEE_MSG_CMD_CANCEL`
    pub const CANCEL: Self = Self(3);
    /// `OPTEE_MSG_CMD_REGISTER_SHM`: a page list ([`Attr::PAGE_LIST`]).
    pub const REGISTER_SHM: Self = Self(4);
    /// `OPTEE_MSG_CMD_UNREGISTER_SHM`: the cookie, as [`Attr::RMEM_INPUT`].
    pub const UNREGISTER_SHM: Self = Self(5);
    /// `OPTEE_MSG_CMD_DO_BOTTOM_HALF`: work that a notification announced.
    pub const DO_BOTTOM_HALF: Self = Self(6);
    /// `OPTEE_MSG_CMD_STOP_ASYNC_NOTIF`: end of notifications.
    pub const STOP_ASYNC_NOTIF: Self = Self(7);
    /// `OPTEE_MSG_CMD_LEND_PROTMEM`
    pub const LEND_PROTMEM: Self = Self(8);
    /// `OPTEE_MSG_CMD_RECLAIM_PROTMEM`
    pub const RECLAIM_PROTMEM: Self = Self(9);
    /// `OPTEE_MSG_CMD_GET_PROTMEM_CONFIG`
    pub const GET_PROTMEM_CONFIG: Self = Self(10);
    /// `OPTEE_MSG_CMD_ASSIGN_PROTMEM`
    pub const ASSIGN_PROTMEM: Self = Self(11);
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "msg::Command({})", self.0)
    }
}

/// Login methods: `OPTEE_MSG_LOGIN_*`, the same values as `TEE_LOGIN_*`.
pub mod login {
    /// `OPTEE_MSG_LOGIN_PUBLIC`
    pub const PUBLIC: u32 = 0;
    /// `OPTEE_MSG_LOGIN_USER`
    pub const USER: u32 = 1;
    /// `OPTEE_MSG_LOGIN_GROUP`
    pub const GROUP: u32 = 2;
    /// `OPTEE_MSG_LOGIN_APPLICATION`
    pub const APPLICATION: u32 = 4;
    /// `OPTEE_MSG_LOGIN_APPLICATION_USER`
    pub const APPLICATION_USER: u32 = 5;
    /// `OPTEE_MSG_LOGIN_APPLICATION_GROUP`
    pub const APPLICATION_GROUP: u32 = 6;
    /// `TEE_LOGIN_REE_KERNEL`: the normal world's kernel itself.
    pub const REE_KERNEL: u32 = 0x8000_0000;
}

const _: () = {
    assert!(HEADER_SIZE == 32);
    assert!(PARAM_SIZE == 32);
    assert!(core::mem::offset_of!(Header, session) == SESSION_OFFSET);
    assert!(core::mem::offset_of!(Header, ret) == RET_OFFSET);
    assert!(core::mem::offset_of!(Header, ret_origin) == RET_OFFSET + 4);
    assert!(MAX_PARAMS == 127);
    assert!(PAGE_LIST_ENTRIES == 511);
};
