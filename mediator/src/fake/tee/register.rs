// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Memory that OP-TEE is given: buffers that a guest registers, and the answers to SHM_ALLOC.

use super::{Object, is_shared, partition};
use crate::addr::PAGE_SIZE;
use crate::fake::machine::State;
use crate::fake::ram::Owner;
use crate::smc::COOKIE;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use optee_proto::le::U64;
use optee_proto::msg::{self, Attr, Header, Param};
use zerocopy::IntoBytes;

pub(super) fn take_allocation(
    state: &mut State,
    vm: u16,
    thread: u64,
    (header, params): &(Header, Vec<Param>),
    size: u64,
) -> Option<Vec<u64>> {
    let param = params.first()?;
    if header.ret.get() != 0 || param.b.get() < size {
        return None;
    }
    if state.by_ffa {
        return super::ffa::take_allocation(state, vm, param, size);
    }
    match param.attr() {
        Attr::PAGE_LIST => register(state, vm, param, true),
        // A page of the mediator, lent in an internal call.
        Attr::TMEM_OUTPUT
            if is_shared(state, vm, param.a.get())
                && state.tee.use_of(param.a.get()).is_none()
                && param.b.get() <= PAGE_SIZE =>
        {
            insert(state, vm, param, vec![param.a.get()], true)
        }
        _ => {
            let text = format!("SHM_ALLOC answered by {param:?}");
            super::mixed::violate_in(state, vm, thread, text);
            None
        }
    }
}

/// Reads a page list and registers a buffer.
pub(super) fn register(
    state: &mut State,
    vm: u16,
    param: &Param,
    guarded: bool,
) -> Option<Vec<u64>> {
    let (pointer, size) = (param.a.get(), param.b.get());
    if param.c.get() == COOKIE {
        return register_for_tables(state, vm, param);
    }
    let offset = pointer % PAGE_SIZE;
    let count = (size + offset).div_ceil(PAGE_SIZE);
    let mut list = pointer - offset;
    let mut pages = Vec::new();
    while (pages.len() as u64) < count {
        let at = pages.len() % msg::PAGE_LIST_ENTRIES;
        if at == 0 && !pages.is_empty() {
            let mut link = U64::ZERO;
            state.ram.read(list + PAGE_SIZE - 8, link.as_mut_bytes());
            list = link.get();
        }
        if !is_shared(state, vm, list) || state.tee.use_of(list).is_some() {
            state.violate(format!("page list at {list:#x}"));
            return None;
        }
        let mut page = U64::ZERO;
        state.ram.read(list + at as u64 * 8, page.as_mut_bytes());
        let page = page.get();
        let good = state.ram.owner(page) == Some(Owner::Vm(vm)) && state.ram.pins(page) > 0;
        if !good {
            state.violate(format!(
                "page {page:#x} of a buffer is not pinned memory of VM {vm}"
            ));
        }
        pages.push(page);
    }
    // The bytes after the last entry contain no earlier data.
    let (mut tail, used) = (
        [0; PAGE_SIZE as usize],
        pages.len() % msg::PAGE_LIST_ENTRIES,
    );
    let nothing = [0; PAGE_SIZE as usize];
    if state.ram.read(list, &mut tail) && used != 0 && tail[used * 8..] != nothing[used * 8..] {
        state.violate(format!(
            "page list at {list:#x} is not empty behind its end"
        ));
    }
    insert(state, vm, param, pages, guarded)
}

/// Registers the buffer that creates tables: one page of the mediator, with an endless list.
fn register_for_tables(state: &mut State, vm: u16, param: &Param) -> Option<Vec<u64>> {
    let list = param.a.get();
    let mut words = [U64::ZERO; msg::PAGE_LIST_ENTRIES + 1];
    state.ram.read(list, words.as_mut_bytes());
    let page = words[0].get();
    let same = words[..msg::PAGE_LIST_ENTRIES]
        .iter()
        .all(|word| word.get() == page);
    let good = is_shared(state, vm, list) && is_shared(state, vm, page) && page != list;
    let first = partition(state, vm).outcomes.is_empty();
    if !(same && good && first && words[msg::PAGE_LIST_ENTRIES].get() == list) {
        state.violate(format!("a buffer for tables: {param:?}"));
        return None;
    }
    insert(state, vm, param, vec![page], false)
}

/// Registers a buffer under a cookie that was never used before.
fn insert(
    state: &mut State,
    vm: u16,
    param: &Param,
    pages: Vec<u64>,
    guarded: bool,
) -> Option<Vec<u64>> {
    let (size, cookie) = (param.b.get(), param.c.get());
    if cookie == 0 || partition(state, vm).knows(cookie) {
        state.violate(format!("buffer under the cookie {cookie:#x}"));
    }
    let object = Object {
        pages: pages.clone(),
        size,
        guarded,
    };
    let partition = partition(state, vm);
    if !partition.past.insert(cookie) {
        state.violate(format!("the cookie {cookie:#x} comes back"));
        return None;
    }
    partition.insert(cookie, object);
    Some(pages)
}
