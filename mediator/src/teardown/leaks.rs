// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What OP-TEE still has when no call is under way any more: sessions, applications, buffers, memory for RPC
//! messages. Each is given back by a call of the mediator's own.

use super::Teardown;
use crate::Mediator;
use crate::host::{Host, Leak};
use crate::memory::Cookie;
use crate::vm_state::App;
use alloc::vec::Vec;
use optee_proto::Uuid;

impl Mediator {
    /// A session cannot be closed, or does not come to be open: OP-TEE may keep an address space for it.
    pub(crate) fn count_leak<H: Host>(&self, host: &H, app: Uuid) {
        self.counters.leaked.bump();
        host.report_leak(Leak::Session, app);
    }

    /// Begins to close a session; `false` where none is open.
    ///
    /// Without a call there is no way to close any. One that cannot be closed is not tried again,
    /// and keeps its call where the budget is used up: so this ends.
    pub(super) fn close_one<H: Host>(&self, host: &H, teardown: &mut Teardown) -> bool {
        let (session, mut call) = {
            let mut state = self.state.lock();
            let Some(call) = state.idle.pop() else {
                return false;
            };
            match state.sessions.pop() {
                Some(session) => (session, call),
                None => {
                    state.idle.push(call);
                    return false;
                }
            }
        };
        call.set_up_close(session.id, session.app);
        self.enter_internal(host, teardown, call);
        true
    }

    /// The applications that OP-TEE has loaded for the VM. Those that were too many for the list
    /// count as kept.
    pub(super) fn loaded_apps(&self) -> Vec<App> {
        let (apps, more) = self.state.lock().take_apps();
        self.counters.kept.add(more.into());
        apps
    }

    /// Opens an application, to see whether OP-TEE keeps it although no session to it is open.
    /// Nothing ends such a one but OP-TEE's own end.
    ///
    /// OP-TEE does not say which they are. But where it asks for the application's code, which it
    /// does not get, it has not kept it; nor where it asks for files, of one whose code it has never asked for.
    pub(super) fn open_once_more<H: Host>(&self, host: &H, teardown: &mut Teardown, app: Uuid) {
        let begun = {
            let mut state = self.state.lock();
            match state.sessions.reserve(app, true) {
                Ok(reserved) => match state.idle.pop() {
                    Some(call) => Some((call, reserved)),
                    None => {
                        state.sessions.not_opened(reserved);
                        None
                    }
                },
                Err(_) => None,
            }
        };
        if let Some((mut call, reserved)) = begun {
            call.set_up_open(reserved);
            self.enter_internal(host, teardown, call);
        }
    }

    /// The application of a session that nobody can close, or of a call that does not end and may have left one.
    pub(super) fn take_leaked_app(&self) -> Option<Uuid> {
        let mut state = self.state.lock();
        match state.sessions.pop() {
            Some(session) => Some(session.app),
            None => state.take_unsettled_app(),
        }
    }

    /// Has OP-TEE forget a registered buffer, if it can be asked.
    pub(super) fn unregister<H: Host>(&self, host: &H, teardown: &mut Teardown, cookie: Cookie) {
        let call = {
            let mut state = self.state.lock();
            if state.begin_internal_unregister(cookie) {
                state.idle.pop()
            } else {
                None
            }
        };
        if let Some(mut call) = call {
            call.set_up_unregister(cookie);
            self.enter_internal(host, teardown, call);
        }
    }
}
