// SPDX-License-Identifier: Apache-2.0 OR MIT
//! OP-TEE's request is fetched, checked, translated, and written to the guest's copy.

use super::{Function, Request, RpcMessage, Source};
use crate::Mediator;
use crate::call::{AppLoad, Call, CallStep, Completion, Pending, ResumeArgs};
use crate::host::Host;
use crate::memory::{Buffer, Cookie, MessageLocation};
use crate::message::Kind;
use crate::stats::RpcKind;
use crate::transport::MemoryNames;
use optee_proto::le::U32;
use optee_proto::msg::{self, Attr, HEADER_SIZE, Header, Param};
use optee_proto::rpc::{Command, MAX_PARAMS};
use optee_proto::{Origin, TeeResult, Uuid};
use zerocopy::IntoBytes;

impl Mediator {
    /// Has the guest execute the request that OP-TEE has written to `source`. Without a source OP-TEE has
    /// broken the protocol.
    pub(crate) fn ask_command<H: Host>(
        &self,
        host: &H,
        call: &mut Call,
        source: Option<Source>,
    ) -> CallStep {
        let Some(source) = source else {
            return CallStep::Poison;
        };
        let mut request = Request {
            source,
            command: Command(0),
            params: [Param::default(); MAX_PARAMS],
            kinds: [Kind::None; MAX_PARAMS],
            count: 0,
        };
        match self.translate_request(host, call, &mut request) {
            Ok(name) => {
                call.pending = Pending::Command(request);
                CallStep::AskGuest(Function::CMD, name)
            }
            Err(result) => {
                request.fail(host, call, result);
                self.return_rpc_buffer(request);
                CallStep::Resume(ResumeArgs::NOTHING)
            }
        }
    }

    /// Returns the memory of a request, for the next one.
    pub(crate) fn return_rpc_buffer(&self, request: Request) {
        if let Source::Buffer(cookie, memory) = request.source {
            let mut state = self.state.lock();
            if let Some((_, buffer)) = state.rpc_buffers.get(cookie) {
                *buffer = Some(memory);
            }
        }
    }

    /// Checks and translates the request. Returns the cookie for the guest.
    ///
    /// # Errors
    /// The result for OP-TEE. For an internal call that is SUCCESS when the request has been executed, and a
    /// cookie is returned only for a call that waits.
    fn translate_request<H: Host>(
        &self,
        host: &H,
        call: &mut Call,
        request: &mut Request,
    ) -> Result<u64, TeeResult> {
        let mut asked = RpcMessage::default();
        {
            let (page, offset) = request.tee_copy(call);
            host.read_shared(page, offset, asked.as_mut_bytes());
        }
        request.command = Command(asked.header.cmd.get());
        self.counters.rpc[RpcKind::of(request.command) as usize].bump();
        if let Some(result) = self.config.policy.refuses(request.command) {
            self.counters.withheld.bump();
            return Err(result);
        }
        request.count = asked.header.num_params.get() as usize;
        if request.count > MAX_PARAMS {
            return Err(TeeResult::BAD_PARAMETERS);
        }
        request.params = asked.params;
        let mut guest_params = [Param::default(); MAX_PARAMS];
        let asked_params = asked.params.iter().take(request.count);
        for ((param, kind), guest) in asked_params.zip(&mut request.kinds).zip(&mut guest_params) {
            (*kind, *guest) = match self.memory_names() {
                MemoryNames::Guest => {
                    let kind = Kind::of(param)?;
                    (kind, kind.plain(param))
                }
                MemoryNames::Spmc => {
                    let kind = Kind::of_ffa(param)?;
                    (kind, kind.plain_ffa(param))
                }
            };
        }
        if request.wakes() {
            let mut state = self.state.lock();
            state.wake_count = state.wake_count.wrapping_add(1);
        }
        if call.location == MessageLocation::none() {
            // Other calls run meanwhile.
            if request.waits() || request.sleep().is_some() {
                return Ok(0);
            }
            return Err(self.answer_internally(host, call, request));
        }
        match request.command {
            Command::SHM_ALLOC => {
                if request.count != 1 || request.params[0].attr() != Attr::VALUE_INPUT {
                    return Err(TeeResult::BAD_PARAMETERS);
                }
                // OP-TEE would map all of it, and panic without room.
                let wanted = request.params[0].b.get();
                let fits = Buffer::pages(wanted, 0)
                    .is_none_or(|pages| self.state.lock().with_mapped(pages).is_ok());
                if !fits {
                    self.counters.denied.bump();
                    return Err(TeeResult::OUT_OF_MEMORY);
                }
                self.free_page_list(host, call);
            }
            Command::SHM_FREE => {
                if request.count != 1 || request.params[0].attr() != Attr::VALUE_INPUT {
                    return Err(TeeResult::BAD_PARAMETERS);
                }
                // Forgotten before the guest is told, since the guest may reuse the cookie at once.
                let name = request.params[0].b.get();
                let guest = match self.memory_names() {
                    MemoryNames::Guest => {
                        let cookie = Cookie::from_tee(name);
                        let freed =
                            cookie.and_then(|cookie| self.state.lock().free_allocated(cookie));
                        let (guest, release) = freed.ok_or(TeeResult::ITEM_NOT_FOUND)?;
                        self.release_asked(host, call, release);
                        self.free_page_list(host, call);
                        guest
                    }
                    MemoryNames::Spmc => self
                        .take_object_back(call, name)
                        .ok_or(TeeResult::ITEM_NOT_FOUND)?,
                };
                guest_params[0].b = guest.0.into();
            }
            Command::LOAD_TA => {
                if let Some(app) = request.requested_code(call) {
                    call.app_load = AppLoad::Code;
                    self.state.lock().note_code_request(app);
                }
                self.translate_buffers(request, &mut guest_params)?;
            }
            Command::FS
            | Command::RPMB
            | Command::RPMB_PROBE_RESET
            | Command::RPMB_PROBE_NEXT
            | Command::RPMB_FRAMES => {
                if call.app_load == AppLoad::Nothing {
                    call.app_load = AppLoad::Files;
                }
                self.translate_buffers(request, &mut guest_params)?;
            }
            _ => self.translate_buffers(request, &mut guest_params)?,
        }
        let message = RpcMessage {
            header: Header {
                cmd: asked.header.cmd,
                ret: U32::new(TeeResult::GENERIC.0),
                ret_origin: U32::new(Origin::TEE.0),
                num_params: asked.header.num_params,
                ..Header::default()
            },
            params: guest_params,
        };
        request
            .write_guest(host, call, &message, request.count)
            .map_err(|_| TeeResult::COMMUNICATION)?;
        Ok(self.guest_cookie(request))
    }

    /// Frees the last page list: OP-TEE requests or returns memory, so it has read that list.
    fn free_page_list<H: Host>(&self, host: &H, call: &mut Call) {
        for page in core::mem::take(&mut call.page_list) {
            self.give_page(host, page);
        }
    }

    /// Replaces OP-TEE's cookies in a request by the guest's.
    fn translate_buffers(
        &self,
        request: &Request,
        guest_params: &mut [Param; MAX_PARAMS],
    ) -> Result<(), TeeResult> {
        let is_memory = |kind: &Kind| matches!(kind, Kind::Memory { .. });
        if !request.kinds.iter().any(is_memory) {
            return Ok(());
        }
        let mut state = self.state.lock();
        for ((param, kind), guest) in request.params.iter().zip(&request.kinds).zip(guest_params) {
            if is_memory(kind) {
                let name = state.guest_cookie_of(param.c.get());
                guest.c = name.ok_or(TeeResult::ITEM_NOT_FOUND)?.0.into();
            }
        }
        Ok(())
    }

    /// Returns the guest's cookie for the memory of the request, or zero if the request is behind the message.
    pub(super) fn guest_cookie(&self, request: &Request) -> u64 {
        match &request.source {
            Source::RpcArg => 0,
            Source::Buffer(cookie, _) => {
                let mut state = self.state.lock();
                state.rpc_buffers.get(*cookie).map_or(0, |(name, _)| name.0)
            }
        }
    }
}

impl Request {
    /// Returns the application whose code OP-TEE requests by LOAD_TA, if the call opens a session to it. The
    /// UUID can also be that of a library.
    pub(super) fn requested_code(&self, call: &Call) -> Option<Uuid> {
        let Param { a, b, .. } = self.params[0];
        let wanted = Uuid::from_value(a.get(), b.get());
        let is_its_own = self.params[0].attr() == Attr::VALUE_INPUT
            && matches!(&call.completion, Completion::OpenSession(reserved) if reserved.app() == wanted);
        is_its_own.then_some(wanted)
    }
}

impl RpcKind {
    /// Returns the kind under which a command is counted.
    pub(crate) const fn of(command: Command) -> Self {
        match command {
            Command::LOAD_TA => Self::LoadTa,
            Command::RPMB
            | Command::RPMB_PROBE_RESET
            | Command::RPMB_PROBE_NEXT
            | Command::RPMB_FRAMES => Self::Rpmb,
            Command::FS => Self::Fs,
            Command::GET_TIME => Self::GetTime,
            Command::NOTIFICATION => Self::Notification,
            Command::SUSPEND => Self::Suspend,
            Command::SHM_ALLOC => Self::ShmAlloc,
            Command::SHM_FREE => Self::ShmFree,
            Command::GPROF => Self::Gprof,
            Command::SOCKET => Self::Socket,
            Command::FTRACE => Self::Ftrace,
            Command::SUPP_PLUGIN => Self::Plugin,
            Command::I2C_TRANSFER => Self::I2c,
            _ => Self::Other,
        }
    }
}

const _: () = assert!(size_of::<RpcMessage>() == msg::size(MAX_PARAMS) && HEADER_SIZE == 32);
