// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What each RPC may ask of the guest, and what each answer may contain.
//!
//! * [`ask`]: OP-TEE's request is fetched, checked, translated, and put before the guest.
//! * [`answer`]: the guest's answer is fetched, and only what the request made an output gets
//!   through, whatever the guest wrote besides.
//! * [`shm`]: memory for OP-TEE's data that does not come about, or goes.
//! * [`internal`]: what is asked during the mediator's own calls.
//!
//! The request as OP-TEE made it stays in private memory until it is answered. So nothing that
//! the guest writes into its copy, command, counts and attributes included, is ever believed.

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

/// What `pad` holds in a room that OP-TEE has not written a request into; OP-TEE zeroes it.
const UNUSED_MARK: u32 = 0x5043_4552;

/// Where `pad` is in a header.
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
    /// The page that OP-TEE's request is in, and where.
    pub(crate) fn tee_copy<'a>(&'a self, call: &'a Call) -> (&'a SharedPage, usize) {
        match &self.source {
            Source::RpcArg => (&call.shadow, call.rpc_arg_offset()),
            Source::Buffer(_, buffer) => (&buffer.shadow, 0),
        }
    }

    /// Where the guest gets its copy, and has its answer. A guest that left room behind its
    /// message looks nowhere else.
    fn guest_copy(&self, call: &Call) -> (MessageLocation, usize) {
        match &self.source {
            Source::Buffer(_, buffer) if !call.has_rpc_arg => (buffer.guest, 0),
            _ => (call.location, call.guest_rpc_arg_offset()),
        }
    }

    /// Reads what the guest has in its copy, from its header to its last parameter.
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

    /// Writes a message into the guest's copy.
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

    /// Tells OP-TEE the result, without any output.
    fn fail<H: Host>(&self, host: &H, call: &Call, result: TeeResult) {
        self.conclude(host, call, U32::new(result.0), U32::new(Origin::COMMS.0));
    }

    /// Writes result and origin, the last thing to happen to OP-TEE's request.
    pub(crate) fn conclude<H: Host>(&self, host: &H, call: &Call, ret: U32, origin: U32) {
        let (page, offset) = self.tee_copy(call);
        let words = [U32::new(UNUSED_MARK), ret, origin];
        host.write_shared(page, offset + PAD_OFFSET, words.as_bytes());
    }
}

/// Asks the guest to sleep for so many milliseconds, by a request of ours behind its message; whatever it answers,
/// nobody reads that. `false` where it has left no room there, or taken the memory away.
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

/// Makes the room behind a message recognisable as not used by OP-TEE yet.
pub(crate) fn mark_rpc_arg_unused<H: Host>(host: &H, call: &Call) {
    let header = Header {
        pad: U32::new(UNUSED_MARK),
        ..Header::default()
    };
    host.write_shared(&call.shadow, call.rpc_arg_offset(), header.as_bytes());
}

/// Whether OP-TEE has written a request into the room behind a message.
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
