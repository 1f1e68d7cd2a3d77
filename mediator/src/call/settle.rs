// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The second half of a call: its result goes to the guest, and what it used is released.

use super::{AppLoad, Call, Completion, MAX_USES, Pending};
use crate::Mediator;
use crate::host::{GuestMemoryError, Host, LongOperation};
use crate::memory::pin::{FREE_COST, Release, UNPIN_STEP, unpin};
use crate::message::{Kind, MAX_PARAMS};
use alloc::boxed::Box;
use core::mem;
use optee_proto::le::U32;
use optee_proto::msg::{self, Command};
use optee_proto::{Origin, TeeResult};
use zerocopy::IntoBytes;

impl Mediator {
    /// Returns whether OP-TEE has opened a session that the policy denies: not to a user TA, since OP-TEE never
    /// requested its code.
    #[inline]
    pub(crate) fn is_denied_after_open(&self, call: &Call) -> bool {
        matches!(&call.completion, Completion::OpenSession(reserved)
            if self.config.policy.wants_user_ta(reserved.app())
                && !call.is_internal()
                && !self.state.lock().is_user_app(reserved.app()))
    }

    /// Turns a call that has opened a denied session into one that closes it. The guest is told that access was
    /// denied.
    #[cold]
    pub(crate) fn turn_into_close<H: Host>(&self, host: &H, call: &mut Call) {
        self.counters.denied.bump();
        self.give_pages(host, call);
        let header = &mut call.guest_message.header;
        let session = mem::take(&mut header.session).get();
        header.ret = TeeResult::ACCESS_DENIED.0.into();
        header.ret_origin = Origin::COMMS.0.into();
        call.completion = match mem::replace(&mut call.completion, Completion::Plain) {
            Completion::OpenSession(reserved) => Completion::CloseDenied { reserved, session },
            other => other,
        };
        call.thread = None;
        call.tee_param_count = 0;
        call.kinds = [Kind::None; MAX_PARAMS];
    }

    /// Releases what a call used, and updates the VM's state by its result: `None` if OP-TEE has not acted upon
    /// the message. Returns the call if it still has pages to unpin; otherwise it is idle.
    pub(crate) fn settle<H: Host>(
        &self,
        host: &H,
        mut call: Box<Call>,
        result: Option<TeeResult>,
    ) -> Option<Box<Call>> {
        if !matches!(call.completion, Completion::Plain) {
            self.settle_completion(host, &mut call, result == Some(TeeResult::SUCCESS));
        }
        if !call.page_list.is_empty() || call.freed_rpc_page.is_some() {
            self.give_pages(host, &mut call);
        }
        call.pending = Pending::Nothing;
        call.resumed_at_wake_count = None;
        call.app_load = AppLoad::Nothing;
        call.backoff_count = 0;
        (call.has_asked, call.is_resumed) = (false, false);
        call.thread = None;
        (call.guest_param_count, call.tee_param_count) = (0, 0);
        call.kinds = [Kind::None; MAX_PARAMS];
        let mut unused = heapless::Vec::<_, MAX_USES>::new();
        {
            let mut state = self.state.lock();
            for cookie in &call.uses {
                state.release_in_flight(*cookie);
            }
            for cookie in call.uses.iter().chain(&call.message_buffer) {
                if let Some(release) = state.give_back(*cookie) {
                    // The list is large enough for everything that the call can have used.
                    let _ = unused.push(release);
                }
            }
            call.uses.clear();
            call.message_buffer = None;
            if let Some(session) = call.session.take() {
                state.sessions.leave(session);
            }
            state.unmap(&mut call.mapped);
            if unused.is_empty() && call.releases.is_empty() {
                state.idle.push(call);
                return None;
            }
        }
        for release in unused {
            call.give_back(release);
        }
        self.finish(host, call)
    }

    /// Unpins some of the call's pages. Returns the call if there are more; otherwise it is idle.
    #[cold]
    pub(crate) fn finish<H: Host>(&self, host: &H, mut call: Box<Call>) -> Option<Box<Call>> {
        self.unpin_some(host, &mut call);
        if !call.releases.is_empty() {
            return Some(call);
        }
        self.state.lock().idle.push(call);
        None
    }

    /// Adds pages to unpin to a call that continues. Some are unpinned at once, the others before the call
    /// returns to OP-TEE.
    #[inline(never)]
    pub(crate) fn release<H: Host>(&self, host: &H, call: &mut Call, release: Release) {
        call.give_back(release);
        self.unpin_some(host, call);
    }

    /// Unpins as many of the call's pages as one step takes.
    #[inline(never)]
    pub(crate) fn unpin_some<H: Host>(&self, host: &H, call: &mut Call) {
        let mut left = UNPIN_STEP;
        host.long_operation(LongOperation::Unpin, || {
            while left > 0
                && let Some(Release { pages, count }) = call.releases.last_mut()
            {
                if unpin(host, pages, &mut left) {
                    let count = *count;
                    // The list is freed before it stops counting.
                    call.releases.pop();
                    self.state.lock().released(count);
                    left = left.saturating_sub(FREE_COST);
                }
            }
        });
    }

    /// Releases pages that OP-TEE does not use any more.
    #[inline(never)]
    fn give_pages<H: Host>(&self, host: &H, call: &mut Call) {
        let list = mem::take(&mut call.page_list);
        for page in list.into_iter().chain(call.freed_rpc_page.take()) {
            self.give_page(host, page);
        }
    }

    /// Settles the call's [`Completion`].
    #[inline(never)]
    fn settle_completion<H: Host>(&self, host: &H, call: &mut Call, success: bool) {
        let session = call.guest_message.header.session.get();
        let work = mem::replace(&mut call.completion, Completion::Plain);
        let mut state = self.state.lock();
        let release = match work {
            Completion::Plain => None,
            Completion::OpenSession(reserved) => {
                if success && call.is_internal() {
                    // An open by the mediator says nothing about the application, and the session is closed.
                    state.sessions.open(session, reserved, false, true);
                } else if success {
                    state.open_session(session, reserved, call.app_load);
                } else {
                    state.sessions.not_opened(reserved);
                }
                None
            }
            Completion::CloseDenied { reserved, session } => {
                if success {
                    state.sessions.not_opened(reserved);
                } else {
                    state.sessions.withhold(session, reserved);
                }
                None
            }
            Completion::AwaitClose(id) => {
                state.sessions.not_closed(id);
                None
            }
            Completion::CloseSession(id) => {
                state.sessions.end_close(id, success);
                None
            }
            // A guest's own CLOSE has waited for all users. So calls that name the session now use another one:
            // OP-TEE reuses a number before it answers the close. This call has not been answered yet.
            Completion::CloseAtTeardown { session, .. } if success => {
                state.poison_users(session);
                None
            }
            Completion::CloseAtTeardown { app, .. } => {
                drop(state);
                return self.count_leak(host, app);
            }
            Completion::Register { cookie, import } => {
                let (pins, list) = import.into_parts();
                let unused = if success {
                    state.establish(cookie, pins);
                    None
                } else {
                    let removed = state.remove(cookie);
                    removed.map(|(_, release)| Release {
                        pages: pins,
                        ..release
                    })
                };
                drop(state);
                // Registered or not, OP-TEE has read the list.
                for page in list {
                    self.give_page(host, page);
                }
                if let Some(unused) = unused {
                    call.give_back(unused);
                }
                return;
            }
            Completion::Unregister(cookie) => state.end_unregister(cookie, success),
            Completion::StopNotifications => {
                state.notify &= !success;
                None
            }
        };
        drop(state);
        if let Some(release) = release {
            call.give_back(release);
        }
    }
}

impl Call {
    /// Adds pages to unpin. The list is large enough, since it was empty when the call returned from OP-TEE.
    #[inline(never)]
    pub(crate) fn give_back(&mut self, release: Release) {
        let _ = self.releases.push(release);
    }

    /// Copies the outputs in OP-TEE's answer to the private copy of the guest's message. OP-TEE's answer is in
    /// memory that is not trusted, so it is fetched once.
    pub(crate) fn collect<H: Host>(&mut self, host: &H) -> TeeResult {
        let Self {
            shadow,
            guest_message,
            tee_message,
            kinds,
            tee_param_count,
            ..
        } = self;
        let kinds = &kinds[..*tee_param_count];
        let outputs = kinds.iter().any(|kind| kind.is_out());
        let size = if outputs {
            msg::size(*tee_param_count)
        } else {
            msg::HEADER_SIZE
        };
        host.read_shared(shadow, 0, &mut tee_message.as_mut_bytes()[..size]);
        guest_message.header.ret = tee_message.header.ret;
        guest_message.header.ret_origin = tee_message.header.ret_origin;
        if Command(guest_message.header.cmd.get()) == Command::OPEN_SESSION {
            guest_message.header.session = tee_message.header.session;
        }
        if outputs {
            for ((kind, tee), guest) in kinds
                .iter()
                .zip(&tee_message.params)
                .zip(&mut guest_message.params)
            {
                kind.copy_out(tee, guest);
            }
        }
        TeeResult(guest_message.header.ret.get())
    }

    /// Writes the outputs to the guest's message, in one piece from the first to the last.
    ///
    /// # Errors
    /// When the guest has taken its message away.
    pub(crate) fn report<H: Host>(&self, host: &H) -> Result<(), GuestMemoryError> {
        let open = Command(self.guest_message.header.cmd.get()) == Command::OPEN_SESSION;
        let from = if open {
            msg::SESSION_OFFSET
        } else {
            msg::RET_OFFSET
        };
        let last = self.kinds[..self.tee_param_count]
            .iter()
            .rposition(|kind| kind.is_out());
        let to = last.map_or(msg::HEADER_SIZE - 4, |last| msg::size(last + 1));
        let outputs = &self.guest_message.as_bytes()[from..to];
        self.location.write(host, from, outputs)
    }

    /// Reads OP-TEE's result, and nothing else.
    pub(crate) fn read_result<H: Host>(&self, host: &H) -> TeeResult {
        let mut result = U32::new(u32::MAX);
        host.read_shared(&self.shadow, msg::RET_OFFSET, result.as_mut_bytes());
        TeeResult(result.get())
    }
}
