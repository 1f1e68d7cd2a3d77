// SPDX-License-Identifier: Apache-2.0 OR MIT
//! OP-TEE's request to the guest, in private memory.

use crate::host::SharedPage;
use crate::memory::{Cookie, RpcBuffer};
use crate::message::Kind;
use optee_proto::msg::Param;
use optee_proto::rpc::{Command, MAX_PARAMS, NOTIFICATION_SEND, NOTIFICATION_WAIT};

/// Where OP-TEE's request is.
#[derive(Debug)]
pub(crate) enum Source {
    /// Behind the call's message.
    RpcArg,
    /// In memory of its own. The call owns it until the request is answered.
    Buffer(Cookie, RpcBuffer),
}

/// A request that the guest has been asked to execute.
#[derive(Debug)]
pub(crate) struct Request {
    pub(super) source: Source,
    pub(super) command: Command,
    /// As OP-TEE wrote them.
    pub(crate) params: [Param; MAX_PARAMS],
    pub(super) kinds: [Kind; MAX_PARAMS],
    pub(super) count: usize,
}

impl Request {
    /// Returns the mediator page that held the request, if the request had a page of its own.
    pub(crate) fn into_page(self) -> Option<SharedPage> {
        match self.source {
            Source::RpcArg => None,
            Source::Buffer(_, buffer) => Some(buffer.shadow),
        }
    }

    /// Returns for how many milliseconds OP-TEE wants to sleep, if it asked for that.
    pub(crate) fn sleep(&self) -> Option<u32> {
        let milliseconds = u32::try_from(self.params[0].a.get()).unwrap_or(u32::MAX);
        (self.command == Command::SUSPEND).then_some(milliseconds)
    }

    /// Returns whether OP-TEE waits for another call from the VM.
    pub(crate) fn waits(&self) -> bool {
        self.is_notification(NOTIFICATION_WAIT)
    }

    /// Returns whether OP-TEE wakes another call from the VM.
    pub(super) fn wakes(&self) -> bool {
        self.is_notification(NOTIFICATION_SEND)
    }

    fn is_notification(&self, what: u64) -> bool {
        self.command == Command::NOTIFICATION && self.params[0].a.get() == what
    }
}
