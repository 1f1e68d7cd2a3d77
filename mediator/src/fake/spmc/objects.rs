// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Shared memory objects: their handles, whether OP-TEE uses them, and MEM_RECLAIM.

use super::{MAX_OBJECTS, SecureWorld, Spmc, Trap};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use ffa_proto::call::MemReclaim;
use ffa_proto::handle::Allocator;
use ffa_proto::memory::MemoryRange;
use ffa_proto::{EndpointId, ErrorCode, Handle, Registers, answer};
use optee_proto::ffa::Status;

/// An object that a VM has shared.
#[derive(Debug)]
struct Object {
    vm: EndpointId,
    ranges: Vec<MemoryRange>,
    /// Whether OP-TEE has used it since UNREGISTER_SHM, which must come before MEM_RECLAIM then.
    is_registered: bool,
    /// The number of calls and allocations that use it.
    users: usize,
    /// The offset into its first page that they all have.
    internal_offset: u16,
}

impl Object {
    fn bytes(&self) -> u64 {
        self.ranges.iter().map(|range| range.bytes()).sum()
    }
}

/// All objects, by the SPMC's handles.
#[derive(Debug, Default)]
pub struct Objects(BTreeMap<u64, Object>);

impl Objects {
    pub(super) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub(super) fn insert(&mut self, vm: EndpointId, handle: Handle, ranges: Vec<MemoryRange>) {
        let object = Object {
            vm,
            ranges,
            is_registered: false,
            users: 0,
            internal_offset: 0,
        };
        self.0.insert(handle.get(), object);
    }

    /// Returns whether there is an object with this handle.
    pub fn contains(&self, handle: Handle) -> bool {
        self.0.contains_key(&handle.get())
    }

    /// Returns whether OP-TEE uses an object now.
    pub fn is_active(&self, handle: Handle) -> bool {
        let object = self.0.get(&handle.get());
        object.is_some_and(|object| object.users > 0)
    }

    /// Returns the number of objects of a VM's id.
    pub(super) fn count(&self, vm: EndpointId) -> usize {
        self.0.values().filter(|object| object.vm == vm).count()
    }

    /// Returns whether a VM has an object with this handle.
    pub(super) fn is_of(&self, vm: EndpointId, handle: Handle) -> bool {
        let object = self.0.get(&handle.get());
        object.is_some_and(|object| object.vm == vm)
    }

    /// Returns whether UNREGISTER_SHM has something to do.
    pub(super) fn can_unregister(&self, vm: EndpointId, handle: Handle) -> bool {
        let own = self.0.get(&handle.get());
        own.is_some_and(|object| object.vm == vm && object.is_registered && object.users == 0)
    }

    /// Begins a use of an object of the VM's by OP-TEE, and returns the bytes from the offset on. `None` if the VM has no such
    /// object, or OP-TEE uses it with another offset, which is below a page.
    pub fn activate(
        &mut self,
        vm: EndpointId,
        handle: Handle,
        internal_offset: u16,
    ) -> Option<u64> {
        let own = self.0.get_mut(&handle.get());
        let object = own.filter(|object| object.vm == vm && internal_offset < 4096)?;
        if object.users > 0 && object.internal_offset != internal_offset {
            return None;
        }
        object.is_registered = true;
        object.users += 1;
        object.internal_offset = internal_offset;
        object.bytes().checked_sub(internal_offset.into())
    }

    /// Ends one use of an object.
    pub fn deactivate(&mut self, handle: Handle) {
        if let Some(object) = self.0.get_mut(&handle.get()) {
            object.users = object.users.saturating_sub(1);
        }
    }

    /// Has OP-TEE forget that it has used an object. One that the VM does not have is no error.
    pub fn unregister(&mut self, vm: EndpointId, handle: Handle) -> Status {
        let own = self.0.get_mut(&handle.get());
        match own.filter(|object| object.vm == vm) {
            Some(object) if object.users > 0 => Status::BUSY,
            Some(object) => {
                object.is_registered = false;
                Status::OK
            }
            None => Status::OK,
        }
    }

    /// Ends all uses of a VM's objects, which has ended. They stay, and can be reclaimed.
    pub(super) fn forget_uses(&mut self, vm: EndpointId) {
        for object in self.0.values_mut().filter(|object| object.vm == vm) {
            object.is_registered = false;
            object.users = 0;
        }
    }
}

impl Spmc {
    /// Returns the ranges of an object, for checks of what a mediator has shared.
    pub fn ranges(&self, handle: Handle) -> Option<&[MemoryRange]> {
        let object = self.objects.0.get(&handle.get());
        object.map(|object| object.ranges.as_slice())
    }

    /// Returns the objects.
    pub const fn objects(&self) -> &Objects {
        &self.objects
    }

    /// Returns the number of objects of a VM's id.
    pub fn object_count(&self, vm: EndpointId) -> usize {
        self.objects.count(vm)
    }

    /// Returns the handle of a new object: the lowest free index of the VM, or what the descriptor says.
    pub(super) fn new_handle(
        &mut self,
        vm: EndpointId,
        asked: Handle,
    ) -> Result<Handle, ErrorCode> {
        if asked != Handle::NONE {
            if asked.allocator() == Allocator::Spmc {
                return Err(ErrorCode::NO_MEMORY);
            }
            self.step_on(Trap::HypervisorHandle, ErrorCode::INVALID_PARAMETERS)?;
            let is_new = !self.objects.contains(asked);
            return is_new.then_some(asked).ok_or(ErrorCode::INVALID_PARAMETERS);
        }
        let of_index =
            |index: usize| Handle::new(index as u64 | u64::from(vm.get()) << 16 | 1 << 44);
        let mut free = (0..MAX_OBJECTS).map(of_index);
        let is_free = |handle: &Handle| {
            let handle = handle.get();
            !self.objects.contains(Handle::new(handle)) && !self.unfinished.contains_key(&handle)
        };
        match free.find(is_free) {
            Some(handle) => Ok(handle),
            None => {
                self.step_on(Trap::TooManyObjects, ErrorCode::NO_MEMORY)?;
                Err(ErrorCode::NO_MEMORY)
            }
        }
    }

    pub(super) fn reclaim(
        &mut self,
        on_behalf: EndpointId,
        reclaim: &MemReclaim,
        world: &mut dyn SecureWorld,
    ) -> Result<Registers, ErrorCode> {
        if !reclaim.flags.is_empty() {
            return Err(ErrorCode::INVALID_PARAMETERS);
        }
        let handle = reclaim.handle;
        let object = self.objects.0.get(&handle.get());
        let object = object.ok_or(ErrorCode::INVALID_PARAMETERS)?;
        let (vm, is_used) = (object.vm, object.is_registered || object.users > 0);
        self.check_owner(on_behalf, vm)?;
        if is_used {
            return Err(ErrorCode::DENIED);
        }
        // Objects with a handle of the hypervisor's are found for living VMs only.
        let is_lost = handle.allocator() == Allocator::Hypervisor;
        if is_lost && !self.vms.contains_key(&vm) {
            return Err(ErrorCode::INVALID_PARAMETERS);
        }
        self.objects.0.remove(&handle.get());
        world.reclaimed(vm, handle);
        Ok(answer::success())
    }
}
