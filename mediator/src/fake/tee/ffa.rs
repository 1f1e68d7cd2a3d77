// SPDX-License-Identifier: Apache-2.0 OR MIT
//! OP-TEE behind the SPMC: shared objects, and calls whose messages are in them.
//!
//! Memory is named by the SPMC's handles. RPC messages are behind the call's message, and there are no other functions of
//! RPC than commands and interrupts.

use super::thread::{has_room_for, named_memory, resume, run, start};
use super::{Object, Step, is_shared, partition};
use crate::addr::PAGE_SIZE;
use crate::fake::machine::State;
use crate::fake::ram::{Owner, Ram};
use crate::fake::spmc::{Entry, Objects, SecureWorld};
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use ffa_proto::memory::MemoryRange;
use ffa_proto::{EndpointId, Handle};
use optee_proto::TeeResult;
use optee_proto::ffa::{Fmem, Return, Status, Words};
use optee_proto::msg::{self, Attr, Header, Param};
use optee_proto::rpc::{self, Function};

const fn status(status: Status) -> Words {
    [status.to_w(), 0, 0, 0, 0]
}

impl SecureWorld for State {
    fn read(&self, address: u64, bytes: &mut [u8]) {
        self.ram.read_all(address, bytes);
    }

    fn write(&mut self, address: u64, bytes: &[u8]) {
        self.ram.write_all(address, bytes);
    }

    fn is_secure(&self, page: u64) -> bool {
        Ram::is_secure(page)
    }

    fn created(&mut self, vm: EndpointId) {
        self.tee.begin(vm.get());
    }

    fn destroyed(&mut self, vm: EndpointId) {
        self.tee.end(vm.get());
    }

    /// Memory is the VM's and pinned, or the hypervisor's: pages for messages, or its buffers, which OP-TEE maps to make
    /// tables.
    fn shared(&mut self, vm: EndpointId, handle: Handle, ranges: &[MemoryRange]) {
        let vm = vm.get();
        let pages: Vec<u64> = ranges.iter().flat_map(|r| r.page_addresses()).collect();
        let first = pages.first().and_then(|&page| self.ram.owner(page));
        for &page in &pages {
            let owner = self.ram.owner(page);
            let good = match owner {
                Some(Owner::Vm(of)) => of == vm && self.ram.pins(page) > 0,
                Some(Owner::Shared(of)) => of == vm && pages.len() == 1,
                Some(Owner::Exchange) => true,
                None => false,
            };
            if !good || owner != first {
                self.violate(format!(
                    "the page {page:#x} that is shared is not pinned memory of VM {vm}"
                ));
            }
        }
        let object = Object {
            size: pages.len() as u64 * PAGE_SIZE,
            pages,
            guarded: false,
        };
        partition(self, vm).insert(handle.get(), object);
    }

    fn reclaimed(&mut self, vm: EndpointId, handle: Handle) {
        // After the VM's end there is nothing to forget.
        if let Some(partition) = self.tee.partitions.get_mut(&vm.get()) {
            partition.remove(handle.get());
        }
    }

    fn run(&mut self, vm: EndpointId, entry: Entry, objects: &mut Objects) -> Option<Words> {
        core::mem::swap(&mut self.objects, objects);
        let words = match entry {
            Entry::Begin { handle, offset } => begin(self, vm.get(), handle, offset),
            Entry::Resume { thread } => go_on(self, vm.get(), thread),
        };
        core::mem::swap(&mut self.objects, objects);
        Some(words)
    }
}

/// Begins a call. OP-TEE takes a thread first, then the object, which it maps whole, then the message.
fn begin(state: &mut State, vm: u16, handle: Handle, offset: u32) -> Words {
    let Some(thread) = has_room_for(state, vm) else {
        return status(Status::TEE_BUSY);
    };
    let object = partition(state, vm).objects.get(&handle.get()).cloned();
    let used = state.objects.activate(EndpointId::new(vm), handle, 0);
    let (Some(object), Some(_)) = (object, used) else {
        return status(Status::TEE_BAD_PARAMETERS);
    };
    super::thread::map(state, vm, object.pages.len() as u64);
    let offset = u64::from(offset);
    let page = (offset / PAGE_SIZE) as usize;
    let inside = offset + msg::HEADER_SIZE as u64 <= object.size;
    let Some(&page) = object.pages.get(page).filter(|_| inside) else {
        let interrupts = state.tee.table_interrupts;
        let mut steps = VecDeque::from(vec![Step::ForeignInterrupt; interrupts]);
        steps.push_back(Step::End(Status::TEE_BAD_PARAMETERS.to_w().into()));
        start(state, vm, thread, 0, (Header::default(), Vec::new()), steps);
        return go(state, vm, thread, handle);
    };
    let at = page + offset % PAGE_SIZE;
    let message = super::thread::read_message(state, at);
    let size = msg::size(message.1.len()) + msg::size(rpc::MAX_PARAMS);
    let fits = (at % PAGE_SIZE) as usize + size <= PAGE_SIZE as usize && at.is_multiple_of(8);
    if !is_shared(state, vm, page) || !fits {
        state.violate(format!("message at {at:#x}"));
        state.objects.deactivate(handle);
        return status(Status::TEE_BAD_PARAMETERS);
    }
    let threads = &partition(state, vm).threads;
    if threads.values().any(|other| other.message == at) {
        state.violate(format!("the message at {at:#x} is another call's as well"));
    }
    let steps = partition(state, vm).scripts.pop_front().unwrap_or_default();
    let params = message.1.clone();
    start(state, vm, thread, at, message, steps);
    for param in params.iter().filter(|param| named_memory(param)) {
        if let Err(result) = begin_use(state, vm, thread, param) {
            let this = partition(state, vm).threads.get_mut(&thread);
            this.expect("it has begun").result = result;
        }
    }
    go(state, vm, thread, handle)
}

/// Runs a thread that has begun to its first return.
fn go(state: &mut State, vm: u16, thread: u64, handle: Handle) -> Words {
    let this = partition(state, vm).threads.get_mut(&thread);
    this.expect("it has begun").uses.push(handle);
    words(run(state, vm, thread), state)
}

fn go_on(state: &mut State, vm: u16, thread: u32) -> Words {
    let thread = u64::from(thread);
    if !partition(state, vm).threads.contains_key(&thread) {
        return status(Status::TEE_BAD_PARAMETERS);
    }
    resume(state, vm, thread, &[0; 8]);
    words(run(state, vm, thread), state)
}

/// Returns how a call leaves OP-TEE over FF-A.
fn words([a0, a1, a2, thread]: [u64; 4], state: &mut State) -> Words {
    let thread = thread as u32;
    if core::mem::take(&mut state.tee.is_raw) {
        return [a0 as u32, a1 as u32, a2 as u32, 0, thread];
    }
    match a0 {
        0 => Return::Done.to_words(),
        _ if a0 == Function::CMD.a0() => Return::RpcCommand(thread).to_words(),
        _ if a0 == Function::FOREIGN_INTR.a0() => Return::Interrupt(thread).to_words(),
        code => [code as u32, 0, 0, 0, 0],
    }
}

/// Begins the use of memory that a call names.
fn begin_use(state: &mut State, vm: u16, thread: u64, param: &Param) -> Result<(), TeeResult> {
    let fmem = Fmem::read(param);
    if (fmem.handle, fmem.size) == (Fmem::NULL, 0) {
        return Ok(());
    }
    let bad = Err(TeeResult::BAD_PARAMETERS);
    if let Some(text) = fault(state, vm, fmem.handle) {
        state.violate(format!("{text}: {param:?}"));
        return bad;
    }
    let handle = Handle::new(fmem.handle);
    let internal = fmem.internal_offset;
    let Some(size) = state
        .objects
        .activate(EndpointId::new(vm), handle, internal)
    else {
        // Another call may use it with another offset.
        if u64::from(internal) >= PAGE_SIZE {
            state.violate(format!("{param:?} begins behind its first page"));
        }
        return bad;
    };
    let pages = partition(state, vm).objects[&fmem.handle].pages.len() as u64;
    super::thread::map(state, vm, pages);
    let this = partition(state, vm).threads.get_mut(&thread);
    this.expect("it has begun").uses.push(handle);
    if fmem
        .offset
        .checked_add(fmem.size)
        .is_none_or(|end| end > size)
    {
        state.violate(format!("{param:?} is not inside its buffer"));
        return bad;
    }
    Ok(())
}

/// Returns what is wrong with a handle in a message, if it is not of memory that the guest has shared.
fn fault(state: &mut State, vm: u16, handle: u64) -> Option<String> {
    let object = partition(state, vm).objects.get(&handle);
    let Some(&page) = object.and_then(|object| object.pages.first()) else {
        return Some(String::from("OP-TEE prints a line about a handle"));
    };
    match state.ram.owner(page) {
        Some(Owner::Vm(_)) => None,
        _ => Some(String::from("memory of the hypervisor")),
    }
}

/// Takes the memory with which SHM_ALLOC was answered: the guest's, or a page that the mediator lends in an internal call.
pub(super) fn take_allocation(
    state: &mut State,
    vm: u16,
    param: &Param,
    size: u64,
) -> Option<Vec<u64>> {
    let fmem = Fmem::read(param);
    let object = partition(state, vm).objects.get(&fmem.handle).cloned();
    let lent = object.as_ref().is_some_and(|object| {
        matches!(object.pages[..], [page] if is_shared(state, vm, page))
            && !state.objects.is_active(Handle::new(fmem.handle))
    });
    let wrong = if lent {
        None
    } else {
        fault(state, vm, fmem.handle)
    };
    let twice = partition(state, vm).allocated.contains(&fmem.handle);
    if param.attr() != Attr::RMEM_OUTPUT || wrong.is_some() || twice {
        state.violate(format!("SHM_ALLOC answered by {param:?}"));
        return None;
    }
    let handle = Handle::new(fmem.handle);
    let internal = fmem.internal_offset;
    let bytes = state
        .objects
        .activate(EndpointId::new(vm), handle, internal)?;
    if bytes < size {
        state.violate(format!("SHM_ALLOC of {size} answered by {bytes}"));
        state.objects.deactivate(handle);
        return None;
    }
    partition(state, vm).allocated.insert(fmem.handle);
    object.map(|object| object.pages)
}

/// Gives up memory that was allocated, before SHM_FREE.
pub(super) fn free(state: &mut State, vm: u16, handle: u64) {
    let was_allocated = partition(state, vm).allocated.remove(&handle);
    if was_allocated {
        let handle = Handle::new(handle);
        state.objects.deactivate(handle);
        state.objects.unregister(EndpointId::new(vm), handle);
    }
}

/// Ends the uses of a thread that ends.
pub(super) fn end_uses(state: &mut State, uses: &[Handle]) {
    for &handle in uses {
        state.objects.deactivate(handle);
    }
}
