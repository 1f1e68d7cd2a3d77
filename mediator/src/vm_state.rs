// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The state of one VM: everything that its vCPUs share, behind one lock.
//!
//! The lock is held for look-ups and moves only, never across an SMC, and never while guest memory is copied,
//! pinned or unpinned. The vCPU that runs a call owns it. The state owns idle and suspended calls, and the vCPU
//! that resumes one takes it out.

mod apps;
mod mapping_quota;
mod objects;

pub(crate) use apps::{App, MAX_APPS};
pub(crate) use mapping_quota::MapError;

use crate::call::{Call, MAX_CALLS};
use crate::config::Quotas;
use crate::creation::Creation;
use crate::denied::DeniedError;
use crate::ffa;
use crate::host::SharedPage;
use crate::memory::pin::{PageNumber, Release};
use crate::memory::table::grown;
use crate::memory::{
    Buffer, BufferState, Cookie, GuestCookie, Provenance, RpcBuffer, Space, Table,
};
use crate::sessions::Sessions;
use crate::transport::MemoryNames;
use alloc::boxed::Box;
use alloc::vec::Vec;
use apps::Apps;
use ffa_proto::Handle;
use optee_proto::msg::PAGE_LIST_ENTRIES;
use optee_proto::{TeeResult, Uuid};

/// The phase of a VM in OP-TEE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// OP-TEE does not know the VM.
    Absent,
    /// OP-TEE knows the VM and creates its tables; no call begins.
    Creating,
    /// OP-TEE knows the VM, and its calls are served.
    Live,
    /// The VM is being destroyed; no call begins or resumes.
    Destroying,
}

/// Everything that the vCPUs of a VM share.
#[derive(Debug)]
#[allow(
    clippy::vec_box,
    reason = "calls move from hand to hand; a pointer moves faster"
)]
pub(crate) struct VmState {
    pub(crate) phase: Phase,
    /// Whose names buffers have.
    names: MemoryNames,
    /// Progress of the VM's creation. Taken out during a step.
    pub(crate) creation: Option<Creation>,
    /// Calls that are not in use.
    pub(crate) idle: Vec<Box<Call>>,
    /// Calls that wait for the guest to resume them, by slot.
    pub(crate) suspended: Vec<Option<Box<Call>>>,
    /// Calls in which OP-TEE broke the protocol: they never end, and what they hold stays held.
    pub(crate) poisoned: Vec<Box<Call>>,
    /// Number of suspensions so far, which makes each resume token a new one.
    pub(crate) suspensions: u32,
    pub(crate) buffers: Table<Buffer>,
    /// `None` while a request is in the buffer: the call owns it then.
    pub(crate) rpc_buffers: Table<Option<RpcBuffer>>,
    /// Pages to share with OP-TEE that are not in use.
    pub(crate) spare: Vec<SharedPage>,
    pub(crate) sessions: Sessions,
    /// Pages that OP-TEE has for its requests in internal calls, by name.
    lent: Vec<(u64, SharedPage)>,
    /// Objects of the mediator's to lend over FF-A, by the SPMC's handle.
    lendable: Vec<(Handle, SharedPage)>,
    /// The last name. Cookies of buffers are larger by far.
    last_lent: u64,
    /// Number of times that OP-TEE has woken a call that waits for another one.
    pub(crate) wake_count: u32,
    /// The guest wants notifications.
    pub(crate) notify: bool,
    pub(crate) apps: Apps,
    /// ASIDs that earlier creations of the VM have leaked.
    pub(crate) leaked_asids: u32,
    /// Pages that OP-TEE's core may have mapped; see [`Quotas::mapped_pages`].
    mapped: u32,
    /// Of these, pages that calls in flight hold, which return when those calls end.
    mapped_by_calls: u32,
    pages: u64,
    pages_max: u64,
    buffers_max: u64,
    quotas: Quotas,
}

impl VmState {
    pub(crate) fn new(quotas: Quotas, names: MemoryNames) -> Self {
        Self {
            phase: Phase::Absent,
            names,
            creation: None,
            idle: Vec::new(),
            suspended: Vec::new(),
            poisoned: Vec::new(),
            suspensions: 0,
            buffers: Table::new(Space::Payload, quotas.buffers as usize),
            rpc_buffers: Table::new(Space::Rpc, quotas.rpc_buffers as usize),
            spare: Vec::new(),
            sessions: Sessions::new(quotas.sessions),
            lent: Vec::new(),
            lendable: Vec::new(),
            last_lent: 0,
            wake_count: 0,
            notify: false,
            apps: Apps::new(),
            leaked_asids: 0,
            mapped: 0,
            mapped_by_calls: 0,
            pages: 0,
            pages_max: 0,
            buffers_max: 0,
            quotas,
        }
    }

    /// Returns the most bytes of a heap that the state of a VM takes, where blocks are powers of two: for what
    /// its quotas bound, calls with their page lists, and applications.
    pub(crate) const fn heap_bytes(quotas: &Quotas) -> u64 {
        let calls = if quotas.calls < MAX_CALLS {
            quotas.calls
        } else {
            MAX_CALLS
        } as u64;
        // A buffer's pages have a block of their own, at most twice as large as needed.
        let pages =
            2 * size_of::<PageNumber>() as u64 * (quotas.pages as u64 + 2 * quotas.buffers as u64);
        let lists = 2
            * size_of::<SharedPage>() as u64
            * (quotas.pages as u64 / PAGE_LIST_ENTRIES as u64 + calls);
        Table::<Buffer>::heap_bytes(quotas.buffers)
            + Table::<Option<RpcBuffer>>::heap_bytes(quotas.rpc_buffers)
            + pages
            + lists
            + Sessions::heap_bytes(quotas.sessions)
            + grown::<App>(MAX_APPS as u32)
            + calls * (size_of::<Call>() as u64).next_power_of_two()
            // The four lists of calls, lent pages, and the list of all buffers at teardown.
            + 5 * grown::<(u64, SharedPage)>(calls as u32)
            + grown::<Cookie>(quotas.buffers)
            // Over FF-A, the ranges of memory that is being shared.
            + ffa::SHARE_HEAP_BYTES
    }

    /// Takes over what outlives a creation of the VM: cookies and tokens are never used twice, and maxima stay.
    pub(crate) fn inherit(&mut self, old: &Self) {
        self.suspensions = old.suspensions;
        self.pages_max = old.pages_max;
        self.buffers_max = old.buffers_max;
        self.apps.inherit(&old.apps);
        self.buffers.inherit(&old.buffers);
        self.rpc_buffers.inherit(&old.rpc_buffers);
    }

    /// Returns the number of pages that are pinned or about to be, counted once per buffer: now, and the
    /// maximum so far.
    pub(crate) const fn pages(&self) -> (u64, u64) {
        (self.pages, self.pages_max)
    }

    /// Returns the number of buffers, those being registered or unregistered included: now, and the maximum so
    /// far.
    pub(crate) const fn buffer_counts(&self) -> (u64, u64) {
        (self.buffers.len() as u64, self.buffers_max)
    }

    /// Reserves a buffer of `count` pages. It counts, but no call can use it yet.
    pub(crate) fn reserve(
        &mut self,
        guest: GuestCookie,
        provenance: Provenance,
        size: u64,
        offset: u64,
        count: u32,
    ) -> Result<Cookie, DeniedError> {
        let pages = self.pages + u64::from(count);
        if pages > u64::from(self.quotas.pages) {
            return Err(DeniedError(TeeResult::OUT_OF_MEMORY));
        }
        // OP-TEE maps at once what it has requested.
        let mapped = match provenance {
            Provenance::Registered => self.mapped,
            Provenance::Allocated => self.with_mapped(count)?,
        };
        let buffer = Buffer {
            provenance,
            state: BufferState::Coming,
            size,
            offset,
            users: 0,
            in_flight: 0,
            count,
            handle: Handle::NONE,
            is_told: false,
            pages: Vec::new(),
        };
        let cookie = match (provenance, self.names) {
            (Provenance::Registered, MemoryNames::Guest) => {
                self.buffers.insert_named(guest, buffer)?
            }
            // The guest does not name it, or names it by its cookie.
            _ => self.buffers.insert(guest, buffer)?,
        };
        self.mapped = mapped;
        self.pages = pages;
        self.pages_max = self.pages_max.max(pages);
        self.buffers_max = self.buffers_max.max(self.buffers.len() as u64);
        Ok(cookie)
    }

    /// Makes a reserved buffer usable.
    pub(crate) fn establish(&mut self, cookie: Cookie, pages: Vec<PageNumber>) {
        if let Some((_, buffer)) = self.buffers.get(cookie) {
            buffer.state = BufferState::Live;
            buffer.pages = pages;
        }
    }

    /// Removes a buffer without users. Returns its pages, to be unpinned without the lock. They count until
    /// [`VmState::released`].
    pub(crate) fn remove(&mut self, cookie: Cookie) -> Option<(GuestCookie, Release)> {
        let (guest, buffer) = self.buffers.remove(cookie)?;
        if buffer.provenance == Provenance::Allocated {
            self.mapped -= buffer.count;
        }
        let Buffer { pages, count, .. } = buffer;
        Some((guest, Release { pages, count }))
    }

    /// Notes that the pages of a removed buffer are unpinned.
    pub(crate) fn released(&mut self, count: u32) {
        self.pages -= u64::from(count);
    }

    /// Lets a call use part of a registered buffer. Returns its cookie, OP-TEE's name for it, and its number of pages.
    pub(crate) fn borrow(
        &mut self,
        guest: GuestCookie,
        offset: u64,
        size: u64,
    ) -> Result<(Cookie, u64, u32), DeniedError> {
        let names = self.names;
        let (cookie, buffer) = self.registered(guest)?;
        if !buffer.holds(offset, size) {
            return Err(DeniedError(TeeResult::SECURITY));
        }
        buffer.users += 1;
        buffer.in_flight += 1;
        let name = match names {
            MemoryNames::Guest => cookie.get(),
            MemoryNames::Spmc => buffer.handle.get(),
        };
        Ok((cookie, name, buffer.count))
    }

    /// Ends the in-flight use that began with [`VmState::borrow`].
    pub(crate) fn release_in_flight(&mut self, cookie: Cookie) {
        if let Some((_, buffer)) = self.buffers.get(cookie) {
            buffer.in_flight -= 1;
        }
    }

    /// Ends a call's use of a buffer. Returns the buffer's pages, to be unpinned without the lock, if this was
    /// the last user and OP-TEE and the guest have forgotten the buffer.
    pub(crate) fn give_back(&mut self, cookie: Cookie) -> Option<Release> {
        let (_, buffer) = self.buffers.get(cookie)?;
        buffer.users -= 1;
        if buffer.users == 0 && buffer.state == BufferState::Gone {
            return self.remove(cookie).map(|(_, release)| release);
        }
        None
    }

    /// Returns the live buffer that the guest names by this cookie, the newest of them, or by its handle.
    pub(crate) fn registered(
        &mut self,
        guest: GuestCookie,
    ) -> Result<(Cookie, &mut Buffer), DeniedError> {
        let found = match self.names {
            MemoryNames::Guest => self
                .buffers
                .newest(guest, |buffer| buffer.state == BufferState::Live),
            MemoryNames::Spmc => self.object(guest),
        };
        found.ok_or(DeniedError(TeeResult::BAD_PARAMETERS))
    }

    /// Returns how often calls in flight name a buffer to OP-TEE.
    pub(crate) fn in_flight(&mut self, cookie: Cookie) -> u32 {
        self.buffers
            .get(cookie)
            .map_or(0, |(_, buffer)| buffer.in_flight)
    }

    /// Marks a buffer that OP-TEE is about to be asked to forget. No call can begin to use it any more.
    pub(crate) fn begin_unregister(&mut self, guest: GuestCookie) -> Result<Cookie, DeniedError> {
        let (cookie, buffer) = self.registered(guest)?;
        buffer.state = BufferState::Going;
        Ok(cookie)
    }

    /// Does the same as [`VmState::begin_unregister`] for an internal call. Returns `false` if OP-TEE cannot be
    /// asked to forget the buffer.
    pub(crate) fn begin_internal_unregister(&mut self, cookie: Cookie) -> bool {
        match self.buffers.get(cookie) {
            Some((_, buffer))
                if buffer.state == BufferState::Live
                    && buffer.provenance == Provenance::Registered
                    && buffer.users == 0 =>
            {
                buffer.state = BufferState::Going;
                true
            }
            _ => false,
        }
    }

    /// Returns how many objects OP-TEE may still use: buffers, memory for RPC messages, calls.
    pub(crate) fn held(&self) -> u64 {
        let calls = self.suspended.iter().flatten().count() + self.poisoned.len();
        (self.buffers.len() + self.rpc_buffers.len() + self.lent.len() + calls) as u64
    }

    /// Keeps a call that never ends, because OP-TEE broke the protocol or because its outcome is unknown.
    pub(crate) fn poison(&mut self, call: Box<Call>) {
        self.mapped_by_calls -= call.mapped.all();
        self.poisoned.push(call);
    }

    /// Returns whether no call can begin any more, whichever call ends.
    pub(crate) const fn all_calls_poisoned(&self) -> bool {
        self.poisoned.len() == self.suspended.len()
    }

    /// Returns the number of calls that end some time, suspended or not.
    pub(crate) const fn calls_in_flight(&self) -> usize {
        self.suspended.len() - self.idle.len() - self.poisoned.len()
    }

    /// Poisons the calls that use a session that has been closed. Such calls exist only if the mediator closed
    /// the session at teardown. They have not looked the session up yet, or OP-TEE would have waited for them,
    /// and must not any more.
    pub(crate) fn poison_users(&mut self, session: u32) {
        for slot in 0..self.suspended.len() {
            if let Some(call) = self.suspended[slot].take_if(|call| call.uses_session(session)) {
                self.poison(call);
            }
        }
    }

    /// Takes an application that OP-TEE may have opened, or may not have closed, in a call that does not end.
    /// Returns `None` when no such application is left.
    pub(crate) fn take_unsettled_app(&mut self) -> Option<Uuid> {
        let calls = self
            .suspended
            .iter_mut()
            .flatten()
            .chain(&mut self.poisoned);
        let sessions = &mut self.sessions;
        calls
            .into_iter()
            .find_map(|call| call.take_unsettled_app(sessions))
    }

    /// Takes any call, after OP-TEE has forgotten the VM.
    pub(crate) fn take_call(&mut self) -> Option<Box<Call>> {
        let suspended = || self.suspended.iter_mut().find_map(Option::take);
        let idle = self.idle.pop().or_else(|| self.poisoned.pop());
        idle.or_else(suspended)
    }

    /// Ends an unregistration: OP-TEE has forgotten the buffer, or has not. Returns the buffer's pages if it
    /// has no users left.
    pub(crate) fn end_unregister(&mut self, cookie: Cookie, forgotten: bool) -> Option<Release> {
        let (_, buffer) = self.buffers.get(cookie)?;
        if !forgotten {
            buffer.state = BufferState::Live;
            return None;
        }
        buffer.state = BufferState::Gone;
        if buffer.users == 0 {
            return self.remove(cookie).map(|(_, release)| release);
        }
        self.buffers.forget_name(cookie);
        None
    }

    /// Ends a buffer that OP-TEE had requested and returns. Returns the guest's cookie for it, and its pages,
    /// or `None` if no such buffer exists.
    pub(crate) fn free_allocated(&mut self, cookie: Cookie) -> Option<(GuestCookie, Release)> {
        let (_, buffer) = self.buffers.get(cookie)?;
        if buffer.provenance != Provenance::Allocated || buffer.state != BufferState::Live {
            return None;
        }
        self.remove(cookie)
    }

    /// Returns the guest's cookie for a buffer that OP-TEE names in a request.
    pub(crate) fn guest_cookie_of(&mut self, cookie: u64) -> Option<GuestCookie> {
        if self.names == MemoryNames::Spmc {
            return self.guest_name_of(cookie);
        }
        let (guest, buffer) = self.buffers.get(Cookie::from_tee(cookie)?)?;
        matches!(buffer.state, BufferState::Live | BufferState::Going).then_some(guest)
    }

    /// Lends OP-TEE a page of the mediator. Returns the page's name.
    ///
    /// # Errors
    /// The page, if OP-TEE has enough of them.
    pub(crate) fn lend(&mut self, page: SharedPage) -> Result<u64, SharedPage> {
        if self.lent.len() >= self.suspended.len() || self.lent.try_reserve(1).is_err() {
            return Err(page);
        }
        self.last_lent += 1;
        self.lent.push((self.last_lent, page));
        Ok(self.last_lent)
    }

    /// Takes a lent page that OP-TEE returns.
    pub(crate) fn take_lent(&mut self, name: u64) -> Option<SharedPage> {
        let at = self.lent.iter().position(|(known, _)| *known == name)?;
        Some(self.lent.swap_remove(at).1)
    }

    /// Takes all pages that are lent or can be, after OP-TEE has forgotten the VM.
    pub(crate) fn take_all_lent(&mut self) -> impl Iterator<Item = SharedPage> + use<> {
        let lent = core::mem::take(&mut self.lent).into_iter();
        let lendable = core::mem::take(&mut self.lendable).into_iter();
        let lendable = lendable.map(|(_, page)| page);
        lent.map(|(_, page)| page).chain(lendable)
    }
}

impl Quotas {
    /// Returns the most bytes of the heap that the mediator takes for a VM with these quotas. The heap's blocks
    /// are powers of two.
    pub const fn heap_bytes(&self) -> u64 {
        VmState::heap_bytes(self)
    }
}

#[cfg(test)]
mod tests;
