// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A call begins: the message is fetched, checked, and built anew for OP-TEE.

use super::{Call, INTAKE_STEP, Pending, Refused, Work};
use crate::addr::Ipa;
use crate::books::{Life, TooMuch};
use crate::denied::Denied;
use crate::host::Host;
use crate::memory::{Buffer, GuestCookie, Intake, Place, Progress, Provenance, Refusal};
use crate::message::{Kind, PageList, USUAL_SIZE, arity};
use crate::{Mediator, rpc};
use alloc::boxed::Box;
use optee_proto::le::U32;
use optee_proto::msg::{self, Attr, Command, Header, Param};
use optee_proto::{FunctionId, Origin, Return, TeeResult, Uuid, smc};
use zerocopy::IntoBytes;

impl From<Refusal> for Refused {
    fn from(why: Refusal) -> Self {
        Self::Result(Denied(match why {
            Refusal::BadAddress => TeeResult::BAD_PARAMETERS,
            Refusal::NoMemory => TeeResult::OUT_OF_MEMORY,
        }))
    }
}

impl From<TooMuch> for Refused {
    fn from(why: TooMuch) -> Self {
        match why {
            // A client waits then until a call of its own has ended, and tries again.
            TooMuch::ForNow => Self::Code(Return::ETHREAD_LIMIT),
            TooMuch::ForGood(denied) => denied.into(),
        }
    }
}

impl Mediator {
    /// One of the three calls that begin with a message.
    pub(crate) fn begin<H: Host>(
        &self,
        host: &H,
        function: FunctionId,
        regs: &[u64; 8],
    ) -> [u64; 4] {
        let mut call = {
            let mut books = self.books.lock();
            if books.life != Life::Live {
                return code(Return::ENOTAVAIL);
            }
            match books.idle.pop() {
                Some(call) => call,
                // Nobody ends whom the guest could wait for.
                None if books.all_are_lost() => return code(Return::ENOTAVAIL),
                None => return code(Return::ETHREAD_LIMIT),
            }
        };
        self.counters.yielding.bump();
        let prepared = self
            .find_message(&mut call, function, regs)
            .and_then(|()| call.fetch(host, || self.offers_notifications()))
            .and_then(|()| self.prepare(&mut call));
        match prepared {
            Ok(()) => self.enter(host, call),
            Err(refused) => self.refuse(host, call, refused),
        }
    }

    /// Where the guest has its message.
    #[inline]
    fn find_message(
        &self,
        call: &mut Call,
        function: FunctionId,
        regs: &[u64; 8],
    ) -> Result<(), Refused> {
        let value = smc::unpair(regs[1], regs[2]);
        call.rpc_room = function != smc::CALL_WITH_ARG;
        if function == smc::CALL_WITH_REGD_ARG {
            self.find_in_buffer(call, GuestCookie(value), regs[3] & 0xffff_ffff)?;
        } else {
            let at = Ipa::new(value);
            if !at.is_page_aligned() {
                return Err(Refused::Code(Return::EBADADDR));
            }
            call.place = Place::page(at);
        }
        Ok(())
    }

    /// The message is at `offset` of a registered buffer.
    fn find_in_buffer(
        &self,
        call: &mut Call,
        guest: GuestCookie,
        offset: u64,
    ) -> Result<(), Refused> {
        let wrong = Refused::Code(Return::EBADADDR);
        let mut books = self.books.lock();
        let (cookie, buffer) = books.registered(guest).map_err(|_| wrong)?;
        if !offset.is_multiple_of(8) {
            return Err(wrong);
        }
        call.place = buffer.place(offset).ok_or(wrong)?;
        buffer.users += 1;
        call.home = Some(cookie);
        Ok(())
    }

    /// Decides what the call may do, and what its parameters are for OP-TEE.
    #[inline]
    fn prepare(&self, call: &mut Call) -> Result<(), Refused> {
        match Command(call.message.header.cmd.get()) {
            Command::INVOKE if call.sent == 0 => self.use_session(call, Command::INVOKE),
            Command::INVOKE => self.translate(call, 0, None),
            command => self.prepare_other(call, command),
        }
    }

    /// The call uses the session that it names, which the guest must have open.
    #[inline]
    fn use_session(&self, call: &mut Call, by: Command) -> Result<(), Refused> {
        let session = call.message.header.session.get();
        call.session = self.books.lock().sessions.begin_use(session, by)?;
        Ok(())
    }

    /// [`Mediator::prepare`] for all commands but INVOKE.
    #[inline(never)]
    fn prepare_other(&self, call: &mut Call, command: Command) -> Result<(), Refused> {
        match command {
            Command::OPEN_SESSION => {
                let [app, client] = [call.message.params[0], call.message.params[1]];
                if [app.attr(), client.attr()] != [Attr::META_VALUE_INPUT; 2] {
                    return Err(Denied(TeeResult::BAD_PARAMETERS).into());
                }
                let uuid = Uuid::from_value(app.a.get(), app.b.get());
                self.config.policy.check_session(uuid, client.c.get())?;
                [call.ours.params[0], call.ours.params[1]] = [app, client];
                self.translate(call, 2, Some(uuid))?;
                call.work = Work::Open(self.books.lock().reserve_session(uuid)?);
            }
            Command::CLOSE_SESSION => {
                let session = call.message.header.session.get();
                self.books.lock().sessions.begin_close(session)?;
                call.work = Work::Leave(session);
            }
            Command::REGISTER_SHM => self.prepare_register(call)?,
            Command::UNREGISTER_SHM => {
                let param = call.message.params[0];
                if param.attr() != Attr::RMEM_INPUT {
                    return Err(Denied(TeeResult::BAD_PARAMETERS).into());
                }
                let guest = GuestCookie(param.c.get());
                let cookie = self.books.lock().begin_unregister(guest)?;
                call.work = Work::Unregister(cookie);
                call.ours.params[0] = Param::new(Attr::RMEM_INPUT, 0, 0, cookie.get());
            }
            Command::CANCEL => self.use_session(call, command)?,
            Command::STOP_ASYNC_NOTIF => call.work = Work::StopNotifications,
            // DO_BOTTOM_HALF names nothing.
            _ => {}
        }
        Ok(())
    }

    /// The parameters from `first` on, those of the application; `app` is whose session is being
    /// opened.
    fn translate(&self, call: &mut Call, first: usize, app: Option<Uuid>) -> Result<(), Refused> {
        let mut memory = false;
        let number = call.message.header.session.get();
        let Call {
            message,
            ours,
            kinds,
            sent,
            uses,
            mapped,
            session,
            ..
        } = call;
        let range = first..*sent;
        let (theirs, ours) = (
            &message.params[range.clone()],
            &mut ours.params[range.clone()],
        );
        let kinds = &mut kinds[range];
        for ((theirs, ours), kind) in theirs.iter().zip(&mut *ours).zip(&mut *kinds) {
            *kind = Kind::of_guest(theirs).map_err(Denied)?;
            *ours = kind.plain(theirs);
            memory |= matches!(kind, Kind::Memory { .. });
        }
        if memory || app.is_none() {
            let mut books = self.books.lock();
            if app.is_none() {
                *session = books.sessions.begin_use(number, Command::INVOKE)?;
            }
            let mut pages = 0_u32;
            for ((theirs, ours), kind) in theirs.iter().zip(ours).zip(kinds) {
                if let Kind::Memory { .. } = kind {
                    let guest = GuestCookie(theirs.c.get());
                    let (cookie, count) = books.borrow(guest, theirs.a.get(), theirs.b.get())?;
                    if !uses.contains(&cookie) {
                        pages = pages.saturating_add(count);
                    }
                    // There is room for all parameters.
                    let _ = uses.push(cookie);
                    ours.c = cookie.get().into();
                }
            }
            books.map(mapped, pages, number, app)?;
        }
        Ok(())
    }

    /// Reserves a buffer; its pages are taken in by [`Mediator::enter`].
    fn prepare_register(&self, call: &mut Call) -> Result<(), Refused> {
        let param = call.message.params[0];
        if param.attr() != Attr::PAGE_LIST {
            return Err(Denied(TeeResult::BAD_PARAMETERS).into());
        }
        let PageList {
            buf_ptr,
            size,
            cookie,
        } = PageList::of(&param).map_err(Denied)?;
        let list = Ipa::new(buf_ptr);
        let offset = list.page_offset();
        let count = Buffer::pages(size, offset).ok_or(Denied(TeeResult::BAD_PARAMETERS))?;
        let cookie =
            self.books
                .lock()
                .reserve(cookie, Provenance::Registered, size, offset, count)?;
        match Intake::new(count, list.page()) {
            Ok(intake) => call.work = Work::Register { cookie, intake },
            Err(refusal) => {
                let mut books = self.books.lock();
                // No page is pinned.
                if let Some((_, release)) = books.remove(cookie) {
                    books.released(release.count);
                }
                return Err(refusal.into());
            }
        }
        Ok(())
    }

    /// Brings a call whose message is checked to OP-TEE, as soon as all pages of the buffer that
    /// comes with it are there, or no other call names the buffer or the session that goes with it.
    pub(crate) fn enter<H: Host>(&self, host: &H, mut call: Box<Call>) -> [u64; 4] {
        if !matches!(call.work, Work::Plain) {
            match self.get_ready(host, &mut call) {
                Ok(Progress::Done) => {}
                Ok(Progress::More) => return self.wait(host, call),
                Err(refused) => return self.refuse(host, call, refused),
            }
        }
        let Call {
            message,
            ours,
            sent,
            work,
            ..
        } = &mut *call;
        let (cmd, session) = match work {
            Work::Refuse { session, .. } => (Command::CLOSE_SESSION, (*session).into()),
            _ => (Command(message.header.cmd.get()), message.header.session),
        };
        let (ret, origin) = match cmd {
            // OP-TEE does these without a word about how it went.
            Command::DO_BOTTOM_HALF | Command::STOP_ASYNC_NOTIF => {
                (TeeResult::SUCCESS, Origin::TEE)
            }
            // Until OP-TEE says otherwise, nothing has succeeded.
            _ => (TeeResult::COMMUNICATION, Origin::COMMS),
        };
        ours.header = Header {
            cmd: cmd.0.into(),
            session,
            pad: U32::ZERO,
            ret: U32::new(ret.0),
            ret_origin: U32::new(origin.0),
            num_params: U32::new(*sent as u32),
            ..message.header
        };
        let size = msg::size(call.sent);
        host.write_shared(&call.shadow, 0, &call.ours.as_bytes()[..size]);
        if call.rpc_room {
            rpc::mark_room(host, &call);
        }
        let (a1, a2) = smc::pair(call.shadow.pa().get());
        let function = call.function();
        let cached = if call.rpc_room { 0 } else { smc::SHM_CACHED };
        let args = [function.get().into(), a1, a2, cached, 0, 0, 0, self.tag()];
        self.run(host, call, args)
    }

    /// Sees to it that all pages of a buffer that comes are there, and that nobody uses a buffer or a session
    /// that goes. Where that is not so yet, the guest runs, and the call waits for that.
    #[inline(never)]
    fn get_ready<H: Host>(&self, host: &H, call: &mut Call) -> Result<Progress, Refused> {
        if let Work::Unregister(cookie) = call.work {
            // OP-TEE panics when a call names a buffer while another has it forgotten: for a moment
            // the name is still there, and no reference is left. So nobody may be on the way.
            let mut books = self.books.lock();
            let named = books.named(cookie) > 0;
            // Who waits for a call that OP-TEE broke waits for ever.
            let for_good = books.lost.iter().any(|lost| lost.uses.contains(&cookie));
            drop(books);
            if for_good {
                return Err(Denied(TeeResult::BUSY).into());
            }
            if named {
                call.pending = Pending::Enter;
                return Ok(Progress::More);
            }
        }
        if let Work::Leave(session) = call.work {
            let mut books = self.books.lock();
            if books.lost.iter().any(|lost| lost.names(session)) {
                return Err(Denied(TeeResult::BUSY).into());
            }
            if !books.sessions.may_close(session) {
                call.pending = Pending::Enter;
                return Ok(Progress::More);
            }
            call.work = Work::Close(session);
        }
        if let Work::Register { cookie, intake } = &mut call.work {
            if intake.step(host, INTAKE_STEP, || self.take_page(host))? == Progress::More {
                call.pending = Pending::Enter;
                return Ok(Progress::More);
            }
            let Param { a, b, .. } = call.message.params[0];
            let offset = Ipa::new(a.get()).page_offset();
            let start = intake.list_start().map_or(0, |pa| pa.get());
            call.ours.params[0] =
                Param::new(Attr::PAGE_LIST, start | offset, b.get(), cookie.get());
        }
        Ok(Progress::Done)
    }

    /// Gives the guest the pCPU back. A call that waits for others asks it to sleep meanwhile, if there is room
    /// for a request: a kernel comes back from an interrupt at once, and would be busy with nothing else.
    #[inline(never)]
    fn wait<H: Host>(&self, host: &H, mut call: Box<Call>) -> [u64; 4] {
        let works = matches!(call.work, Work::Register { .. });
        let function = if !works && rpc::ask_to_sleep(host, &call, call.nap()) {
            call.naps = call.naps.saturating_add(1);
            rpc::Function::CMD
        } else {
            rpc::Function::FOREIGN_INTR
        };
        self.suspend(call, function.a0(), 0)
    }

    /// Tells the guest that its call does not begin, and why.
    #[cold]
    fn refuse<H: Host>(&self, host: &H, call: Box<Call>, refused: Refused) -> [u64; 4] {
        if refused != Refused::Code(Return::ETHREAD_LIMIT) {
            self.counters.denied.bump();
        }
        let answer = match refused {
            Refused::Code(answer) => answer,
            Refused::Result(Denied(result)) => {
                let words = [U32::new(result.0), U32::new(Origin::COMMS.0)];
                match call.place.write(host, msg::RET_OFFSET, words.as_bytes()) {
                    Ok(()) => Return::OK,
                    Err(_) => Return::EBADADDR,
                }
            }
        };
        self.settle(host, call, None, code(answer))
    }
}

impl Call {
    /// Copies the message from the guest, each byte once, and checks its frame.
    #[inline]
    fn fetch<H: Host>(
        &mut self,
        host: &H,
        notifications: impl Fn() -> bool,
    ) -> Result<(), Refused> {
        let wrong = Refused::Code(Return::EBADADDR);
        // Nearly always everything is there at once. Otherwise the header says how much there is.
        let usual = self.place.holds(0, USUAL_SIZE);
        let have = if usual { USUAL_SIZE } else { msg::HEADER_SIZE };
        let bytes = self.message.as_mut_bytes();
        self.place
            .read(host, 0, &mut bytes[..have])
            .map_err(|_| wrong)?;

        let header = &self.message.header;
        let count = header.num_params.get() as usize;
        if count > msg::MAX_PARAMS {
            return Err(wrong);
        }
        let command = Command(header.cmd.get());
        let Some((least, most)) = arity(command, notifications) else {
            return Err(Refused::Code(Return::EBADCMD));
        };
        if !(least..=most).contains(&count) {
            return Err(Denied(TeeResult::BAD_PARAMETERS).into());
        }
        self.params = count;
        let size = msg::size(count);
        if have < size {
            let bytes = self.message.as_mut_bytes();
            self.place
                .read(host, have, &mut bytes[have..size])
                .map_err(|_| wrong)?;
        }
        // A client library passes four parameters, whatever its client passes.
        let nothing = |param: &&Param| param.attr() == Attr::NONE;
        let trailing = self.message.params[..count]
            .iter()
            .rev()
            .take_while(nothing)
            .count();
        self.sent = count - trailing;
        if self.rpc_room && !self.place.holds(size, rpc::ROOM) {
            return Err(wrong);
        }
        Ok(())
    }
}

/// An answer that is a code in a0 and nothing else.
pub(crate) const fn code(answer: Return) -> [u64; 4] {
    [answer.get(), 0, 0, 0]
}
