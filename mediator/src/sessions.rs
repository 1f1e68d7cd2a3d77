// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The sessions that a guest has open, and the calls that use them.
//!
//! OP-TEE knows a session's number before the session is open, and reuses a number as soon as its last owner is
//! gone. It frees a session whose opening fails even while another call waits for that session, and stops for
//! all VMs if a call uses one in between (`docs/optee-facts.md`). So a guest's call names only sessions that
//! this guest has open, and no session is closed while a call in flight names it. Such a call need not have
//! looked its session up yet: a guest can have it interrupted right when it enters OP-TEE, and leave it there.

use crate::denied::DeniedError;
use crate::memory::table::grown;
use alloc::vec::Vec;
use optee_proto::msg::Command;
use optee_proto::{TeeResult, Uuid};

/// A session that the guest has open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Session {
    /// OP-TEE's number for it, unique within the VM, except for sessions that are being closed.
    pub(crate) id: u32,
    /// The application.
    pub(crate) app: Uuid,
    /// It belongs to a user TA: OP-TEE's core maps nothing that is passed to it.
    user: bool,
    /// It counts for an ASID. Of the sessions of one instance of an application, one does.
    counts: bool,
    /// Number of calls in flight that name it to OP-TEE, without the one that closes it.
    users: u32,
    stage: SessionStage,
}

/// The state of a session on the way to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum SessionStage {
    /// It can be used.
    Open,
    /// It is closed as soon as no other call names it.
    Leaving,
    /// OP-TEE is being asked to close it. OP-TEE may reuse the number before it answers.
    Closing,
    /// The policy denies it to the guest, and OP-TEE did not close it.
    Withheld,
}

/// A reservation for one more session to an application. [`Sessions::open`], [`Sessions::withhold`] or
/// [`Sessions::not_opened`] settles it.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct SessionReservation {
    app: Uuid,
    /// It counts for an ASID.
    counts: bool,
}

impl SessionReservation {
    /// Returns the application.
    pub(crate) const fn app(&self) -> Uuid {
        self.app
    }

    /// Returns whether OP-TEE may have created an address space for it.
    pub(crate) const fn counts(&self) -> bool {
        self.counts
    }
}

/// The sessions of one VM.
#[derive(Debug)]
pub(crate) struct Sessions {
    known: Vec<Session>,
    /// Number of sessions that are being opened.
    opening: u32,
    /// Of these, the number that may need an ASID.
    opening_apps: u32,
    quota: u32,
}

impl Sessions {
    /// Creates a list of at most `quota` sessions.
    pub(crate) const fn new(quota: u32) -> Self {
        Self {
            known: Vec::new(),
            opening: 0,
            opening_apps: 0,
            quota,
        }
    }

    /// Returns the most bytes of a heap that `quota` sessions take.
    pub(crate) const fn heap_bytes(quota: u32) -> u64 {
        grown::<Session>(quota)
    }

    /// Returns the number of sessions that are open or being closed.
    pub(crate) const fn len(&self) -> usize {
        self.known.len()
    }

    /// Returns how many ASIDs the sessions take at most, those that are being opened included.
    pub(crate) fn address_spaces(&self) -> u32 {
        let open = self.known.iter().filter(|known| known.counts).count();
        self.opening_apps + open as u32
    }

    /// Returns whether the guest has a session with an application, open or about to be closed.
    pub(crate) fn has(&self, app: Uuid) -> bool {
        self.known.iter().any(|known| known.app == app)
    }

    /// Reserves a session to an application. `counts` says that OP-TEE may create an address space for it.
    pub(crate) fn reserve(
        &mut self,
        app: Uuid,
        counts: bool,
    ) -> Result<SessionReservation, DeniedError> {
        let opening = self.opening as usize + 1;
        let wanted = self.known.len() + opening;
        if wanted > self.quota as usize || self.known.try_reserve(opening).is_err() {
            return Err(DeniedError(TeeResult::OUT_OF_MEMORY));
        }
        self.opening += 1;
        self.opening_apps += u32::from(counts);
        Ok(SessionReservation { app, counts })
    }

    /// Records that a reserved session is open, to a user TA if `user`. `counts` says that the instance which
    /// serves it may have an address space of its own.
    pub(crate) fn open(&mut self, id: u32, reserved: SessionReservation, user: bool, counts: bool) {
        self.add(id, reserved, user, counts, SessionStage::Open);
    }

    /// Records that a reserved session is open and denied to the guest, and was not closed. It still counts.
    pub(crate) fn withhold(&mut self, id: u32, reserved: SessionReservation) {
        self.add(id, reserved, false, true, SessionStage::Withheld);
    }

    fn add(
        &mut self,
        id: u32,
        reserved: SessionReservation,
        user: bool,
        counts: bool,
        stage: SessionStage,
    ) {
        let app = reserved.app;
        self.not_opened(reserved);
        self.known.push(Session {
            id,
            app,
            user,
            counts,
            users: 0,
            stage,
        });
    }

    /// Records that a reserved session was not opened.
    pub(crate) fn not_opened(&mut self, SessionReservation { counts, .. }: SessionReservation) {
        self.opening -= 1;
        self.opening_apps -= u32::from(counts);
    }

    /// Returns whether a session is open to a user TA.
    pub(crate) fn is_user(&self, id: u32) -> bool {
        self.at(id, SessionStage::Open)
            .is_some_and(|at| self.known[at].user)
    }

    /// Begins the use of a session by a call that does `command`, until [`Self::leave`]. The guest must have
    /// the session open. A session that awaits its close accepts only a cancellation.
    #[inline]
    pub(crate) fn begin_use(
        &mut self,
        id: u32,
        command: Command,
    ) -> Result<Option<u32>, DeniedError> {
        let may = |known: &&mut Session| {
            known.id == id
                && match known.stage {
                    SessionStage::Open => true,
                    SessionStage::Leaving => command == Command::CANCEL,
                    SessionStage::Closing | SessionStage::Withheld => false,
                }
        };
        if let Some(session) = self.known.iter_mut().find(may) {
            session.users += 1;
            return Ok(Some(id));
        }
        Err(DeniedError(TeeResult::BAD_PARAMETERS))
    }

    /// Ends the use that began with [`Self::begin_use`].
    #[inline]
    pub(crate) fn leave(&mut self, id: u32) {
        // A session that is being closed has no users, so a reused number finds the new session.
        let used = |known: &&mut Session| known.id == id && known.users > 0;
        if let Some(session) = self.known.iter_mut().find(used) {
            session.users -= 1;
        }
    }

    /// Marks a session that is to be closed. No call can begin to use it any more.
    pub(crate) fn begin_close(&mut self, id: u32) -> Result<(), DeniedError> {
        // OP-TEE's result for a session that it does not know.
        let unknown = DeniedError(TeeResult::ITEM_NOT_FOUND);
        let at = self.at(id, SessionStage::Open).ok_or(unknown)?;
        self.known[at].stage = SessionStage::Leaving;
        Ok(())
    }

    /// Returns whether OP-TEE can be asked to close a session now: not while other calls name it.
    pub(crate) fn may_close(&mut self, id: u32) -> bool {
        let Some(at) = self.at(id, SessionStage::Leaving) else {
            return true;
        };
        let session = &mut self.known[at];
        let may = session.users == 0;
        if may {
            session.stage = SessionStage::Closing;
        }
        may
    }

    /// Records that OP-TEE was not asked to close a session after all.
    pub(crate) fn not_closed(&mut self, id: u32) {
        if let Some(at) = self.at(id, SessionStage::Leaving) {
            self.known[at].stage = SessionStage::Open;
        }
    }

    /// Records OP-TEE's answer: a session is closed, or is not.
    pub(crate) fn end_close(&mut self, id: u32, closed: bool) {
        if let Some(at) = self.at(id, SessionStage::Closing) {
            if closed {
                let gone = self.known.swap_remove(at);
                // Other sessions of the same instance keep it alive.
                let heir = |known: &&mut Session| known.app == gone.app && !known.counts;
                if gone.counts
                    && let Some(heir) = self.known.iter_mut().find(heir)
                {
                    heir.counts = true;
                }
            } else {
                self.known[at].stage = SessionStage::Open;
            }
        }
    }

    /// Takes any session, at teardown.
    pub(crate) fn pop(&mut self) -> Option<Session> {
        self.known.pop()
    }

    fn at(&self, id: u32, stage: SessionStage) -> Option<usize> {
        let is_it = |known: &Session| known.id == id && known.stage == stage;
        self.known.iter().position(is_it)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: Uuid = Uuid([0xa1; 16]);
    const PSEUDO: Uuid = Uuid([0x0b; 16]);

    fn opened(sessions: &mut Sessions, id: u32, user: bool) {
        let reserved = sessions.reserve(APP, true).unwrap();
        sessions.open(id, reserved, user, true);
    }

    /// OP-TEE gives the number of a session that it closes to the next one before it has answered.
    #[test]
    fn reused_session_number_is_a_new_session() {
        for closed in [false, true] {
            let mut sessions = Sessions::new(8);
            opened(&mut sessions, 3, false);
            sessions.begin_close(3).unwrap();
            assert!(sessions.may_close(3));
            // No call uses, cancels or closes the session that is being closed.
            for command in [Command::INVOKE, Command::CANCEL] {
                assert!(sessions.begin_use(3, command).is_err());
            }
            assert!(sessions.begin_close(3).is_err());
            opened(&mut sessions, 3, true);
            assert!(sessions.is_user(3));
            assert_eq!(sessions.begin_use(3, Command::INVOKE).unwrap(), Some(3));
            sessions.begin_close(3).unwrap();
            assert!(!sessions.may_close(3));
            // The answer is about the last one, and a use is of the next one.
            sessions.end_close(3, closed);
            assert_eq!(sessions.len(), if closed { 1 } else { 2 });
            assert!(!sessions.may_close(3));
            sessions.leave(3);
            // Ending a use twice does not end the use of another call.
            sessions.leave(3);
            assert!(sessions.may_close(3));
            sessions.end_close(3, true);
            assert_eq!(sessions.len(), if closed { 0 } else { 1 });
        }
    }

    #[test]
    fn session_awaiting_close_can_be_cancelled_and_used_again() {
        let mut sessions = Sessions::new(8);
        opened(&mut sessions, 1, false);
        opened(&mut sessions, 2, true);
        sessions.begin_use(2, Command::INVOKE).unwrap();
        sessions.begin_close(2).unwrap();
        assert!(sessions.begin_use(2, Command::INVOKE).is_err());
        assert_eq!(sessions.begin_use(2, Command::CANCEL).unwrap(), Some(2));
        for may in [false, false] {
            assert_eq!(sessions.may_close(2), may);
            sessions.leave(2);
        }
        // OP-TEE was not asked after all; and what has no such session may go on at once.
        sessions.not_closed(2);
        assert!(sessions.may_close(2) && sessions.may_close(7));
        assert_eq!(sessions.begin_use(2, Command::INVOKE).unwrap(), Some(2));
        assert!(sessions.is_user(2) && !sessions.is_user(1) && !sessions.is_user(7));
    }

    /// The quota counts those that are being opened, and so do address spaces.
    #[test]
    fn sessions_being_opened_count() {
        let mut sessions = Sessions::new(3);
        assert_eq!((sessions.len(), sessions.address_spaces()), (0, 0));
        opened(&mut sessions, 1, true);
        let second = sessions.reserve(APP, true).unwrap();
        let third = sessions.reserve(PSEUDO, false).unwrap();
        assert_eq!((second.app(), second.counts()), (APP, true));
        assert_eq!((third.app(), third.counts()), (PSEUDO, false));
        let refused = Err(DeniedError(TeeResult::OUT_OF_MEMORY));
        assert_eq!(sessions.reserve(APP, true), refused);
        assert_eq!((sessions.len(), sessions.address_spaces()), (1, 2));
        sessions.not_opened(third);
        let third = sessions.reserve(APP, true).unwrap();
        assert_eq!(sessions.address_spaces(), 3);
        sessions.not_opened(third);
        assert_eq!(sessions.address_spaces(), 2);
        sessions.open(2, second, false, false);
        assert_eq!((sessions.len(), sessions.address_spaces()), (2, 1));
        assert!(sessions.has(APP) && !sessions.has(PSEUDO));
        assert!(sessions.pop().is_some());
        assert!(sessions.pop().is_some());
        assert!(sessions.pop().is_none());
    }
}
