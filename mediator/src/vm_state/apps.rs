// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The applications that OP-TEE has loaded for the VM, and the ASIDs that they take.

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
    /// OP-TEE requested its code, so it is a user TA: OP-TEE searches its pseudo TAs first. An application that
    /// OP-TEE found among files is not known to be one.
    is_user: bool,
    /// OP-TEE keeps the application and its address space when no session to it is open.
    keep_alive: bool,
}

/// What is known of applications.
#[derive(Debug)]
pub(crate) struct Apps {
    loaded: Vec<App>,
    /// Number of applications that did not fit into the list.
    pub(crate) overflow: u32,
    /// The pseudo TAs that this OP-TEE has, as far as the VM has opened them.
    pseudo: PseudoTas,
}

impl Apps {
    /// Returns an empty record.
    pub(super) const fn new() -> Self {
        Self {
            loaded: Vec::new(),
            overflow: 0,
            pseudo: PseudoTas::new(),
        }
    }

    /// Takes over what outlives a creation of the VM: OP-TEE has the same pseudo TAs as before.
    pub(super) const fn inherit(&mut self, old: &Self) {
        self.pseudo = old.pseudo;
    }

    #[inline(never)]
    fn get(&mut self, app: Uuid) -> Option<&mut App> {
        self.loaded.iter_mut().find(|known| known.id == app)
    }

    /// Remembers an application. One that does not fit into the list is only counted.
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
    /// Notes that OP-TEE requests the code of an application, so no instance of it was kept.
    pub(crate) fn note_code_request(&mut self, app: Uuid) {
        if let Some(known) = self.apps.get(app) {
            known.keep_alive = false;
        }
    }

    /// Notes that OP-TEE gets the code of an application, so it is a user TA.
    pub(crate) fn note_user_ta(&mut self, app: Uuid) {
        self.apps.remember(app, true);
    }

    /// Notes that OP-TEE requests files while it opens an application, which it may have found there.
    pub(crate) fn note_file_request(&mut self, app: Uuid) {
        self.apps.remember(app, false);
    }

    /// Returns whether an application was not kept, judged by what OP-TEE has requested since
    /// [`VmState::take_apps`], when the application was opened again. A file request counts only if OP-TEE has
    /// not requested code before.
    pub(crate) fn was_unloaded(&mut self, app: App) -> bool {
        let known = self.apps.get(app.id);
        known.is_some_and(|known| known.is_user || !app.is_user)
    }

    /// Forgets which applications OP-TEE has loaded. Returns them, and the number of those that did not fit.
    pub(crate) fn take_apps(&mut self) -> (Vec<App>, u32) {
        (
            core::mem::take(&mut self.apps.loaded),
            core::mem::take(&mut self.apps.overflow),
        )
    }

    /// Returns whether OP-TEE has got the code of an application.
    pub(crate) fn is_user_app(&mut self, app: Uuid) -> bool {
        self.apps.get(app).is_some_and(|known| known.is_user)
    }

    /// Returns how many ASIDs the VM takes at most, by its open sessions and by its leaks. See
    /// [`crate::Quotas::address_spaces`].
    pub(crate) fn address_spaces(&self) -> u32 {
        let staying = self
            .apps
            .loaded
            .iter()
            .filter(|known| known.keep_alive)
            .count();
        self.leaked_asids + staying as u32 + self.sessions.address_spaces()
    }

    /// Reserves a session to an application for the guest, within its share of ASIDs.
    ///
    /// OP-TEE creates an address space before it looks for code. Only a UUID that was opened before and is
    /// certainly no application needs none.
    pub(crate) fn reserve_session(&mut self, app: Uuid) -> Result<SessionReservation, DeniedError> {
        let known = self.apps.get(app).copied();
        let takes_none = known.is_none() && self.apps.pseudo.contains(app);
        // The instance has its ASID already. If none is left, one new instance can have it.
        let has_one = known.is_some_and(|known| known.keep_alive);
        let most = self.quotas.address_spaces + u32::from(has_one);
        if !takes_none && self.address_spaces() >= most {
            return Err(DeniedError(TeeResult::OUT_OF_MEMORY));
        }
        self.sessions.reserve(app, !takes_none)
    }

    /// Records that a reserved session is open. `app_load` is what OP-TEE requested while it opened the
    /// session.
    ///
    /// OP-TEE requests the code of each instance of a user TA that it creates, if it had to before. So a
    /// session to such a TA without a request is served by an existing instance: one with another session, or
    /// one that is kept without any.
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
                // Another call may have been served by the instance that this call has loaded, and may have
                // ended first.
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
