// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What each RPC may ask of the guest, and what each answer may contain.
//!
//! * [`ask`]: OP-TEE's request is fetched, checked, translated, and written to the guest's copy.
//! * [`answer`]: the guest's answer is fetched, and only the outputs of the request are copied.
//! * [`shm`]: allocations for OP-TEE's data that fail or end.
//! * [`internal`]: requests during internal calls.
//!
//! OP-TEE's request stays in private memory until it is answered. So the mediator never relies on anything in
//! the guest's copy, command, counts and attributes included.

mod answer;
mod ask;
mod internal;
mod request;
mod shm;

pub(crate) use optee_proto::rpc::Function;
pub(crate) use request::{Request, Source};

use crate::call::Call;
use crate::host::{GuestMemoryError, Host, SharedPage};
use crate::memory::MessageLocation;
use optee_proto::le::U32;
use optee_proto::msg::{self, Attr, HEADER_SIZE, Header, Param};
use optee_proto::rpc::{Command, MAX_PARAMS};
use optee_proto::{Origin, TeeResult};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of room for an RPC message behind a call's message.
pub(crate) const RPC_ARG_SIZE: usize = msg::size(MAX_PARAMS);

/// Value of `pad` while OP-TEE has not written a request behind the message. OP-TEE writes zero.
const UNUSED_MARK: u32 = 0x5043_4552;

/// Offset of `pad` in a header.
const PAD_OFFSET: usize = 16;

/// An RPC message in private memory.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
struct RpcMessage {
    header: Header,
    params: [Param; MAX_PARAMS],
}

impl Request {
    /// Returns the page that contains OP-TEE's request, and the offset.
    pub(crate) fn tee_copy<'a>(&'a self, call: &'a Call) -> (&'a SharedPage, usize) {
        match &self.source {
            Source::RpcArg => (&call.shadow, call.rpc_arg_offset()),
            Source::Buffer(_, buffer) => (&buffer.shadow, 0),
        }
    }

    /// Returns where the guest finds its copy and writes its answer. A guest with room behind its message looks
    /// nowhere else.
    fn guest_copy(&self, call: &Call) -> (MessageLocation, usize) {
        match &self.source {
            Source::Buffer(_, buffer) if !call.has_rpc_arg => (buffer.guest, 0),
            _ => (call.location, call.guest_rpc_arg_offset()),
        }
    }

    /// Reads the guest's copy, from its header to its last parameter.
    fn read_guest<H: Host>(&self, host: &H, call: &Call) -> Result<RpcMessage, GuestMemoryError> {
        let mut message = RpcMessage::default();
        let (location, offset) = self.guest_copy(call);
        location.read(
            host,
            offset,
            &mut message.as_mut_bytes()[..msg::size(self.count)],
        )?;
        Ok(message)
    }

    /// Writes a message to the guest's copy.
    fn write_guest<H: Host>(
        &self,
        host: &H,
        call: &Call,
        message: &RpcMessage,
        count: usize,
    ) -> Result<(), GuestMemoryError> {
        let (location, offset) = self.guest_copy(call);
        location.write(host, offset, &message.as_bytes()[..msg::size(count)])
    }

    /// Tells OP-TEE a result without outputs.
    fn fail<H: Host>(&self, host: &H, call: &Call, result: TeeResult) {
        self.conclude(host, call, U32::new(result.0), U32::new(Origin::COMMS.0));
    }

    /// Writes result and origin, the last change to OP-TEE's request.
    pub(crate) fn conclude<H: Host>(&self, host: &H, call: &Call, ret: U32, origin: U32) {
        let (page, offset) = self.tee_copy(call);
        let words = [U32::new(UNUSED_MARK), ret, origin];
        host.write_shared(page, offset + PAD_OFFSET, words.as_bytes());
    }
}

/// Asks the guest to sleep, by a request behind its message; the answer is not read. Returns `false` without
/// room for it, or if the guest has taken the memory away.
pub(crate) fn ask_to_sleep<H: Host>(host: &H, call: &Call, milliseconds: u32) -> bool {
    let mut message = RpcMessage::default();
    message.header.cmd = U32::new(Command::SUSPEND.0);
    message.header.num_params = U32::new(1);
    message.params[0] = Param::new(Attr::VALUE_INPUT, milliseconds.into(), 0, 0);
    let bytes = &message.as_bytes()[..msg::size(1)];
    call.has_rpc_arg
        && call
            .location
            .write(host, call.guest_rpc_arg_offset(), bytes)
            .is_ok()
}

/// Marks the room behind a message as not used by OP-TEE yet.
pub(crate) fn mark_rpc_arg_unused<H: Host>(host: &H, call: &Call) {
    let header = Header {
        pad: U32::new(UNUSED_MARK),
        ..Header::default()
    };
    host.write_shared(&call.shadow, call.rpc_arg_offset(), header.as_bytes());
}

/// Returns whether OP-TEE has written a request behind a message.
pub(crate) fn rpc_arg_is_used<H: Host>(host: &H, call: &Call) -> bool {
    let mut pad = U32::ZERO;
    host.read_shared(
        &call.shadow,
        call.rpc_arg_offset() + PAD_OFFSET,
        pad.as_mut_bytes(),
    );
    pad.get() != UNUSED_MARK
}

const _: () = {
    assert!(core::mem::offset_of!(Header, pad) == PAD_OFFSET);
    assert!(PAD_OFFSET + 4 == msg::RET_OFFSET);
    assert!(RPC_ARG_SIZE == HEADER_SIZE + 4 * 32);
};
