// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A thread of OP-TEE: begins, does its steps, sends requests, resumes, ends.

use super::mixed::{mix_up, violate_in};
use super::register::{register, take_allocation};
use super::{Outcome, Partition, Step, Thread, is_shared, partition};
use crate::addr::PAGE_SIZE;
use crate::fake::machine::State;
use crate::smc::COOKIE;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use optee_proto::le::U32;
use optee_proto::msg::{self, Attr, Command, Header, Param};
use optee_proto::rpc::{self, Function};
use optee_proto::{FunctionId, Return, TeeResult, smc as id};
use zerocopy::{FromBytes, IntoBytes};

pub(super) fn read_message(state: &State, at: u64) -> (Header, Vec<Param>) {
    let mut bytes = [0; PAGE_SIZE as usize];
    let room = (PAGE_SIZE - at % PAGE_SIZE) as usize;
    state.ram.read(at, &mut bytes[..room]);
    let (header, rest) = Header::read_from_prefix(&bytes).expect("a page");
    let count = (header.num_params.get() as usize).min(6);
    let params = rest.chunks_exact(msg::PARAM_SIZE).take(count);
    (
        header,
        params
            .map(|p| Param::read_from_bytes(p).expect("its size"))
            .collect(),
    )
}

pub(super) fn begin(state: &mut State, vm: u16, function: FunctionId, args: &[u64; 8]) -> [u64; 4] {
    let message = id::unpair(args[1], args[2]);
    if !is_shared(state, vm, message) {
        state.violate(format!("message at {message:#x}"));
        return [Return::EBADADDR.get(), 0, 0, 0];
    }
    if let Some(text) = state.tee.use_of(message) {
        state.violate(text);
        return [Return::EBADADDR.get(), 0, 0, 0];
    }
    let interrupts = state.tee.table_interrupts;
    let (header, params) = read_message(state, message);
    let threads = &partition(state, vm).threads;
    if threads.values().any(|other| other.message == message) {
        state.violate(format!(
            "the message page {message:#x} is another call's as well"
        ));
        return [Return::EBADADDR.get(), 0, 0, 0];
    }
    let Some(thread) = has_room_for(state, vm) else {
        return [Return::ETHREAD_LIMIT.get(), 0, 0, 0];
    };
    let steps = if is_for_tables(&params) {
        VecDeque::from(vec![Step::ForeignInterrupt; interrupts])
    } else {
        partition(state, vm).scripts.pop_front().unwrap_or_default()
    };
    start(state, vm, thread, message, (header, params), steps);
    if function != id::CALL_WITH_RPC_ARG {
        let this = partition(state, vm).threads.get_mut(&thread);
        this.expect("it has begun").room = None;
    }
    run(state, vm, thread)
}

/// Returns the number of a free thread, if there is one for the VM.
pub(super) fn has_room_for(state: &mut State, vm: u16) -> Option<u64> {
    let limit = state.tee.threads as u64;
    let threads = &partition(state, vm).threads;
    (0..limit).find(|thread| !threads.contains_key(thread))
}

/// Begins a thread. There is room for RPC messages behind its message.
pub(super) fn start(
    state: &mut State,
    vm: u16,
    thread: u64,
    message: u64,
    (header, params): (Header, Vec<Param>),
    steps: VecDeque<Step>,
) {
    let partition = partition(state, vm);
    let this = Thread {
        steps,
        message,
        room: Some(message + msg::size(params.len()) as u64),
        use_room: true,
        waiting: None,
        asked: None,
        allocating: false,
        is_resumed: false,
        unmapping: None,
        session: partition.named_by(&header),
        result: TeeResult::SUCCESS,
        cookies: Vec::new(),
        uses: Vec::new(),
        outcome: Outcome {
            header,
            params,
            replies: Vec::new(),
            allocated: Vec::new(),
        },
    };
    partition.threads.insert(thread, this);
}

/// Ends a thread, if there is one.
fn end(state: &mut State, vm: u16, thread: u64) -> Option<Thread> {
    let this = partition(state, vm).threads.remove(&thread)?;
    super::ffa::end_uses(state, &this.uses);
    Some(this)
}

/// Returns whether a parameter of a message names memory.
pub(super) fn named_memory(param: &Param) -> bool {
    matches!(param.attr().0, 5..=7)
}

/// Returns whether a call is one of those that create tables. They are in no script.
fn is_for_tables(params: &[Param]) -> bool {
    matches!(params, [param] if param.c.get() == COOKIE)
}

/// Begins a call whose message is said to be in a buffer. Only the mediator makes one, before other calls, so
/// that the buffer is mapped. There is no message.
pub(super) fn begin_in_buffer(state: &mut State, vm: u16, args: &[u64; 8]) -> [u64; 4] {
    let cookie = id::unpair(args[1], args[2]);
    let partition = partition(state, vm);
    let known = partition.objects.get(&cookie).map(|object| object.size);
    let first = partition.threads.is_empty() && partition.outcomes.is_empty();
    match known {
        Some(size) if first && cookie == COOKIE && !args[3].is_multiple_of(8) => {
            map(state, vm, size.div_ceil(PAGE_SIZE));
        }
        _ => state.violate(format!("a message in the buffer {cookie:#x}")),
    }
    [Return::EBADADDR.get(), 0, 0, 0]
}

/// Maps pages of a VM. The real OP-TEE stops for all VMs without memory for a table.
pub(super) fn map(state: &mut State, vm: u16, pages: u64) {
    let partition = partition(state, vm);
    if pages > partition.tables && partition.is_full {
        state.violate(format!(
            "OP-TEE panics: no table for a VM of which it maps {pages} pages"
        ));
        return;
    }
    partition.tables = partition.tables.max(pages);
}

/// Takes the answer to what a thread waited for.
pub(super) fn resume(state: &mut State, vm: u16, thread: u64, args: &[u64; 8]) {
    let this = partition(state, vm)
        .threads
        .get_mut(&thread)
        .expect("checked before");
    let step = this.waiting.take();
    this.unmapping = None;
    this.is_resumed = true;
    if let Some(session) = this.session {
        // The real one may find another session under the number, or stop.
        if !partition(state, vm).sessions.contains(&session) {
            let text = format!("a call goes on whose session {session} was closed");
            violate_in(state, vm, thread, text);
        }
    }
    let this = partition(state, vm)
        .threads
        .get_mut(&thread)
        .expect("checked before");
    if this.allocating {
        this.allocating = false;
        let (page, cookie) = (id::unpair(args[1], args[2]), id::unpair(args[4], args[5]));
        if page == 0 {
            // Out of memory: the command is given up.
            return;
        }
        if cookie == 0 || partition(state, vm).knows(cookie) {
            state.violate(format!("RPC memory under the cookie {cookie:#x}"));
        }
        if let Some(text) = state.tee.use_of(page) {
            state.violate(text);
        }
        if is_shared(state, vm, page) {
            let partition = partition(state, vm);
            partition.rpc.insert(thread, (cookie, page));
            if let Some(step) = step {
                let this = partition.threads.get_mut(&thread).expect("checked before");
                this.steps.push_front(step);
            }
        } else {
            state.violate(format!("RPC memory at {page:#x}"));
        }
        return;
    }
    let Some(step) = step else { return };
    let at = rpc_message(partition(state, vm), thread);
    let Some(at) = at else { return };
    let reply = read_message(state, at);
    let this = partition(state, vm)
        .threads
        .get_mut(&thread)
        .expect("checked before");
    if let Some(asked) = this.asked.take()
        && let Some(text) = super::reply::fault(&asked, &reply)
    {
        violate_in(state, vm, thread, text);
    }
    match step {
        Step::ShmAlloc(_, size) | Step::ShmAllocInterrupted(_, size) => {
            let this = partition(state, vm)
                .threads
                .get_mut(&thread)
                .expect("checked before");
            this.steps.push_front(Step::TakeAllocation(size));
            if let Step::ShmAllocInterrupted(..) = step {
                this.steps.push_front(Step::ForeignInterrupt);
            }
        }
        Step::Command(..) | Step::ShmFree(..) | Step::RawCommand(_) => {
            let this = partition(state, vm)
                .threads
                .get_mut(&thread)
                .expect("checked before");
            this.outcome.replies.push(reply);
        }
        _ => {}
    }
}

/// Returns where a thread's RPC messages are.
fn rpc_message(partition: &Partition, thread: u64) -> Option<u64> {
    let this = partition.threads.get(&thread)?;
    let room = this.room.filter(|_| this.use_room);
    room.or_else(|| partition.rpc.get(&thread).map(|&(_, page)| page))
}

/// Runs a thread's steps, until one sends a request or all are done.
pub(super) fn run(state: &mut State, vm: u16, thread: u64) -> [u64; 4] {
    let by_ffa = state.by_ffa;
    loop {
        let Some(this) = partition(state, vm).threads.get_mut(&thread) else {
            return [Return::ERESUME.get(), 0, 0, 0];
        };
        let message = this.message;
        let Some(step) = this.steps.pop_front() else {
            break;
        };
        match step {
            Step::ForeignInterrupt => return [Function::FOREIGN_INTR.a0(), 0, 0, thread],
            Step::Result(result) => this.result = result,
            // Over FF-A there is no other.
            Step::UseRoom(on) => this.use_room = on || by_ffa,
            Step::End(code) => {
                end(state, vm, thread);
                return [code, 0xdead, 0xdead, 0xdead];
            }
            Step::Scribble(byte) => {
                let _ = state.ram.write(message, &[byte; PAGE_SIZE as usize]);
            }
            Step::Raw([a0, a1, a2], claimed) => {
                state.tee.is_raw = true;
                let claimed = claimed.unwrap_or(thread);
                mix_up(state, vm, thread, claimed, a0);
                return [a0, a1, a2, claimed];
            }
            Step::TakeAllocation(size) => {
                let at = rpc_message(partition(state, vm), thread).expect("it asked there");
                let reply = read_message(state, at);
                let got = take_allocation(state, vm, thread, &reply, size);
                let this = partition(state, vm)
                    .threads
                    .get_mut(&thread)
                    .expect("checked before");
                this.cookies
                    .push(got.as_ref().map_or(0, |_| reply.1[0].c.get()));
                this.outcome.allocated.push(got);
                this.outcome.replies.push(reply);
            }
            Step::FreeRpc => {
                if let Some(cookie) = free_rpc(partition(state, vm), thread) {
                    let (a1, a2) = id::pair(cookie);
                    return [Function::FREE.a0(), a1, a2, thread];
                }
            }
            Step::WaitFor(value) if partition(state, vm).sent.contains(&value) => {}
            Step::WaitFor(value) => {
                let waits = Step::WaitFor(value);
                if let Some(this) = partition(state, vm).threads.get_mut(&thread) {
                    this.steps.push_front(waits);
                }
                return notification(state, vm, thread, rpc::NOTIFICATION_WAIT, value);
            }
            Step::Send(value) => {
                partition(state, vm).sent.insert(value);
                return notification(state, vm, thread, rpc::NOTIFICATION_SEND, value);
            }
            step => return command(state, vm, thread, step),
        }
    }
    finish(state, vm, thread)
}

/// Sends NOTIFICATION.
fn notification(state: &mut State, vm: u16, thread: u64, what: u64, value: u32) -> [u64; 4] {
    let param = Param::new(Attr::VALUE_INPUT, what, value.into(), 0);
    let step = Step::Command(rpc::Command::NOTIFICATION, Vec::from([param]));
    command(state, vm, thread, step)
}

/// Sends a command, or requests memory for it.
fn command(state: &mut State, vm: u16, thread: u64, step: Step) -> [u64; 4] {
    if let Step::ShmFree(_, number) = step {
        free_allocated(state, vm, thread, number);
    }
    let partition = partition(state, vm);
    let Some(at) = rpc_message(partition, thread) else {
        let this = partition.threads.get_mut(&thread).expect("checked before");
        this.allocating = true;
        this.waiting = Some(step);
        return [
            Function::ALLOC.a0(),
            msg::size(rpc::MAX_PARAMS) as u64,
            0,
            thread,
        ];
    };
    let cookie = partition.rpc.get(&thread).map_or(0, |&(cookie, _)| cookie);
    let cookies = &partition.threads[&thread].cookies;
    let (kind, params) = match &step {
        Step::Command(kind, params) => {
            let mut params = params.clone();
            for param in &mut params {
                if matches!(param.attr().0, 5..=7) {
                    let number = param.c.get() as usize;
                    let known = cookies.get(number).copied();
                    param.c = known.unwrap_or(param.c.get()).into();
                }
            }
            (*kind, params)
        }
        Step::ShmAlloc(kind, size) | Step::ShmAllocInterrupted(kind, size) => {
            let param = Param::new(Attr::VALUE_INPUT, *kind, *size, 8);
            (rpc::Command::SHM_ALLOC, Vec::from([param]))
        }
        Step::ShmFree(kind, number) => {
            let cookie = cookies.get(*number).copied().unwrap_or(0);
            let param = Param::new(Attr::VALUE_INPUT, *kind, cookie, 0);
            (rpc::Command::SHM_FREE, Vec::from([param]))
        }
        _ => (rpc::Command(0), Vec::new()),
    };
    let header = Header {
        cmd: U32::new(kind.0),
        ret: U32::new(TeeResult::GENERIC.0),
        num_params: U32::new(params.len() as u32),
        ..Header::default()
    };
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(params.as_bytes());
    if let Step::RawCommand(raw) = &step {
        bytes.clone_from(raw);
    }
    let this = partition.threads.get_mut(&thread).expect("checked before");
    this.waiting = Some(step);
    state.ram.write(at, &bytes);
    let asked = read_message(state, at);
    let this = super::partition(state, vm)
        .threads
        .get_mut(&thread)
        .expect("checked before");
    this.asked = Some(asked);
    let (a1, a2) = id::pair(cookie);
    [Function::CMD.a0(), a1, a2, thread]
}

/// Forgets memory that the thread has allocated, before SHM_FREE.
fn free_allocated(state: &mut State, vm: u16, thread: u64, number: usize) {
    let this = partition(state, vm).threads.get(&thread);
    let cookie = this.and_then(|this| this.cookies.get(number).copied());
    let cookie = cookie.unwrap_or(0);
    if state.by_ffa {
        super::ffa::free(state, vm, cookie);
    } else {
        partition(state, vm).remove(cookie);
    }
}

/// Forgets a thread's memory for RPC messages, which stays mapped until FREE is answered. Returns its cookie.
fn free_rpc(partition: &mut Partition, thread: u64) -> Option<u64> {
    let (cookie, page) = partition.rpc.remove(&thread)?;
    partition.threads.get_mut(&thread)?.unmapping = Some(page);
    Some(cookie)
}

/// Does what the call's message says, and ends the call.
fn finish(state: &mut State, vm: u16, thread: u64) -> [u64; 4] {
    let keep = partition(state, vm).cache;
    if !keep && let Some(cookie) = free_rpc(partition(state, vm), thread) {
        let (a1, a2) = id::pair(cookie);
        return [Function::FREE.a0(), a1, a2, thread];
    }
    let done = end(state, vm, thread).expect("checked before");
    let Outcome {
        mut header, params, ..
    } = done.outcome.clone();
    let mut result = done.result;
    let mut out = params.clone();
    if result == TeeResult::SUCCESS {
        result = act(state, vm, &mut header, &params, &mut out);
    }
    // The real one leaves the result of these as it finds it.
    let silent = [Command::DO_BOTTOM_HALF, Command::STOP_ASYNC_NOTIF];
    if result != TeeResult::SUCCESS || !silent.contains(&Command(header.cmd.get())) {
        header.ret = U32::new(result.0);
        header.ret_origin = U32::new(optee_proto::Origin::TRUSTED_APP.0);
    }
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(out.as_bytes());
    state.ram.write(done.message, &bytes);
    if !is_for_tables(&params) {
        partition(state, vm).outcomes.push(done.outcome);
    }
    [0, 0xdead, 0xdead, 0xdead]
}

fn act(
    state: &mut State,
    vm: u16,
    header: &mut Header,
    params: &[Param],
    out: &mut [Param],
) -> TeeResult {
    match Command(header.cmd.get()) {
        Command::OPEN_SESSION => {
            let partition = partition(state, vm);
            partition.last_session += 1;
            let session = partition.last_session;
            partition.sessions.push(session);
            header.session = U32::new(session);
        }
        Command::CLOSE_SESSION => {
            let sessions = &mut partition(state, vm).sessions;
            let Some(at) = sessions.iter().position(|&s| s == header.session.get()) else {
                return TeeResult::ITEM_NOT_FOUND;
            };
            sessions.remove(at);
        }
        Command::REGISTER_SHM | Command::UNREGISTER_SHM if state.by_ffa => {
            state.violate(format!("{header:?} over FF-A"));
            return TeeResult::BAD_PARAMETERS;
        }
        Command::REGISTER_SHM => match register(state, vm, &params[0], false) {
            Some(_) => {}
            None => return TeeResult::BAD_PARAMETERS,
        },
        Command::UNREGISTER_SHM => {
            let cookie = params[0].c.get();
            let partition = partition(state, vm);
            if partition
                .objects
                .get(&cookie)
                .is_none_or(|object| object.guarded)
            {
                return TeeResult::BAD_PARAMETERS;
            }
            partition.remove(cookie);
        }
        Command::STOP_ASYNC_NOTIF => partition(state, vm).notify = false,
        _ => {}
    }
    for (param, out) in params.iter().zip(out) {
        match param.attr().0 {
            // Its use began with the call.
            5..=7 if state.by_ffa => out.b = (param.b.get() / 2).into(),
            9..=0xb if state.by_ffa => state.violate(format!("memory by address: {param:?}")),
            5..=7 if Command(header.cmd.get()) != Command::UNREGISTER_SHM => {
                let cookie = param.c.get();
                let partition = partition(state, vm);
                let Some(object) = partition.objects.get(&cookie) else {
                    if !partition.past.contains(&cookie) {
                        state.violate(format!("memory reference to {cookie:#x}"));
                    }
                    return TeeResult::BAD_PARAMETERS;
                };
                let end = param.a.get().checked_add(param.b.get());
                if end.is_none_or(|end| end > object.size) {
                    state.violate(format!("{param:?} is not inside its buffer"));
                    return TeeResult::BAD_PARAMETERS;
                }
                let pages = object.pages.len() as u64;
                map(state, vm, pages);
                out.b = (param.b.get() / 2).into();
            }
            9..=0xb if (param.a.get(), param.c.get()) != (0, 0) && header.cmd.get() != 4 => {
                state.violate(format!("memory by address: {param:?}"));
            }
            9..=0xb => out.b = param.b.get().wrapping_add(1).into(),
            1..=3 => {
                out.a = (!param.a.get()).into();
                out.b = (!param.b.get()).into();
            }
            _ => {}
        }
        // The mediator must not rely on attributes that come back.
        out.attr = (!param.attr.get()).into();
    }
    TeeResult::SUCCESS
}
