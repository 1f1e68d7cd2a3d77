// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a VM shares with OP-TEE: buffers and their pages.
//!
//! * [`table`]: objects under two names, the guest's cookie and OP-TEE's.
//! * [`buffer`]: a shared buffer, and the memory behind an RPC message.
//! * [`pin`]: pinning and unpinning a guest's pages.
//! * [`message_location`]: the location of a message in guest memory.

pub(crate) mod buffer;
pub(crate) mod message_location;
pub(crate) mod pin;
pub(crate) mod table;

pub(crate) use buffer::{Buffer, BufferState, Provenance, RpcBuffer};
pub(crate) use message_location::MessageLocation;
pub(crate) use pin::{ImportError, ImportProgress};
pub(crate) use table::{Cookie, GuestCookie, InsertError, Space, Table};
