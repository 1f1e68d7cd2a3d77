// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which applications OP-TEE has loaded for the VM, and how many of its address spaces they take.

use super::VmState;
use crate::call::AppLoad;
use crate::denied::DeniedError;
use crate::pseudo_tas::{PseudoTas, is_pseudo_ta};
use crate::sessions::SessionReservation;
use alloc::vec::Vec;
use optee_proto::{TeeResult, Uuid};

/// The most applications that are remembered.
pub(crate) const MAX_APPS: usize = if cfg!(miri) { 3 } else { 64 };

/// An application that OP-TEE has loaded for the VM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct App {
    pub(crate) id: Uuid,
    /// It came for its code, which makes it a user TA: it looks among its pseudo TAs first. What it found among
    /// files is none for certain.
    is_user: bool,
    /// OP-TEE keeps it, and its address space, when no session to it is open.
    keep_alive: bool,
}

/// What is known of applications.
#[derive(Debug)]
pub(crate) struct Apps {
    loaded: Vec<App>,
    /// How often there was one more, or all that this has room for.
    pub(crate) overflow: u32,
    /// The pseudo TAs that this OP-TEE has, as far as the VM has opened them.
    pseudo: PseudoTas,
}

impl Apps {
    /// Nothing yet.
    pub(super) const fn new() -> Self {
        Self {
            loaded: Vec::new(),
            overflow: 0,
            pseudo: PseudoTas::new(),
        }
    }

    /// What outlives the VM: OP-TEE has the same pseudo TAs as before.
    pub(super) const fn inherit(&mut self, old: &Self) {
        self.pseudo = old.pseudo;
    }

    #[inline(never)]
    fn get(&mut self, app: Uuid) -> Option<&mut App> {
        self.loaded.iter_mut().find(|known| known.id == app)
    }

    /// Remembers an application. What does not fit into the list is only counted, and gets the smaller share.
    #[inline(never)]
    fn remember(&mut self, app: Uuid, is_user: bool) {
        if let Some(known) = self.get(app) {
            known.is_user |= is_user;
        } else if self.loaded.len() < MAX_APPS && self.loaded.try_reserve(1).is_ok() {
            self.loaded.push(App {
                id: app,
                is_user,
                keep_alive: false,
            });
        } else {
            self.overflow = self.overflow.saturating_add(1);
        }
    }
}

impl VmState {
    /// OP-TEE comes for the code of an application, so no instance of it has stayed.
    pub(crate) fn note_code_request(&mut self, app: Uuid) {
        if let Some(known) = self.apps.get(app) {
            known.keep_alive = false;
        }
    }

    /// OP-TEE gets the code of an application, so that is a user TA.
    pub(crate) fn note_user_ta(&mut self, app: Uuid) {
        self.apps.remember(app, true);
    }

    /// OP-TEE comes for files while it opens an application, which it may have found there.
    pub(crate) fn note_file_request(&mut self, app: Uuid) {
        self.apps.remember(app, false);
    }

    /// Whether an application had not stayed, by what OP-TEE has come for since [`VmState::take_apps`], when it was opened
    /// once more. Where it has come for no code before, it does not have to.
    pub(crate) fn was_unloaded(&mut self, app: App) -> bool {
        let known = self.apps.get(app.id);
        known.is_some_and(|known| known.is_user || !app.is_user)
    }

    /// Forgets which applications OP-TEE has loaded, and says which they were, and how many more.
    pub(crate) fn take_apps(&mut self) -> (Vec<App>, u32) {
        (
            core::mem::take(&mut self.apps.loaded),
            core::mem::take(&mut self.apps.overflow),
        )
    }

    /// Whether OP-TEE has got the code of an application.
    pub(crate) fn is_user_app(&mut self, app: Uuid) -> bool {
        self.apps.get(app).is_some_and(|known| known.is_user)
    }

    /// Address space numbers of OP-TEE's that the VM takes at most, by what it has open and by what its
    /// earlier lives have left behind. See [`crate::Quotas::address_spaces`].
    pub(crate) fn address_spaces(&self) -> u32 {
        let staying = self
            .apps
            .loaded
            .iter()
            .filter(|known| known.keep_alive)
            .count();
        self.leaked_asids + staying as u32 + self.sessions.address_spaces()
    }

    /// Reserves a session to an application for the guest, within its share of address spaces.
    ///
    /// OP-TEE makes an address space before it looks for code. Only what was opened before, and is no application for
    /// certain, is opened without.
    pub(crate) fn reserve_session(&mut self, app: Uuid) -> Result<SessionReservation, DeniedError> {
        let known = self.apps.get(app).copied();
        let takes_none = known.is_none() && self.apps.pseudo.contains(app);
        // The instance has its number already; and where there is none any more, one new instance can have it.
        let has_one = known.is_some_and(|known| known.keep_alive);
        let most = self.quotas.address_spaces + u32::from(has_one);
        if !takes_none && self.address_spaces() >= most {
            return Err(DeniedError(TeeResult::OUT_OF_MEMORY));
        }
        self.sessions.reserve(app, !takes_none)
    }

    /// A reserved session is open. `app_load` says what OP-TEE came for while it opened it.
    ///
    /// OP-TEE comes for the code of each instance of a user TA that it makes, where it had to before. So a
    /// session to such a one without that is served by an instance that was there: by another session's, or by
    /// one that stays when it has none.
    #[inline(never)]
    pub(crate) fn open_session(
        &mut self,
        id: u32,
        reserved: SessionReservation,
        app_load: AppLoad,
    ) {
        let app = reserved.app();
        let has = self.sessions.has(app);
        if app_load == AppLoad::Files {
            self.note_file_request(app);
        }
        let is_user = self.is_user_app(app);
        let counts = match (self.apps.get(app), app_load) {
            (Some(known), AppLoad::Nothing) => {
                known.keep_alive |= !has;
                false
            }
            (Some(known), AppLoad::Code) => {
                // Another call can have been served by the instance that this one has loaded, and be done first.
                known.keep_alive = false;
                true
            }
            (None, AppLoad::Nothing) if is_pseudo_ta(app) => {
                self.apps.pseudo.insert(app);
                false
            }
            _ => true,
        };
        self.sessions.open(id, reserved, is_user, counts);
    }
}
