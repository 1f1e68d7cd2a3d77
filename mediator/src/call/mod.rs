// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One yielding call: begin → (RPC → resume)* → end. All its state is private.
//!
//! Exactly one party owns a [`Call`]: the VM's state while it is idle or suspended, otherwise the vCPU that
//! runs it. So a call needs no lock, and of two vCPUs that resume the same call exactly one gets it.

mod enter;
mod finish;
mod prepare;
mod run;
mod settle;
mod suspend;

use crate::denied::DeniedError;
use crate::host::SharedPage;
use crate::mapped_pages::MappedPages;
use crate::memory::pin::Release;
use crate::memory::{Cookie, MessageLocation};
use crate::message::{Kind, MAX_PARAMS, Message};
use crate::rpc::{Function, Request};
use crate::sessions::{SessionReservation, Sessions};
use crate::smc::page_list::PageListImport;
use alloc::vec::Vec;
use ffa_proto::Handle;
use optee_proto::msg::{Attr, Header, Param};
use optee_proto::{Return, Uuid};

/// Bits of a resume token that hold the call's slot. The rest distinguishes suspensions.
const SLOT_BITS: u32 = 6;

/// The most calls per VM.
pub(crate) const MAX_CALLS: u32 = 1 << SLOT_BITS;

/// Pages of a list that are imported before the guest gets the pCPU back: 4 MiB. Fewer under Miri, for shorter
/// tests.
pub(crate) const IMPORT_STEP: usize = if cfg!(miri) { 128 } else { 1024 };

/// The longest sleep, in milliseconds, that a guest is asked for while its call waits for others. It bounds how
/// late their end is noticed.
const MAX_BACKOFF_MS: u32 = 32;

/// The most SMCs per trap before the guest gets the pCPU back.
pub(crate) const MAX_ROUNDS: u32 = 64;

/// The most buffers that a call uses: those of all its parameters, and the one that its message is in.
const MAX_USES: usize = MAX_PARAMS + 1;

/// The most buffers of which a call has pages to unpin: those that it used, and its own. A call that continues
/// has at most one, which OP-TEE has returned.
pub(crate) const MAX_RELEASES: usize = MAX_USES + 1;

/// What OP-TEE gets when a call resumes: a1, a2, a4 and a5 of the SMC ABI.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ResumeArgs(pub(crate) [u64; 4]);

impl ResumeArgs {
    /// Zeroes; the answer, if any, is in memory.
    pub(crate) const NOTHING: Self = Self([0; 4]);
}

/// Where a call goes next.
#[derive(Debug)]
pub(crate) enum CallStep {
    /// It returns to OP-TEE.
    Resume(ResumeArgs),
    /// It goes to the guest, with this function and its value. [`Call::pending`] says what the call waits for.
    AskGuest(Function, u64),
    /// It ends nowhere: OP-TEE has broken the protocol.
    Poison,
}

/// What a suspended call waits for.
#[derive(Debug)]
pub(crate) enum Pending {
    /// Nothing: the call is running or idle.
    Nothing,
    /// The guest runs in between; OP-TEE then gets these arguments.
    Resume(ResumeArgs),
    /// The guest runs in between; the message has not reached OP-TEE yet. The buffer's pages are still being
    /// imported, or other calls name what OP-TEE is to forget.
    Enter,
    /// The guest allocates memory for RPC messages.
    Alloc,
    /// The guest executes a command; its answer will be in memory.
    Command(Request),
    /// The guest runs in between; its answer to SHM_ALLOC is still being imported.
    Import {
        request: Request,
        cookie: Cookie,
        import: PageListImport,
    },
    /// The guest frees, at the mediator's request, an unusable allocation; OP-TEE is then told of the failure.
    Undo(Request),
    /// The guest runs in between; the call is done, except for pages to unpin. The guest then gets this code.
    Release(Return),
}

/// What has to be settled when a call ends, besides its message.
#[derive(Debug)]
pub(crate) enum Completion {
    /// Nothing.
    Plain,
    /// The reservation of the session that the call opens.
    OpenSession(SessionReservation),
    /// The policy denies the session that OP-TEE has just opened, and the call closes it again.
    CloseDenied {
        reserved: SessionReservation,
        session: u32,
    },
    /// The session that the call closes once no other call names it.
    AwaitClose(u32),
    /// The session that the call closes.
    CloseSession(u32),
    /// The session that the call closes at teardown, with its application. The VM's state does not contain it
    /// any more.
    CloseAtTeardown { app: Uuid, session: u32 },
    /// The buffer that the call registers.
    Register {
        cookie: Cookie,
        import: PageListImport,
    },
    /// The buffer that the call unregisters.
    Unregister(Cookie),
    /// The call stops notifications.
    StopNotifications,
}

/// What OP-TEE has requested while it opened a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AppLoad {
    /// Nothing that an application could be loaded from.
    Nothing,
    /// A file, in the guest's file system or in the RPMB. Applications can be there.
    Files,
    /// The application's code.
    Code,
}

/// A yielding call.
#[derive(Debug)]
pub(crate) struct Call {
    slot: usize,
    /// The page that contains OP-TEE's message.
    pub(crate) shadow: SharedPage,
    /// The SPMC's name for that page, over FF-A.
    pub(crate) object: Handle,
    /// Where the guest's message is.
    pub(crate) location: MessageLocation,
    /// The message is followed by room for RPC messages.
    pub(crate) has_rpc_arg: bool,
    /// The guest's message as it was fetched, and later with its outputs.
    pub(crate) guest_message: Message,
    /// OP-TEE's message, and later what OP-TEE has made of it.
    pub(crate) tee_message: Message,
    /// Number of parameters in the guest's message.
    guest_param_count: usize,
    /// Number of parameters in OP-TEE's message: without trailing NONE parameters.
    tee_param_count: usize,
    kinds: [Kind; MAX_PARAMS],
    /// The buffer that the guest's message is in.
    message_buffer: Option<Cookie>,
    /// The buffers that the parameters name.
    uses: heapless::Vec<Cookie, MAX_PARAMS>,
    /// Pages that OP-TEE's core may map because of the call, as counted in the VM's state.
    pub(crate) mapped: MappedPages,
    /// The session that counts the call as a user.
    session: Option<u32>,
    pub(crate) completion: Completion,
    /// The page list of the last buffer that the guest allocated at OP-TEE's request. OP-TEE reads it while it
    /// resumes, and does not need it any more when it requests or frees another buffer, or ends the call.
    pub(crate) page_list: Vec<SharedPage>,
    /// The page of the last RPC buffer that OP-TEE freed. OP-TEE sends FREE before it unmaps the page.
    pub(crate) freed_rpc_page: Option<SharedPage>,
    /// Pages to unpin.
    pub(crate) releases: heapless::Vec<Release, MAX_RELEASES>,
    /// OP-TEE has sent a request, so it has acted upon the message.
    pub(crate) has_asked: bool,
    /// The guest has resumed the call, so it does not take "no thread" for an answer.
    pub(crate) is_resumed: bool,
    /// OP-TEE's thread, after the first RPC.
    pub(crate) thread: Option<u32>,
    /// The token with which the guest resumes the call.
    token: u32,
    /// The call sleeps, and has slept for as long as it requested.
    pub(crate) has_slept: bool,
    /// What OP-TEE has requested during the call.
    pub(crate) app_load: AppLoad,
    /// Number of times that the guest was asked to sleep before the call begins.
    backoff_count: u32,
    /// The wake count when the call last resumed, if it waits for another call.
    resumed_at_wake_count: Option<u32>,
    pub(crate) pending: Pending,
}

impl Call {
    /// Creates an idle call with its shadow page.
    pub(crate) fn new(slot: usize, shadow: SharedPage) -> Self {
        Self {
            slot,
            shadow,
            object: Handle::NONE,
            location: MessageLocation::page(crate::addr::Ipa::new(0)),
            has_rpc_arg: false,
            guest_message: Message::default(),
            tee_message: Message::default(),
            guest_param_count: 0,
            tee_param_count: 0,
            kinds: [Kind::None; MAX_PARAMS],
            message_buffer: None,
            uses: heapless::Vec::new(),
            mapped: MappedPages::default(),
            session: None,
            completion: Completion::Plain,
            page_list: Vec::new(),
            freed_rpc_page: None,
            releases: heapless::Vec::new(),
            has_asked: false,
            is_resumed: false,
            thread: None,
            token: 0,
            has_slept: false,
            app_load: AppLoad::Nothing,
            backoff_count: 0,
            resumed_at_wake_count: None,
            pending: Pending::Nothing,
        }
    }

    /// Sets up an internal call that closes a session to an application.
    pub(crate) fn set_up_close(&mut self, session: u32, app: Uuid) {
        self.set_up(session, optee_proto::msg::Command::CLOSE_SESSION);
        self.completion = Completion::CloseAtTeardown { app, session };
    }

    /// Sets up an internal call that names a session and nothing else.
    fn set_up(&mut self, session: u32, command: optee_proto::msg::Command) {
        self.location = MessageLocation::none();
        (self.guest_param_count, self.tee_param_count) = (0, 0);
        self.guest_message.header = Header::default();
        self.guest_message.header.cmd = command.0.into();
        self.guest_message.header.session = session.into();
    }

    /// Sets up an internal call that opens a reserved session.
    pub(crate) fn set_up_open(&mut self, reserved: SessionReservation) {
        self.location = MessageLocation::none();
        self.guest_message.header = Header::default();
        self.guest_message.header.cmd = optee_proto::msg::Command::OPEN_SESSION.0.into();
        let (a, b) = reserved.app().to_value();
        let login = optee_proto::msg::login::PUBLIC.into();
        self.tee_message.params[0] = Param::new(Attr::META_VALUE_INPUT, a, b, 0);
        self.tee_message.params[1] = Param::new(Attr::META_VALUE_INPUT, 0, 0, login);
        (self.guest_param_count, self.tee_param_count) = (2, 2);
        self.completion = Completion::OpenSession(reserved);
    }

    /// Sets up an internal call that has OP-TEE forget a buffer.
    pub(crate) fn set_up_unregister(&mut self, cookie: Cookie) {
        self.location = MessageLocation::none();
        self.guest_message.header = Header::default();
        self.guest_message.header.cmd = optee_proto::msg::Command::UNREGISTER_SHM.0.into();
        self.tee_message.params[0] = Param::new(Attr::RMEM_INPUT, 0, 0, cookie.get());
        (self.guest_param_count, self.tee_param_count) = (1, 1);
        self.completion = Completion::Unregister(cookie);
    }

    /// Sets up an internal call that cancels another call.
    pub(crate) fn set_up_cancel(&mut self, session: u32, cancel_id: u32) {
        self.set_up(session, optee_proto::msg::Command::CANCEL);
        self.guest_message.header.cancel_id = cancel_id.into();
    }

    /// Takes the application of a call that does not end, if OP-TEE may keep a session or an address space
    /// because of it. Returns it once.
    pub(crate) fn take_unsettled_app(&mut self, sessions: &mut Sessions) -> Option<Uuid> {
        match core::mem::replace(&mut self.completion, Completion::Plain) {
            Completion::OpenSession(reserved) => {
                let app = reserved.app();
                // For an internal call it is known whether an instance was there before.
                let is_new = !self.is_internal() || self.app_load == AppLoad::Code;
                let counts = reserved.counts() && is_new;
                sessions.not_opened(reserved);
                counts.then_some(app)
            }
            Completion::CloseDenied { reserved, .. } => {
                let app = reserved.app();
                sessions.not_opened(reserved);
                Some(app)
            }
            Completion::CloseAtTeardown { app, .. } => Some(app),
            other => {
                self.completion = other;
                None
            }
        }
    }

    /// Returns the buffers that the call's parameters name.
    pub(crate) fn named_buffers(&self) -> &[Cookie] {
        &self.uses
    }

    /// Returns whether the call uses the session with this number.
    pub(crate) fn uses_session(&self, session: u32) -> bool {
        self.session == Some(session)
    }

    /// Returns whether the call is internal: made by the mediator at teardown.
    pub(crate) const fn is_internal(&self) -> bool {
        self.location.is_none()
    }

    /// Returns session and cancel id of a call that can be cancelled.
    pub(crate) fn cancellable(&self) -> Option<(u32, u32)> {
        let header = &self.guest_message.header;
        let command = optee_proto::msg::Command(header.cmd.get());
        let is_done = matches!(self.pending, Pending::Release(_));
        let invokes = command == optee_proto::msg::Command::INVOKE && !self.is_internal();
        (invokes && !is_done).then(|| (header.session.get(), header.cancel_id.get()))
    }

    /// Returns for how many milliseconds the guest is to sleep before the call is tried again: one, then twice
    /// as many each time, up to [`MAX_BACKOFF_MS`].
    fn backoff_ms(&self) -> u32 {
        1_u32
            .checked_shl(self.backoff_count)
            .unwrap_or(MAX_BACKOFF_MS)
            .min(MAX_BACKOFF_MS)
    }

    /// Returns how many milliseconds OP-TEE wants the call to sleep, unless it has slept already.
    pub(crate) fn sleeps(&self) -> Option<u32> {
        match &self.pending {
            Pending::Command(request) if !self.has_slept => request.sleep(),
            _ => None,
        }
    }

    /// Returns whether the call waits inside OP-TEE for another call.
    fn waits_in_tee(&self) -> bool {
        matches!(&self.pending, Pending::Command(request) if request.waits())
    }

    /// Notes that the call resumes now, at this wake count.
    pub(crate) fn note_resume(&mut self, wake_count: u32) {
        self.resumed_at_wake_count = self.waits_in_tee().then_some(wake_count);
    }

    /// Returns whether the call waits for another call and OP-TEE has woken none since it last resumed, so that
    /// it would only ask again.
    pub(crate) fn waits_for_wake(&self, wake_count: u32) -> bool {
        self.waits_in_tee() && self.resumed_at_wake_count == Some(wake_count)
    }

    /// Returns the offset of the room for RPC messages behind the guest's message.
    pub(crate) const fn guest_rpc_arg_offset(&self) -> usize {
        optee_proto::msg::size(self.guest_param_count)
    }

    /// Returns the offset of the room for RPC messages behind OP-TEE's message.
    pub(crate) const fn rpc_arg_offset(&self) -> usize {
        optee_proto::msg::size(self.tee_param_count)
    }
}

/// Why a call does not begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BeginError {
    /// A return code.
    Code(Return),
    /// A result in the message.
    Result(DeniedError),
}

impl From<DeniedError> for BeginError {
    fn from(denied: DeniedError) -> Self {
        Self::Result(denied)
    }
}
