// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What OP-TEE still has when no call is in flight any more: sessions, applications, buffers, memory for RPC
//! messages. An internal call releases each.

use super::{EndingHost, Teardown};
use crate::Mediator;
use crate::host::{Host, Leak};
use crate::memory::Cookie;
use crate::vm_state::App;
use alloc::vec::Vec;
use optee_proto::Uuid;

impl Mediator {
    /// Counts and reports a session that cannot be closed, or whose opening does not end: OP-TEE may keep an
    /// address space for it.
    pub(crate) fn count_leak<H: Host>(&self, host: &H, app: Uuid) {
        self.counters.leaked.bump();
        host.report_leak(Leak::Session, app);
    }

    /// Begins to close a session. Returns `false` if none is open.
    ///
    /// Without an idle call no session can be closed. A session that cannot be closed is not tried again, and
    /// keeps its call when the budget is used up. So this ends.
    pub(super) fn close_one<H: EndingHost>(&self, host: &H, teardown: &mut Teardown) -> bool {
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

    /// Returns the applications that OP-TEE has loaded for the VM. Those beyond the list count as kept.
    pub(super) fn loaded_apps(&self) -> Vec<App> {
        let (apps, more) = self.state.lock().take_apps();
        self.counters.kept.add(more.into());
        apps
    }

    /// Opens an application, to find out whether OP-TEE keeps it without an open session. Such an application
    /// stays until the machine restarts.
    ///
    /// OP-TEE does not say which ones these are. But if it requests the application's code, which it does not
    /// get, it has not kept the application. Nor has it if it requests files, for an application whose code it
    /// has never requested.
    pub(super) fn open_once_more<H: EndingHost>(
        &self,
        host: &H,
        teardown: &mut Teardown,
        app: Uuid,
    ) {
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

    /// Takes the application of a session that cannot be closed, or of a call that does not end and may have
    /// left one.
    pub(super) fn take_leaked_app(&self) -> Option<Uuid> {
        let mut state = self.state.lock();
        match state.sessions.pop() {
            Some(session) => Some(session.app),
            None => state.take_unsettled_app(),
        }
    }

    /// Has OP-TEE forget a registered buffer, if possible.
    pub(super) fn unregister<H: EndingHost>(
        &self,
        host: &H,
        teardown: &mut Teardown,
        cookie: Cookie,
    ) {
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
