// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The first half of a call: a guest's message is fetched, checked, and rebuilt for OP-TEE.

use super::{BeginError, Call, Completion, Pending};
use crate::Mediator;
use crate::denied::DeniedError;
use crate::host::{GuestMemoryError, Host};
use crate::memory::{GuestCookie, ImportError, ImportProgress};
use crate::message::{Kind, USUAL_SIZE, arity};
use crate::transport::MemoryNames;
use crate::vm_state::{MapError, Phase};
use crate::{ffa, rpc};
use alloc::boxed::Box;
use optee_proto::le::U32;
use optee_proto::msg::{self, Attr, Command, Header, Param};
use optee_proto::{Origin, Return, TeeResult, Uuid};
use zerocopy::IntoBytes;

impl From<ImportError> for BeginError {
    fn from(why: ImportError) -> Self {
        Self::Result(DeniedError(match why {
            ImportError::BadAddress => TeeResult::BAD_PARAMETERS,
            ImportError::NoMemory => TeeResult::OUT_OF_MEMORY,
        }))
    }
}

impl From<MapError> for BeginError {
    fn from(why: MapError) -> Self {
        match why {
            // The client waits until a call of its own has ended, and tries again.
            MapError::Temporary => Self::Code(Return::ETHREAD_LIMIT),
            MapError::Permanent(denied) => denied.into(),
        }
    }
}

impl Mediator {
    /// Takes an idle call.
    ///
    /// # Errors
    /// The return code for the guest if the VM is not live, or has no call left.
    #[inline]
    pub(crate) fn take_idle_call(&self) -> Result<Box<Call>, Return> {
        let mut state = self.state.lock();
        if state.phase != Phase::Live {
            return Err(Return::ENOTAVAIL);
        }
        match state.idle.pop() {
            Some(call) => Ok(call),
            // All calls are poisoned, so the guest would wait forever.
            None if state.all_calls_poisoned() => Err(Return::ENOTAVAIL),
            None => Err(Return::ETHREAD_LIMIT),
        }
    }

    /// Fetches the guest's message from where the transport has found it, checks it, and decides what the call
    /// may do.
    #[inline]
    pub(crate) fn prepare_message<H: Host>(
        &self,
        host: &H,
        call: &mut Call,
    ) -> Result<(), BeginError> {
        call.fetch(host, || self.offers_notifications())?;
        self.prepare(call)
    }

    /// Finds the message at `offset` of a registered buffer.
    pub(crate) fn find_in_buffer(
        &self,
        call: &mut Call,
        guest: GuestCookie,
        offset: u64,
    ) -> Result<(), BeginError> {
        let wrong = BeginError::Code(Return::EBADADDR);
        let mut state = self.state.lock();
        let (cookie, buffer) = state.registered(guest).map_err(|_| wrong)?;
        if !offset.is_multiple_of(8) {
            return Err(wrong);
        }
        call.location = buffer.location(offset).ok_or(wrong)?;
        buffer.users += 1;
        call.message_buffer = Some(cookie);
        Ok(())
    }

    /// Decides what the call may do, and translates its parameters for OP-TEE.
    #[inline]
    fn prepare(&self, call: &mut Call) -> Result<(), BeginError> {
        match Command(call.guest_message.header.cmd.get()) {
            Command::INVOKE if call.tee_param_count == 0 => self.use_session(call, Command::INVOKE),
            Command::INVOKE => self.translate(call, 0, None),
            command => self.prepare_other(call, command),
        }
    }

    /// Begins the use of the session that the call names. The guest must have it open.
    #[inline]
    fn use_session(&self, call: &mut Call, by: Command) -> Result<(), BeginError> {
        let session = call.guest_message.header.session.get();
        call.session = self.state.lock().sessions.begin_use(session, by)?;
        Ok(())
    }

    /// Does the same as [`Mediator::prepare`] for all commands but INVOKE.
    #[inline(never)]
    fn prepare_other(&self, call: &mut Call, command: Command) -> Result<(), BeginError> {
        match command {
            Command::OPEN_SESSION => {
                let [app, client] = [call.guest_message.params[0], call.guest_message.params[1]];
                if [app.attr(), client.attr()] != [Attr::META_VALUE_INPUT; 2] {
                    return Err(DeniedError(TeeResult::BAD_PARAMETERS).into());
                }
                let uuid = Uuid::from_value(app.a.get(), app.b.get());
                self.config.policy.check_session(uuid, client.c.get())?;
                [call.tee_message.params[0], call.tee_message.params[1]] = [app, client];
                self.translate(call, 2, Some(uuid))?;
                call.completion = Completion::OpenSession(self.state.lock().reserve_session(uuid)?);
            }
            Command::CLOSE_SESSION => {
                let session = call.guest_message.header.session.get();
                self.state.lock().sessions.begin_close(session)?;
                call.completion = Completion::AwaitClose(session);
            }
            // Over FF-A there are no such messages.
            Command::REGISTER_SHM | Command::UNREGISTER_SHM if self.ffa.is_some() => {
                return Err(BeginError::Code(Return::EBADCMD));
            }
            Command::REGISTER_SHM => self.prepare_register(call)?,
            Command::UNREGISTER_SHM => {
                let param = call.guest_message.params[0];
                if param.attr() != Attr::RMEM_INPUT {
                    return Err(DeniedError(TeeResult::BAD_PARAMETERS).into());
                }
                let guest = GuestCookie(param.c.get());
                let cookie = self.state.lock().begin_unregister(guest)?;
                call.completion = Completion::Unregister(cookie);
                call.tee_message.params[0] = Param::new(Attr::RMEM_INPUT, 0, 0, cookie.get());
            }
            Command::CANCEL => self.use_session(call, command)?,
            Command::STOP_ASYNC_NOTIF => call.completion = Completion::StopNotifications,
            // DO_BOTTOM_HALF names nothing.
            _ => {}
        }
        Ok(())
    }

    /// Translates the application's parameters, from `first` on. `app` is the application of a session that is
    /// being opened.
    fn translate(
        &self,
        call: &mut Call,
        first: usize,
        app: Option<Uuid>,
    ) -> Result<(), BeginError> {
        let names = self.memory_names();
        let mut memory = false;
        let number = call.guest_message.header.session.get();
        let Call {
            guest_message,
            tee_message,
            kinds,
            tee_param_count,
            uses,
            mapped,
            session,
            ..
        } = call;
        let range = first..*tee_param_count;
        let (guest_params, tee_params) = (
            &guest_message.params[range.clone()],
            &mut tee_message.params[range.clone()],
        );
        let kinds = &mut kinds[range];
        for ((guest, tee), kind) in guest_params.iter().zip(&mut *tee_params).zip(&mut *kinds) {
            (*kind, *tee) = match names {
                MemoryNames::Guest => {
                    let kind = Kind::of_guest(guest).map_err(DeniedError)?;
                    (kind, kind.plain(guest))
                }
                MemoryNames::Spmc => {
                    let kind = Kind::of_ffa_guest(guest).map_err(DeniedError)?;
                    (kind, kind.plain_ffa(guest))
                }
            };
            memory |= matches!(kind, Kind::Memory { .. });
        }
        if memory || app.is_none() {
            let mut state = self.state.lock();
            if app.is_none() {
                *session = state.sessions.begin_use(number, Command::INVOKE)?;
            }
            let mut pages = 0_u32;
            for ((guest, tee), kind) in guest_params.iter().zip(tee_params).zip(kinds) {
                if let Kind::Memory { .. } = kind {
                    let name = GuestCookie(guest.c.get());
                    let offset = match names {
                        MemoryNames::Guest => guest.a.get(),
                        MemoryNames::Spmc => ffa::offset(guest)?,
                    };
                    let (cookie, tee_name, count) = state.borrow(name, offset, guest.b.get())?;
                    if !uses.contains(&cookie) {
                        pages = pages.saturating_add(count);
                    }
                    // There is room for all parameters.
                    let _ = uses.push(cookie);
                    tee.c = tee_name.into();
                }
            }
            state.map(mapped, pages, number, app)?;
        }
        Ok(())
    }

    /// Waits until all pages of the buffer that the call registers are pinned, and no other call uses the
    /// buffer or the session that it ends. The guest runs meanwhile.
    #[inline(never)]
    pub(crate) fn get_ready<H: Host>(
        &self,
        host: &H,
        call: &mut Call,
    ) -> Result<ImportProgress, BeginError> {
        if let Completion::Unregister(cookie) = call.completion {
            // OP-TEE panics if a call names a buffer while another call unregisters it: for a moment the cookie
            // is still there, without a reference. So no call in flight may name it.
            let mut state = self.state.lock();
            let is_in_flight = state.in_flight(cookie) > 0;
            // A poisoned call never ends.
            let is_poisoned = state
                .poisoned
                .iter()
                .any(|call| call.uses.contains(&cookie));
            drop(state);
            if is_poisoned {
                return Err(DeniedError(TeeResult::BUSY).into());
            }
            if is_in_flight {
                call.pending = Pending::Enter;
                return Ok(ImportProgress::More);
            }
        }
        if let Completion::AwaitClose(session) = call.completion {
            let mut state = self.state.lock();
            if state.poisoned.iter().any(|call| call.uses_session(session)) {
                return Err(DeniedError(TeeResult::BUSY).into());
            }
            if !state.sessions.may_close(session) {
                call.pending = Pending::Enter;
                return Ok(ImportProgress::More);
            }
            call.completion = Completion::CloseSession(session);
        }
        self.pin_registered(host, call)
    }
}

impl Call {
    /// Copies the message from the guest, each byte once, and checks its frame.
    #[inline]
    fn fetch<H: Host>(
        &mut self,
        host: &H,
        notifications: impl Fn() -> bool,
    ) -> Result<(), BeginError> {
        let wrong = BeginError::Code(Return::EBADADDR);
        // Usually one fetch is enough. Otherwise the header says how much is missing.
        let usual = self.location.holds(0, USUAL_SIZE);
        let have = if usual { USUAL_SIZE } else { msg::HEADER_SIZE };
        let bytes = self.guest_message.as_mut_bytes();
        self.location
            .read(host, 0, &mut bytes[..have])
            .map_err(|_| wrong)?;

        let header = &self.guest_message.header;
        let count = header.num_params.get() as usize;
        if count > msg::MAX_PARAMS {
            return Err(wrong);
        }
        let command = Command(header.cmd.get());
        let Some((least, most)) = arity(command, notifications) else {
            return Err(BeginError::Code(Return::EBADCMD));
        };
        if !(least..=most).contains(&count) {
            return Err(DeniedError(TeeResult::BAD_PARAMETERS).into());
        }
        self.guest_param_count = count;
        let size = msg::size(count);
        if have < size {
            let bytes = self.guest_message.as_mut_bytes();
            self.location
                .read(host, have, &mut bytes[have..size])
                .map_err(|_| wrong)?;
        }
        // A client library passes four parameters, whatever its client passes.
        let nothing = |param: &&Param| param.attr() == Attr::NONE;
        let trailing = self.guest_message.params[..count]
            .iter()
            .rev()
            .take_while(nothing)
            .count();
        self.tee_param_count = count - trailing;
        if self.has_rpc_arg && !self.location.holds(size, rpc::RPC_ARG_SIZE) {
            return Err(wrong);
        }
        Ok(())
    }

    /// Builds OP-TEE's message field by field, and writes it to the shadow page.
    #[inline]
    pub(crate) fn rebuild<H: Host>(&mut self, host: &H) {
        let Self {
            guest_message,
            tee_message,
            tee_param_count,
            completion,
            ..
        } = self;
        let (cmd, session) = match completion {
            Completion::CloseDenied { session, .. } => (Command::CLOSE_SESSION, (*session).into()),
            _ => (
                Command(guest_message.header.cmd.get()),
                guest_message.header.session,
            ),
        };
        let (ret, origin) = match cmd {
            // OP-TEE writes no result for these.
            Command::DO_BOTTOM_HALF | Command::STOP_ASYNC_NOTIF => {
                (TeeResult::SUCCESS, Origin::TEE)
            }
            // Until OP-TEE writes a result, nothing has succeeded.
            _ => (TeeResult::COMMUNICATION, Origin::COMMS),
        };
        tee_message.header = Header {
            cmd: cmd.0.into(),
            session,
            pad: U32::ZERO,
            ret: U32::new(ret.0),
            ret_origin: U32::new(origin.0),
            num_params: U32::new(*tee_param_count as u32),
            ..guest_message.header
        };
        let size = msg::size(self.tee_param_count);
        host.write_shared(&self.shadow, 0, &self.tee_message.as_bytes()[..size]);
        if self.has_rpc_arg {
            rpc::mark_rpc_arg_unused(host, self);
        }
    }

    /// Asks the guest to sleep, by a request behind its message. Returns `false` without room for one.
    pub(crate) fn ask_to_sleep<H: Host>(&mut self, host: &H) -> bool {
        let is_asked = rpc::ask_to_sleep(host, self, self.backoff_ms());
        if is_asked {
            self.backoff_count = self.backoff_count.saturating_add(1);
        }
        is_asked
    }

    /// Writes a result of the mediator's own to the guest's message.
    pub(crate) fn write_result<H: Host>(
        &self,
        host: &H,
        result: TeeResult,
    ) -> Result<(), GuestMemoryError> {
        let words = [U32::new(result.0), U32::new(Origin::COMMS.0)];
        self.location.write(host, msg::RET_OFFSET, words.as_bytes())
    }
}
