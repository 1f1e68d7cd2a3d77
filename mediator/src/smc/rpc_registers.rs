// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The RPCs that registers carry: ALLOC and FREE for the memory of RPC messages, and the cookie of a CMD.
//!
//! What OP-TEE frees is forgotten before the guest is told, since the guest may reuse the cookie at once.

use crate::Mediator;
use crate::addr::{Ipa, PAGE_SIZE};
use crate::call::{Call, CallStep, Pending, ResumeArgs};
use crate::host::Host;
use crate::memory::{Cookie, GuestCookie, MessageLocation, RpcBuffer};
use crate::rpc::{Function, Source, rpc_arg_is_used};
use crate::stats::RpcKind;
use optee_proto::smc;

/// Returns the registers that tell OP-TEE of memory for RPC messages: its address and its cookie.
fn memory(at: u64, cookie: u64) -> ResumeArgs {
    let ((a1, a2), (a4, a5)) = (smc::pair(at), smc::pair(cookie));
    ResumeArgs([a1, a2, a4, a5])
}

impl Mediator {
    /// Returns where the request of an RPC CMD is: in the memory of this cookie, or behind the call's message. Memory of
    /// its own belongs to the call until the request is answered. `None` where OP-TEE has no such memory.
    pub(crate) fn find_request<H: Host>(
        &self,
        host: &H,
        call: &Call,
        cookie: u64,
    ) -> Option<Source> {
        let Some(cookie) = Cookie::from_tee(cookie) else {
            return call.has_rpc_arg.then_some(Source::RpcArg);
        };
        // OP-TEE names its older memory even in the first request that it writes behind the message.
        if call.has_rpc_arg && rpc_arg_is_used(host, call) {
            return Some(Source::RpcArg);
        }
        let mut state = self.state.lock();
        let (_, buffer) = state.rpc_buffers.get(cookie)?;
        Some(Source::Buffer(cookie, buffer.take()?))
    }

    /// Asks the guest for memory for RPC messages, at OP-TEE's request (ALLOC).
    pub(crate) fn ask_alloc(&self, call: &mut Call, size: u64) -> CallStep {
        self.counters.rpc[RpcKind::Alloc as usize].bump();
        if size == 0 || size > PAGE_SIZE {
            return CallStep::Resume(ResumeArgs::NOTHING);
        }
        call.pending = Pending::Alloc;
        CallStep::AskGuest(Function::ALLOC, size << 32)
    }

    /// Takes the guest's answer to ALLOC. OP-TEE gets a page and a cookie of the mediator.
    // As `answer_command`.
    #[inline(never)]
    pub(crate) fn answer_alloc<H: Host>(
        &self,
        host: &H,
        [at, guest]: [u64; 2],
        call: &mut Call,
    ) -> CallStep {
        if at == 0 {
            // The guest has no memory to give.
            return CallStep::Resume(ResumeArgs::NOTHING);
        }
        let location = MessageLocation::page(Ipa::new(at));
        let mut probe = [0; 8];
        if guest == 0
            || !at.is_multiple_of(PAGE_SIZE)
            || location.read(host, 0, &mut probe).is_err()
        {
            return self.refuse_alloc(call, guest);
        }
        let Some(shadow) = self.take_page(host) else {
            return self.refuse_alloc(call, guest);
        };
        let pa = shadow.pa();
        let buffer = RpcBuffer {
            shadow,
            guest: location,
        };
        let inserted = self
            .state
            .lock()
            .rpc_buffers
            .insert(GuestCookie(guest), Some(buffer));
        match inserted {
            Ok(cookie) => CallStep::Resume(memory(pa.get(), cookie.get())),
            Err((_, buffer)) => {
                if let Some(buffer) = buffer {
                    self.give_page(host, buffer.shadow);
                }
                self.refuse_alloc(call, guest)
            }
        }
    }

    /// Gives OP-TEE nothing. The guest gets back what it allocated, if that has a cookie.
    fn refuse_alloc(&self, call: &mut Call, guest: u64) -> CallStep {
        self.counters.denied.bump();
        if guest == 0 {
            return CallStep::Resume(ResumeArgs::NOTHING);
        }
        call.pending = Pending::Resume(ResumeArgs::NOTHING);
        CallStep::AskGuest(Function::FREE, guest)
    }

    /// Has the guest free memory for RPC messages, at OP-TEE's request (FREE).
    pub(crate) fn ask_free<H: Host>(&self, host: &H, call: &mut Call, cookie: u64) -> CallStep {
        self.counters.rpc[RpcKind::Free as usize].bump();
        let Some((guest, shadow)) = self.forget_rpc_buffer(cookie) else {
            return CallStep::Poison;
        };
        // OP-TEE unmaps the page after this RPC, and certainly before it frees another one.
        if let Some(page) = call.freed_rpc_page.replace(shadow) {
            self.give_page(host, page);
        }
        call.pending = Pending::Resume(ResumeArgs::NOTHING);
        CallStep::AskGuest(Function::FREE, guest.0)
    }

    /// Removes memory for RPC messages from the VM's state. Returns the guest's cookie and the mediator's page,
    /// or `None` if no such memory exists or a request is in it.
    pub(crate) fn forget_rpc_buffer(
        &self,
        cookie: u64,
    ) -> Option<(GuestCookie, crate::host::SharedPage)> {
        let cookie = Cookie::from_tee(cookie)?;
        let mut state = self.state.lock();
        state.rpc_buffers.get(cookie)?.1.as_ref()?;
        let (guest, buffer) = state.rpc_buffers.remove(cookie)?;
        buffer.map(|buffer| (guest, buffer.shadow))
    }
}
