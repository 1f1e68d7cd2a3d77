// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A fake OP-TEE that follows a script, and checks what it is given.

mod ffa;
mod mixed;
mod register;
mod reply;
mod thread;

use super::machine::State;
use super::ram::Owner;
use super::violation::Violation;
use crate::addr::PAGE_SIZE;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::vec::Vec;
use ffa_proto::Handle;
use optee_proto::caps::SecureCaps;
use optee_proto::msg::{Command, Header, Param};
use optee_proto::rpc::{self};
use optee_proto::{FunctionId, Return, TeeResult, smc as id, uuid};
use thread::{begin, resume, run};

/// One step of OP-TEE in a call, before the call's own work. Default: nothing.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    /// An interrupt for the normal world.
    ForeignInterrupt,
    /// A command, with these parameters. Memory references name buffers that were allocated in
    /// this call before by their number, in the third word.
    Command(rpc::Command, Vec<Param>),
    /// SHM_ALLOC of this type and size.
    ShmAlloc(u64, u64),
    /// The same, with a normal-world interrupt before the answer is read.
    ShmAllocInterrupted(u64, u64),
    /// Reads the answer to SHM_ALLOC of this size: part of the two above, not for scripts.
    TakeAllocation(u64),
    /// SHM_FREE of the n-th buffer allocated in this call.
    ShmFree(u64, usize),
    /// Waits inside OP-TEE for a [`Step::Send`] of this value by another call: sends NOTIFICATION, again and
    /// again until then.
    WaitFor(u32),
    /// Wakes the calls that wait for this value, then sends NOTIFICATION.
    Send(u32),
    /// Sets whether the room behind the message is used for RPC messages from here on. The first call of a VM
    /// does other things before it knows of the room.
    UseRoom(bool),
    /// FREE of the thread's memory for RPC messages.
    FreeRpc,
    /// Returns with these registers: a0, a1, a2, and this thread number.
    Raw([u64; 3], Option<u64>),
    /// Writes this to the message of the next command, before asking.
    RawCommand(Vec<u8>),
    /// Overwrites the call's message, as a broken TEE may.
    Scribble(u8),
    /// Ends the call with this code in a0.
    End(u64),
    /// Sets the call's result.
    Result(TeeResult),
}

/// The outcome of a yielding call.
#[derive(Clone, PartialEq, Debug)]
pub struct Outcome {
    /// The message's header as OP-TEE found it.
    pub header: Header,
    /// The parameters as OP-TEE found them.
    pub params: Vec<Param>,
    /// For each command, the header and parameters as they were after the answer.
    pub replies: Vec<(Header, Vec<Param>)>,
    /// The answers to the allocations in the call: physical pages, or nothing.
    pub allocated: Vec<Option<Vec<u64>>>,
}

#[derive(Clone, Debug, Default)]
struct Object {
    pages: Vec<u64>,
    /// Size in bytes.
    size: u64,
    guarded: bool,
}

#[derive(Clone, Debug)]
struct Thread {
    steps: VecDeque<Step>,
    message: u64,
    room: Option<u64>,
    use_room: bool,
    waiting: Option<Step>,
    /// The command that the thread has sent.
    asked: Option<(Header, Vec<Param>)>,
    /// The thread waits for memory for an RPC message.
    allocating: bool,
    /// It has been resumed, so the normal world has its number.
    is_resumed: bool,
    /// The open session that the call names, and may not have looked up yet.
    session: Option<u32>,
    /// Memory for RPC messages between FREE and its answer.
    unmapping: Option<u64>,
    result: TeeResult,
    /// Cookies of allocations.
    cookies: Vec<u64>,
    /// Objects that the call uses, over FF-A.
    uses: Vec<Handle>,
    outcome: Outcome,
}

#[derive(Debug, Default)]
struct Partition {
    threads: BTreeMap<u64, Thread>,
    objects: BTreeMap<u64, Object>,
    /// Number of times that each page is in one of them.
    pages: BTreeMap<u64, u32>,
    /// Cookies of buffers that were known earlier.
    past: BTreeSet<u64>,
    /// Objects that were allocated and not freed, over FF-A.
    allocated: BTreeSet<u64>,
    /// Memory for RPC messages by thread: cookie and page.
    rpc: BTreeMap<u64, (u64, u64)>,
    /// Threads that were mixed up: a call that one of them has begun was said to wait in another. From then on nobody
    /// knows whose answers come under these numbers.
    mixed_up: BTreeSet<u64>,
    cache: bool,
    sessions: Vec<u32>,
    /// The last session number. The real OP-TEE counts per VM too.
    last_session: u32,
    scripts: VecDeque<VecDeque<Step>>,
    outcomes: Vec<Outcome>,
    /// Values that one call has sent to another.
    sent: BTreeSet<u32>,
    notify: bool,
    /// Pages of the address space for shared memory that have translation tables.
    tables: u64,
    /// Whether there is no memory for more tables.
    is_full: bool,
    /// Notifications that the guest has not fetched yet.
    notifications: VecDeque<u32>,
}

impl Partition {
    fn knows(&self, cookie: u64) -> bool {
        self.objects.contains_key(&cookie) || self.rpc.values().any(|&(known, _)| known == cookie)
    }

    /// Returns the open session that a call names, unless the call closes it.
    fn named_by(&self, header: &Header) -> Option<u32> {
        let command = Command(header.cmd.get());
        let session = header.session.get();
        let names = [Command::INVOKE, Command::CANCEL].contains(&command);
        (names && self.sessions.contains(&session)).then_some(session)
    }

    fn insert(&mut self, cookie: u64, object: Object) {
        for page in &object.pages {
            *self.pages.entry(*page).or_default() += 1;
        }
        self.objects.insert(cookie, object);
    }

    fn remove(&mut self, cookie: u64) {
        for page in self
            .objects
            .remove(&cookie)
            .into_iter()
            .flat_map(|object| object.pages)
        {
            *self.pages.entry(page).or_default() -= 1;
        }
    }
}

/// OP-TEE's state.
#[derive(Debug)]
pub(super) struct Tee {
    pub(super) uid: [u32; 4],
    pub(super) caps: u64,
    pub(super) threads: usize,
    pub(super) max_vms: usize,
    /// Number of interrupts during each call that creates tables.
    pub(super) table_interrupts: usize,
    partitions: BTreeMap<u16, Partition>,
    past: BTreeMap<u16, Vec<Outcome>>,
    scripts: BTreeMap<u16, VecDeque<VecDeque<Step>>>,
    /// Answers to the next call of a function, which then does nothing.
    pub(super) answers: Vec<(FunctionId, [u64; 4])>,
    /// A thread has left with registers of its script's.
    is_raw: bool,
}

impl Default for Tee {
    fn default() -> Self {
        Self {
            uid: uuid::API_UID,
            caps: 0b111_1101,
            threads: 2,
            max_vms: 2,
            table_interrupts: 0,
            partitions: BTreeMap::new(),
            past: BTreeMap::new(),
            scripts: BTreeMap::new(),
            answers: Vec::new(),
            is_raw: false,
        }
    }
}

impl Tee {
    pub(super) fn script(&mut self, client: u16, steps: VecDeque<Step>) {
        match self.partitions.get_mut(&client) {
            Some(partition) => partition.scripts.push_back(steps),
            None => self.scripts.entry(client).or_default().push_back(steps),
        }
    }

    pub(super) fn outcomes(&self, client: u16) -> Vec<Outcome> {
        let mut all = self.past.get(&client).cloned().unwrap_or_default();
        all.extend(
            self.partitions
                .get(&client)
                .into_iter()
                .flat_map(|p| p.outcomes.clone()),
        );
        all
    }

    pub(super) fn forget_outcomes(&mut self, client: u16) {
        self.past.remove(&client);
        if let Some(partition) = self.partitions.get_mut(&client) {
            partition.outcomes.clear();
        }
    }

    pub(super) fn open_sessions(&self, client: u16) -> usize {
        self.partitions
            .get(&client)
            .map_or(0, |partition| partition.sessions.len())
    }

    pub(super) fn sessions(&self, client: u16) -> Vec<u32> {
        self.partitions
            .get(&client)
            .map_or(Vec::new(), |partition| partition.sessions.clone())
    }

    pub(super) fn forget_scripts(&mut self, client: u16) {
        if let Some(partition) = self.partitions.get_mut(&client) {
            partition.scripts.clear();
        }
    }

    /// Begins a VM.
    fn begin(&mut self, client: u16) {
        let scripts = self.scripts.remove(&client).unwrap_or_default();
        let partition = Partition {
            scripts,
            ..Partition::default()
        };
        self.partitions.insert(client, partition);
    }

    /// Ends a VM. Returns whether there was one.
    fn end(&mut self, client: u16) -> bool {
        let gone = self.partitions.remove(&client);
        if let Some(gone) = &gone {
            let past = self.past.entry(client).or_default();
            past.extend(gone.outcomes.iter().cloned());
        }
        gone.is_some()
    }

    /// The number of the VM's next session is the one after `last`.
    pub(super) fn number_sessions_after(&mut self, client: u16, last: u32) {
        if let Some(partition) = self.partitions.get_mut(&client) {
            partition.last_session = last;
        }
    }

    pub(super) fn fill(&mut self, client: u16) {
        if let Some(partition) = self.partitions.get_mut(&client) {
            partition.is_full = true;
        }
    }

    pub(super) fn buffers(&self, client: u16) -> Vec<Vec<u64>> {
        let objects = self.partitions.get(&client).map(|p| p.objects.values());
        let pages = objects.into_iter().flatten();
        pages.map(|object| object.pages.clone()).collect()
    }

    pub(super) fn knows(&self, client: u16) -> bool {
        self.partitions.contains_key(&client)
    }

    /// Returns whether the mediator made this value a cookie, now or earlier.
    pub(super) fn knows_cookie(&self, cookie: u64) -> bool {
        cookie != 0
            && self
                .partitions
                .values()
                .any(|partition| partition.knows(cookie) || partition.past.contains(&cookie))
    }

    pub(super) fn notify(&mut self, client: u16, value: u32) {
        if let Some(partition) = self.partitions.get_mut(&client) {
            partition.notifications.push_back(value);
        }
    }

    /// Returns whether a page has the message of a call.
    pub(super) fn has_message(&self, page: u64) -> bool {
        let partitions = self.partitions.values();
        let mut threads = partitions.flat_map(|partition| partition.threads.values());
        threads.any(|thread| thread.message & !(PAGE_SIZE - 1) == page)
    }

    /// Returns the handles of the objects that contain a page.
    pub(super) fn objects_with(&self, page: u64) -> impl Iterator<Item = Handle> {
        let partitions = self.partitions.values();
        let objects = partitions.flat_map(|partition| partition.objects.iter());
        let with = objects.filter(move |(_, object)| object.pages.contains(&page));
        with.map(|(&handle, _)| Handle::new(handle))
    }

    /// Returns what OP-TEE uses a page for, if it does.
    pub(super) fn use_of(&self, at: u64) -> Option<Violation> {
        for partition in self.partitions.values() {
            if partition.pages.get(&at).is_some_and(|&count| count > 0) {
                return Some(format!("a buffer still has the page {at:#x}").into());
            }
            let threads = partition.threads.iter();
            let with_message = threads
                .filter(|(_, thread)| [Some(thread.message), thread.unmapping].contains(&Some(at)));
            let rpc = partition.rpc.iter();
            let with_rpc = rpc.filter(|&(_, &(_, page))| page == at);
            let mut users = with_message
                .map(|(number, _)| number)
                .chain(with_rpc.map(|(number, _)| number))
                .peekable();
            if users.peek().is_some() {
                return Some(Violation {
                    text: format!("the page {at:#x} is still used for messages"),
                    from_mixed_threads: users.all(|number| partition.mixed_up.contains(number)),
                });
            }
        }
        None
    }
}

fn is_shared(state: &State, vm: u16, at: u64) -> bool {
    at.is_multiple_of(PAGE_SIZE) && state.ram.owner(at) == Some(Owner::Shared(vm))
}

/// Answers one SMC.
pub(super) fn smc(state: &mut State, vm: u16, args: [u64; 8]) -> [u64; 4] {
    let function = FunctionId::from_x0(args[0]);
    let client = args[7];
    let hypervisor = [
        id::CALLS_UID,
        id::CALLS_REVISION,
        id::GET_OS_REVISION,
        id::EXCHANGE_CAPABILITIES,
        id::GET_THREAD_COUNT,
        id::VM_CREATED,
        id::VM_DESTROYED,
    ];
    if SecureCaps::from_bits_retain(state.tee.caps).contains(SecureCaps::VIRTUALIZATION) {
        if client == 0 && !hypervisor.contains(&function) || client != 0 && client != u64::from(vm)
        {
            state.violate(format!(
                "{function:?} with a7={client:#x} on behalf of VM {vm}"
            ));
        }
        // Fast calls by the hypervisor itself carry client id zero.
        if client != 0 && !state.tee.knows(vm) {
            state.violate(format!("{function:?} for VM {vm}, which is not alive"));
            return [Return::ENOTAVAIL.get(), 0, 0, 0];
        }
    } else {
        if client != 0 || [id::VM_CREATED, id::VM_DESTROYED].contains(&function) {
            state.violate(format!(
                "{function:?} with a7={client:#x}: there are no VMs"
            ));
        }
        // Without virtualisation OP-TEE has one caller, and knows it from the beginning.
        if !state.tee.knows(vm) {
            state.tee.begin(vm);
        }
    }
    if args.iter().skip(1).any(|arg| arg >> 32 != 0) {
        state.violate(format!("{args:x?} has more than 32 bits in a register"));
    }
    let prepared = &mut state.tee.answers;
    if let Some(at) = prepared.iter().position(|&(id, _)| id == function) {
        return prepared.remove(at).1;
    }
    match function {
        id::CALLS_UID => state.tee.uid.map(u64::from),
        id::CALLS_REVISION => [2, 0, 0xdead, 0xdead],
        id::GET_OS_UUID => uuid::OS_UUID.map(u64::from),
        id::GET_OS_REVISION => [4, 10, 0x1234_5678, 0xdead],
        id::EXCHANGE_CAPABILITIES if args[1] & !1 != 0 => [Return::ENOTAVAIL.get(), 0, 0, 0],
        id::EXCHANGE_CAPABILITIES => [0, state.tee.caps, 63, 4],
        id::GET_THREAD_COUNT => [0, state.tee.threads as u64, 0, 0],
        id::VM_CREATED => {
            let created = args[1] as u16;
            if state.tee.knows(created) {
                state.violate(format!("VM {created} created twice"));
            }
            if state.tee.partitions.len() >= state.tee.max_vms {
                return [Return::ENOTAVAIL.get(), 0, 0, 0];
            }
            state.tee.begin(created);
            [0; 4]
        }
        id::VM_DESTROYED => {
            let destroyed = args[1] as u16;
            if !state.tee.end(destroyed) {
                state.violate(format!("VM {destroyed} destroyed without being"));
            }
            [0; 4]
        }
        _ if !state.tee.knows(vm) => [Return::ENOTAVAIL.get(), 0, 0, 0],
        id::ENABLE_SHM_CACHE | id::DISABLE_SHM_CACHE => cache(state, vm, function),
        id::ENABLE_ASYNC_NOTIF => {
            partition(state, vm).notify = true;
            [0; 4]
        }
        id::GET_ASYNC_NOTIF_VALUE => {
            let partition = partition(state, vm);
            match partition.notifications.pop_front() {
                Some(value) if partition.notify => {
                    let more = !partition.notifications.is_empty();
                    let pending = if more {
                        id::ASYNC_NOTIF_VALUE_PENDING
                    } else {
                        0
                    };
                    [
                        0,
                        value.into(),
                        id::ASYNC_NOTIF_VALUE_VALID | pending,
                        0xdead,
                    ]
                }
                _ => [0, 0, 0, 0xdead],
            }
        }
        id::CALL_WITH_ARG | id::CALL_WITH_RPC_ARG => begin(state, vm, function, &args),
        id::CALL_WITH_REGD_ARG => thread::begin_in_buffer(state, vm, &args),
        id::CALL_RETURN_FROM_RPC => {
            let thread = args[3];
            if !partition(state, vm).threads.contains_key(&thread) {
                return [Return::ERESUME.get(), 0, 0, 0];
            }
            resume(state, vm, thread, &args);
            run(state, vm, thread)
        }
        _ => {
            state.violate(format!("{function:?} reached OP-TEE"));
            [Return::UNKNOWN_FUNCTION.get(), 0, 0, 0]
        }
    }
}

fn partition(state: &mut State, vm: u16) -> &mut Partition {
    state.tee.partitions.get_mut(&vm).expect("checked before")
}

fn cache(state: &mut State, vm: u16, function: FunctionId) -> [u64; 4] {
    let partition = partition(state, vm);
    if !partition.threads.is_empty() {
        return [Return::EBUSY.get(), 0, 0, 0];
    }
    partition.cache = function == id::ENABLE_SHM_CACHE;
    if partition.cache {
        return [0; 4];
    }
    match partition.rpc.pop_first() {
        Some((_, (cookie, _))) => {
            let (a1, a2) = id::pair(cookie);
            [0, a1, a2, 0xdead]
        }
        None => [Return::ENOTAVAIL.get(), 0, 0, 0],
    }
}
