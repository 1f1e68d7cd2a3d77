// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a VM shares with OP-TEE: buffers, their pages, the lists that name the pages.
//!
//! * [`table`]: objects under two names, the guest's cookie and ours.
//! * [`buffer`]: a shared buffer, and the memory behind an RPC message.
//! * [`intake`]: a guest's page list is read, its pages are pinned, our own list is written.
//! * [`place`]: where in guest memory a message lies.

pub(crate) mod buffer;
pub(crate) mod intake;
pub(crate) mod place;
pub(crate) mod table;

pub(crate) use buffer::{Buffer, Provenance, RpcBuffer, State};
pub(crate) use intake::{Intake, Progress, Refusal};
pub(crate) use place::Place;
pub(crate) use table::{Cookie, GuestCookie, Insert, Space, Table};
