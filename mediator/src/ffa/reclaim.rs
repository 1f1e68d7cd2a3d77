// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The end of an object: UNREGISTER_SHM and `FFA_MEM_RECLAIM`.
//!
//! The SPMC acts for whoever names a handle, so only those of the VM's own table reach it. A page is unpinned when the SPMC has
//! said that it was reclaimed, and not before.

use super::FfaVm;
use super::share::unpin_all;
use crate::Mediator;
use crate::host::Host;
use crate::memory::{Cookie, GuestCookie};
use ffa_proto::call::{MemReclaim, usual};
use ffa_proto::{AnswerError, ErrorCode, Handle, Registers, answer};
use optee_proto::ffa::{Service, Status, pair};

impl Mediator {
    /// Has OP-TEE end its use of an object of the guest's (UNREGISTER_SHM). The object stays shared.
    pub(super) fn unregister_object<H: Host>(&self, host: &H, ffa: &FfaVm, name: u64) -> Status {
        // OP-TEE logs a line about each handle that it does not use.
        let found = self.state.lock().begin_object_end(GuestCookie(name));
        let (cookie, handle) = match found {
            Ok((cookie, handle, false)) => {
                // OP-TEE logs a line about each object that it does not use.
                self.state.lock().object_stays(cookie, handle, true);
                return Status::OK;
            }
            Ok((cookie, handle, true)) => (cookie, handle),
            Err(ErrorCode::DENIED) => return Status::BUSY,
            Err(_) => {
                self.counters.denied.bump();
                return Status::TEE_BAD_PARAMETERS;
            }
        };
        let [low, high] = pair(handle.get());
        let words = [Service::UNREGISTER_SHM.get(), low, high, 0, 0];
        let status = match self.request(host, ffa, words) {
            Ok([w3, ..]) => Status::from_w(w3),
            Err(_) => Status::BUSY,
        };
        self.state
            .lock()
            .object_stays(cookie, handle, status == Status::OK);
        status
    }

    /// Takes an object of the guest's back from the SPMC, and unpins its pages.
    pub(super) fn reclaim_object<H: Host>(
        &self,
        host: &H,
        ffa: &FfaVm,
        call: &MemReclaim,
    ) -> Result<(), ErrorCode> {
        // Zeroing is for memory that was lent, and nothing is done in slices.
        if !call.flags.is_empty() {
            return Err(ErrorCode::INVALID_PARAMETERS);
        }
        let name = GuestCookie(call.handle.get());
        let found = self.state.lock().begin_object_end(name);
        let (cookie, handle) = match found {
            Ok((cookie, handle, _)) => (cookie, handle),
            Err(code) => return Err(code),
        };
        match self.reclaim(host, ffa, handle) {
            Ok(()) => {
                self.release_object(host, cookie);
                Ok(())
            }
            Err(code) => {
                self.state.lock().object_stays(cookie, handle, false);
                Err(code)
            }
        }
    }

    /// Takes an object back from the SPMC.
    ///
    /// # Errors
    /// The SPMC's code; the object is as it was.
    pub(crate) fn reclaim<H: Host>(
        &self,
        host: &H,
        ffa: &FfaVm,
        handle: Handle,
    ) -> Result<(), ErrorCode> {
        let answer = self.secure(host, usual::reclaim_request(handle));
        if usual::succeeded(&answer) {
            return Ok(());
        }
        not_reclaimed(ffa, answer)
    }

    /// Unpins the pages of an object that the SPMC has given back.
    fn release_object<H: Host>(&self, host: &H, cookie: Cookie) {
        let removed = self.state.lock().remove(cookie);
        if let Some((_, release)) = removed {
            unpin_all(host, &release.pages);
            self.state.lock().released(release.count);
        }
    }
}

/// Returns what an answer says that is not the usual one.
#[cold]
fn not_reclaimed(ffa: &FfaVm, answer: [u64; 8]) -> Result<(), ErrorCode> {
    let read = answer::read_success(&Registers::from_8(answer), ffa.spmc.version);
    read.map_err(|error| match error {
        AnswerError::Refused(code) => code,
        _ => ErrorCode::ABORTED,
    })
}
