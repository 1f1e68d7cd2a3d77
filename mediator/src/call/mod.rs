// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One yielding call's life: begin → (RPC → resume)* → end. All its state is private.
//!
//! A [`Call`] is owned by exactly one party at a time: the VM's state while it is idle or suspended,
//! the vCPU that runs it otherwise. So there is nothing to lock in it, and of two vCPUs that
//! resume the same call exactly one gets it.

mod prepare;
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
use optee_proto::msg::{Attr, Header, Param};
use optee_proto::{Return, Uuid};

/// Bits of a resume token that hold the call's slot; the rest tells one suspension from another.
const SLOT_BITS: u32 = 6;

/// The most calls of one VM.
pub(crate) const MAX_CALLS: u32 = 1 << SLOT_BITS;

/// How many pages of a list are taken in before the guest gets the pCPU back: 4 MiB. Under Miri
/// fewer, so that a test need not wait for so many.
pub(crate) const IMPORT_STEP: usize = if cfg!(miri) { 128 } else { 1024 };

/// For how long at most, in milliseconds, a guest is asked to sleep while its call waits for others. Their end
/// is noticed so late.
const MAX_BACKOFF_MS: u32 = 32;

/// How many SMCs one trap makes at most before the guest gets the pCPU back.
pub(crate) const MAX_ROUNDS: u32 = 64;

/// The most buffers that a call names to OP-TEE and is in: all its parameters, and the one that its
/// message is in.
const MAX_USES: usize = MAX_PARAMS + 1;

/// Of how many buffers a call can have pages that are still to be unpinned: those that it used, and its own. While it
/// goes on there is one at most, which OP-TEE has given back.
pub(crate) const MAX_RELEASES: usize = MAX_USES + 1;

/// What the registers say when OP-TEE resumes: a1, a2, a4, a5.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ResumeArgs(pub(crate) [u64; 4]);

impl ResumeArgs {
    /// Nothing; the answer, if any, is in memory.
    pub(crate) const NOTHING: Self = Self([0; 4]);
}

/// Where a call goes from the mediator.
#[derive(Debug)]
pub(crate) enum CallStep {
    /// Back to OP-TEE.
    Resume(ResumeArgs),
    /// To the guest, with this function and its value; what the call waits for is in [`Call::pending`].
    AskGuest(Function, u64),
    /// Nowhere: OP-TEE has broken the protocol.
    Poison,
}

/// What a suspended call waits for.
#[derive(Debug)]
pub(crate) enum Pending {
    /// Nothing: it is running or idle.
    Nothing,
    /// The guest had to run in between; OP-TEE then gets this.
    Resume(ResumeArgs),
    /// The guest had to run in between; the message has not reached OP-TEE yet. The buffer's pages are
    /// still being taken in, or other calls name what OP-TEE is to forget.
    Enter,
    /// The guest allocates memory for RPC messages.
    Alloc,
    /// The guest does a command, and its answer is in memory.
    Command(Request),
    /// The guest had to run in between; its answer to SHM_ALLOC is still being taken in.
    Import {
        request: Request,
        cookie: Cookie,
        import: PageListImport,
    },
    /// The guest frees, at our request, what it allocated in vain; OP-TEE then hears of failure.
    Undo(Request),
    /// The guest had to run in between; the call is done, but for pages that it is to give back. The guest then gets
    /// this.
    Release(Return),
}

/// What a call does besides what its message says.
#[derive(Debug)]
pub(crate) enum Completion {
    /// Nothing.
    Plain,
    /// A session is reserved for it.
    OpenSession(SessionReservation),
    /// A session is reserved for it, and OP-TEE has opened that although the VM must not have it. It is closed again.
    CloseDenied {
        reserved: SessionReservation,
        session: u32,
    },
    /// A session is to end with it, when no other call names that.
    AwaitClose(u32),
    /// A session ends with it.
    CloseSession(u32),
    /// A session of a guest that is no more ends with it, to this application. It is not in the VM's state any more.
    CloseAtTeardown { app: Uuid, session: u32 },
    /// A buffer is coming.
    Register {
        cookie: Cookie,
        import: PageListImport,
    },
    /// A buffer is going.
    Unregister(Cookie),
    /// Notifications end with it.
    StopNotifications,
}

/// What OP-TEE has come for while it opened a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AppLoad {
    /// Nothing that it makes an application of.
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
    /// The page that OP-TEE sees as the message.
    pub(crate) shadow: SharedPage,
    /// Where the guest has its message.
    pub(crate) location: MessageLocation,
    /// Behind the message is room for RPC messages.
    pub(crate) has_rpc_arg: bool,
    /// The guest's message as it was fetched, and later with its outputs.
    pub(crate) guest_message: Message,
    /// What OP-TEE gets in its place, and later what it has made of that.
    pub(crate) tee_message: Message,
    /// How many parameters the guest's message has.
    guest_param_count: usize,
    /// How many of them OP-TEE gets: those at the end that are nothing are left out.
    tee_param_count: usize,
    kinds: [Kind; MAX_PARAMS],
    /// The buffer that its message is in.
    message_buffer: Option<Cookie>,
    /// The buffers that its parameters name.
    uses: heapless::Vec<Cookie, MAX_PARAMS>,
    /// Pages that OP-TEE's core may map because of it, as counted in the VM's state.
    pub(crate) mapped: MappedPages,
    /// The session that it names, where it is counted as a user of that.
    session: Option<u32>,
    pub(crate) completion: Completion,
    /// The list of the last buffer that the guest allocated at OP-TEE's request. OP-TEE reads it
    /// while it resumes, and is done with it once it asks for the next one, or frees one, or is
    /// done at all.
    pub(crate) page_list: Vec<SharedPage>,
    /// The last RPC buffer that OP-TEE freed. It asks for that before it unmaps the page.
    pub(crate) freed_rpc_page: Option<SharedPage>,
    /// Pages that it is to give back.
    pub(crate) releases: heapless::Vec<Release, MAX_RELEASES>,
    /// OP-TEE's thread, once it has one.
    pub(crate) thread: Option<u32>,
    /// What the guest must say to resume it.
    token: u32,
    /// It sleeps, and has slept for as long as it wanted.
    pub(crate) has_slept: bool,
    /// What OP-TEE has come for meanwhile.
    pub(crate) app_load: AppLoad,
    /// How often the guest was asked to sleep until the call can begin.
    backoff_count: u32,
    /// It waits for another call, and has gone on when OP-TEE had woken others so often.
    resumed_at_wake_count: Option<u32>,
    pub(crate) pending: Pending,
}

impl Call {
    /// A call that nobody uses, with the page it will use.
    pub(crate) fn new(slot: usize, shadow: SharedPage) -> Self {
        Self {
            slot,
            shadow,
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
            thread: None,
            token: 0,
            has_slept: false,
            app_load: AppLoad::Nothing,
            backoff_count: 0,
            resumed_at_wake_count: None,
            pending: Pending::Nothing,
        }
    }

    /// Makes it a call of the mediator's own that closes a session to an application.
    pub(crate) fn set_up_close(&mut self, session: u32, app: Uuid) {
        self.set_up(session, optee_proto::msg::Command::CLOSE_SESSION);
        self.completion = Completion::CloseAtTeardown { app, session };
    }

    /// Makes it a call of the mediator's own that names a session and nothing else.
    fn set_up(&mut self, session: u32, command: optee_proto::msg::Command) {
        self.location = MessageLocation::none();
        (self.guest_param_count, self.tee_param_count) = (0, 0);
        self.guest_message.header = Header::default();
        self.guest_message.header.cmd = command.0.into();
        self.guest_message.header.session = session.into();
    }

    /// Makes it a call of the mediator's own that opens a session to an application, for which
    /// one is reserved.
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

    /// Makes it a call of the mediator's own that has OP-TEE forget a buffer.
    pub(crate) fn set_up_unregister(&mut self, cookie: Cookie) {
        self.location = MessageLocation::none();
        self.guest_message.header = Header::default();
        self.guest_message.header.cmd = optee_proto::msg::Command::UNREGISTER_SHM.0.into();
        self.tee_message.params[0] = Param::new(Attr::RMEM_INPUT, 0, 0, cookie.get());
        (self.guest_param_count, self.tee_param_count) = (1, 1);
        self.completion = Completion::Unregister(cookie);
    }

    /// Makes it a call of the mediator's own that asks for another's cancellation.
    pub(crate) fn set_up_cancel(&mut self, session: u32, cancel_id: u32) {
        self.set_up(session, optee_proto::msg::Command::CANCEL);
        self.guest_message.header.cancel_id = cancel_id.into();
    }

    /// The application that it has to do with, once, where OP-TEE may keep a session to that, or an address space for
    /// it, because the call does not end.
    pub(crate) fn take_unsettled_app(&mut self, sessions: &mut Sessions) -> Option<Uuid> {
        match core::mem::replace(&mut self.completion, Completion::Plain) {
            Completion::OpenSession(reserved) => {
                let app = reserved.app();
                // Of what the mediator opens, it is known whether there was one before.
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

    /// Whether it uses the session of this number.
    pub(crate) fn uses_session(&self, session: u32) -> bool {
        self.session == Some(session)
    }

    /// Whether it is the mediator's own, on behalf of a guest that is no more.
    pub(crate) const fn is_internal(&self) -> bool {
        self.location.is_none()
    }

    /// What names it to OP-TEE, where it is something that can be cancelled: session and identifier.
    pub(crate) fn cancellable(&self) -> Option<(u32, u32)> {
        let header = &self.guest_message.header;
        let command = optee_proto::msg::Command(header.cmd.get());
        let is_done = matches!(self.pending, Pending::Release(_));
        let invokes = command == optee_proto::msg::Command::INVOKE && !self.is_internal();
        (invokes && !is_done).then(|| (header.session.get(), header.cancel_id.get()))
    }

    /// For how many milliseconds the guest is to sleep before the call is tried again: one, then twice as many
    /// each time, up to [`MAX_BACKOFF_MS`].
    fn backoff_ms(&self) -> u32 {
        1_u32
            .checked_shl(self.backoff_count)
            .unwrap_or(MAX_BACKOFF_MS)
            .min(MAX_BACKOFF_MS)
    }

    /// For how many milliseconds it sleeps, at OP-TEE's wish and if nobody has counted them yet.
    pub(crate) fn sleeps(&self) -> Option<u32> {
        match &self.pending {
            Pending::Command(request) if !self.has_slept => request.sleep(),
            _ => None,
        }
    }

    /// Whether it waits inside OP-TEE for another call.
    fn waits_in_tee(&self) -> bool {
        matches!(&self.pending, Pending::Command(request) if request.waits())
    }

    /// It goes on now, after OP-TEE has woken somebody `wake_count` times.
    pub(crate) fn note_resume(&mut self, wake_count: u32) {
        self.resumed_at_wake_count = self.waits_in_tee().then_some(wake_count);
    }

    /// Whether it waits for another call and nobody was woken since it last went on, so that it would
    /// only ask again. `wake_count` is how often OP-TEE has woken somebody.
    pub(crate) fn waits_for_wake(&self, wake_count: u32) -> bool {
        self.waits_in_tee() && self.resumed_at_wake_count == Some(wake_count)
    }

    /// Where behind the guest's message the room for RPC messages begins.
    pub(crate) const fn guest_rpc_arg_offset(&self) -> usize {
        optee_proto::msg::size(self.guest_param_count)
    }

    /// Where behind OP-TEE's message the room for RPC messages begins.
    pub(crate) const fn rpc_arg_offset(&self) -> usize {
        optee_proto::msg::size(self.tee_param_count)
    }
}

/// Why a call does not begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BeginError {
    /// By a code in a0.
    Code(Return),
    /// By a result in the message.
    Result(DeniedError),
}

impl From<DeniedError> for BeginError {
    fn from(denied: DeniedError) -> Self {
        Self::Result(denied)
    }
}
