// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Buffers that are objects of FF-A: the SPMC names them by a handle, and the guest by another one, which the mediator
//! makes of its cookie.

use super::VmState;
use crate::CreateError;
use crate::addr::{PAGE_SIZE, Pa};
use crate::creation::Creation;
use crate::denied::DeniedError;
use crate::ffa::MAX_OBJECTS;
use crate::host::SharedPage;
use crate::memory::pin::PageNumber;
use crate::memory::{Buffer, BufferState, Cookie, GuestCookie, Provenance};
use crate::transport::MemoryNames;
use alloc::vec::Vec;
use ffa_proto::{ErrorCode, Handle};
use optee_proto::TeeResult;

impl VmState {
    /// Begins an object of this many pages, none if that is not known yet. It counts, and nobody can use it.
    pub(crate) fn begin_object(&mut self, count: u32) -> Result<Cookie, DeniedError> {
        let size = u64::from(count) * PAGE_SIZE;
        self.reserve(GuestCookie(0), Provenance::Registered, size, 0, count)
    }

    /// Gives an object that has begun its size.
    pub(crate) fn size_object(&mut self, cookie: Cookie, count: u32) -> Result<(), DeniedError> {
        let pages = self.pages + u64::from(count);
        if pages > u64::from(self.quotas.pages) {
            return Err(DeniedError(TeeResult::OUT_OF_MEMORY));
        }
        let (_, buffer) = self
            .buffers
            .get(cookie)
            .ok_or(DeniedError(TeeResult::BAD_STATE))?;
        buffer.size = u64::from(count) * PAGE_SIZE;
        buffer.count = count;
        self.pages = pages;
        self.pages_max = self.pages_max.max(pages);
        Ok(())
    }

    /// Removes an object that has begun and whose pages are not pinned. One that the SPMC may have stays.
    pub(crate) fn cancel_object(&mut self, cookie: Cookie) {
        let is_begun = |buffer: &Buffer| buffer.state == BufferState::Coming;
        let found = self.buffers.get(cookie);
        if !found.is_some_and(|(_, buffer)| is_begun(buffer)) {
            return;
        }
        if let Some((_, release)) = self.remove(cookie) {
            self.released(release.count);
        }
    }

    /// Makes an object usable that the SPMC knows under `handle`. Returns `false` if the SPMC knows another one under it: then
    /// nobody can use this one, and it stays.
    pub(crate) fn establish_object(
        &mut self,
        cookie: Cookie,
        pages: Vec<PageNumber>,
        handle: Handle,
    ) -> bool {
        if self.knows_handle(handle) {
            self.keep_object(cookie, pages);
            return false;
        }
        if let Some((_, buffer)) = self.buffers.get(cookie) {
            buffer.handle = handle;
            buffer.state = BufferState::Live;
            buffer.pages = pages;
        }
        true
    }

    /// Keeps an object of which it is not known whether the SPMC has it. Nobody can use it.
    pub(crate) fn keep_object(&mut self, cookie: Cookie, pages: Vec<PageNumber>) {
        self.establish(cookie, pages);
        if let Some((_, buffer)) = self.buffers.get(cookie) {
            buffer.state = BufferState::Gone;
        }
    }

    /// Notes that OP-TEE has been told of objects, which it must therefore forget before they end.
    pub(crate) fn tell(&mut self, cookies: &[Cookie]) {
        for &cookie in cookies {
            if let Some((_, buffer)) = self.buffers.get(cookie) {
                buffer.is_told = true;
            }
        }
    }

    /// Returns whether an object has this handle of the SPMC's.
    pub(crate) fn knows_handle(&self, handle: Handle) -> bool {
        self.handles().any(|known| known == handle)
    }

    /// Returns the object that the guest names, if it can name it in calls.
    pub(super) fn object(&mut self, name: GuestCookie) -> Option<(Cookie, &mut Buffer)> {
        let cookie = Cookie::from_handle(Handle::new(name.0))?;
        let (_, buffer) = self.buffers.get(cookie)?;
        let is_usable = buffer.state == BufferState::Live
            && buffer.provenance == Provenance::Registered
            && buffer.handle != Handle::NONE;
        is_usable.then_some((cookie, buffer))
    }

    /// Keeps calls from beginning to use an object, while OP-TEE or the SPMC is asked about its end. Returns the SPMC's handle,
    /// and whether OP-TEE may use the object.
    pub(crate) fn begin_object_end(
        &mut self,
        name: GuestCookie,
    ) -> Result<(Cookie, Handle, bool), ErrorCode> {
        // OP-TEE has what it requested, until it returns it.
        if self.is_allocated_object(name) {
            return Err(ErrorCode::DENIED);
        }
        let (cookie, buffer) = self.object(name).ok_or(ErrorCode::INVALID_PARAMETERS)?;
        if buffer.users > 0 {
            return Err(ErrorCode::DENIED);
        }
        buffer.state = BufferState::Going;
        // The SPMC gives its name to another object as soon as it has reclaimed this one.
        let handle = core::mem::replace(&mut buffer.handle, Handle::NONE);
        Ok((cookie, handle, buffer.is_told))
    }

    /// Makes an object usable again that stays shared. `is_forgotten`: OP-TEE does not use it any more.
    pub(crate) fn object_stays(&mut self, cookie: Cookie, handle: Handle, is_forgotten: bool) {
        if let Some((_, buffer)) = self.buffers.get(cookie) {
            buffer.handle = handle;
            buffer.state = BufferState::Live;
            buffer.is_told &= !is_forgotten;
        }
    }

    fn is_allocated_object(&mut self, name: GuestCookie) -> bool {
        let cookie = Cookie::from_handle(Handle::new(name.0));
        let found = cookie.and_then(|cookie| self.buffers.get(cookie));
        found.is_some_and(|(_, buffer)| {
            buffer.provenance == Provenance::Allocated && buffer.state == BufferState::Live
        })
    }

    /// Gives OP-TEE an object that it has requested. Returns the SPMC's handle and the number of pages.
    pub(crate) fn allocate_object(
        &mut self,
        name: GuestCookie,
        offset: u64,
        wanted: u64,
    ) -> Result<(Handle, u32), DeniedError> {
        let (cookie, buffer) = self
            .object(name)
            .ok_or(DeniedError(TeeResult::BAD_PARAMETERS))?;
        if buffer.users > 0 || !buffer.holds(offset, wanted) {
            return Err(DeniedError(TeeResult::BAD_PARAMETERS));
        }
        let (handle, count) = (buffer.handle, buffer.count);
        // OP-TEE maps at once what it has requested.
        let mapped = self.with_mapped(count)?;
        self.mapped = mapped;
        if let Some((_, buffer)) = self.buffers.get(cookie) {
            buffer.provenance = Provenance::Allocated;
            buffer.is_told = true;
        }
        Ok((handle, count))
    }

    /// Takes an object back that OP-TEE had requested and returns. Returns the guest's name and the number of pages, or `None` if
    /// there is no such object.
    pub(crate) fn return_object(&mut self, handle: Handle) -> Option<(GuestCookie, u32)> {
        let is_it =
            |buffer: &Buffer| buffer.handle == handle && buffer.provenance == Provenance::Allocated;
        let cookie = self.buffers.find(is_it)?;
        let (_, buffer) = self.buffers.get(cookie)?;
        buffer.provenance = Provenance::Registered;
        // OP-TEE has forgotten it before it asked.
        buffer.is_told = false;
        let count = buffer.count;
        self.mapped -= count;
        Some((GuestCookie(cookie.to_handle().get()), count))
    }

    /// Returns the guest's name for the object that OP-TEE names in a request.
    pub(super) fn guest_name_of(&self, handle: u64) -> Option<GuestCookie> {
        let handle = Handle::new(handle);
        let is_it = |buffer: &Buffer| {
            buffer.handle == handle
                && matches!(buffer.state, BufferState::Live | BufferState::Going)
        };
        let cookie = handle.is_usable().then(|| self.buffers.find(is_it))??;
        Some(GuestCookie(cookie.to_handle().get()))
    }

    /// Returns the page of an idle call whose page is no object yet.
    pub(crate) fn next_unshared(&self) -> Option<Pa> {
        let mut unshared = self.idle.iter().filter(|call| call.object == Handle::NONE);
        unshared.next().map(|call| call.shadow.pa())
    }

    /// Notes the SPMC's handle for the page of an idle call.
    pub(crate) fn name_message(&mut self, page: Pa, handle: Handle) {
        let mut idle = self.idle.iter_mut();
        if let Some(call) = idle.find(|call| call.shadow.pa() == page) {
            call.object = handle;
        }
    }

    /// Reserves room for objects to lend.
    pub(crate) fn reserve_lendable(&mut self, count: usize) -> Result<(), CreateError> {
        let reserved = self.lendable.try_reserve_exact(count);
        reserved
            .and_then(|()| self.lent.try_reserve_exact(count))
            .map_err(|_| CreateError::NoMemory)
    }

    /// Returns the number of objects that can be lent.
    pub(crate) const fn lendable_count(&self) -> usize {
        self.lendable.len()
    }

    /// Adds an object that can be lent.
    pub(crate) fn add_lendable(&mut self, handle: Handle, page: SharedPage) {
        self.lendable.push((handle, page));
    }

    /// Takes an object to lend.
    pub(crate) fn take_lendable(&mut self) -> Option<(Handle, SharedPage)> {
        self.lendable.pop()
    }

    /// Notes that OP-TEE has an object of the mediator's.
    pub(crate) fn lend_object(&mut self, handle: Handle, page: SharedPage) {
        self.lent.push((handle.get(), page));
    }

    /// Takes an object of the mediator's back that OP-TEE returns. Returns `false` if it is none.
    pub(crate) fn take_lent_object(&mut self, handle: Handle) -> bool {
        match self.take_lent(handle.get()) {
            Some(page) => {
                self.lendable.push((handle, page));
                true
            }
            None => false,
        }
    }

    /// Returns the handles of all objects that the SPMC has of the VM.
    #[inline(never)]
    pub(crate) fn all_handles(&self) -> heapless::Vec<Handle, { MAX_OBJECTS as usize + 1 }> {
        if self.names == MemoryNames::Guest {
            return heapless::Vec::new();
        }
        // Their number is bounded, so there is room.
        self.handles().filter(|handle| handle.is_usable()).collect()
    }

    /// Returns the handles of all objects, and some that are none.
    fn handles(&self) -> impl Iterator<Item = Handle> {
        let calls = self.idle.iter().chain(self.suspended.iter().flatten());
        let calls = calls.chain(&self.poisoned).map(|call| call.object);
        let lent = self.lent.iter().map(|&(name, _)| Handle::new(name));
        let lendable = self.lendable.iter().map(|&(handle, _)| handle);
        let buffers = self.buffers.objects().map(|buffer| buffer.handle);
        let creation = self.creation.as_ref().and_then(Creation::object);
        calls
            .chain(lent)
            .chain(lendable)
            .chain(buffers)
            .chain(creation)
    }
}
