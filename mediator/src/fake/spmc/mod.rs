// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A fake SPMC for host tests of what mediates FF-A: OP-TEE 4.10 as it was seen to behave, with its faults, or an SPMC
//! that checks its callers.
//!
//! A [`Trap`] is a fault of OP-TEE that a mediator must not touch. A call that steps on one is recorded in
//! [`Spmc::traps`], and is answered as OP-TEE answers it; [`Trap::stops`] says where that is never.
//!
//! A call says for whom it is made ([`Spmc::call`]), which no register does: the mediator's own calls are for
//! [`EndpointId::HYPERVISOR`].

mod direct;
mod objects;
mod pending;
mod send;
#[cfg(test)]
mod tests;
mod trap;
mod vms;

pub use objects::Objects;
pub use trap::Trap;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use ffa_proto::call::{
    FeatureId, FeatureQuery, FeaturesAnswer, IdAnswer, PartitionInfoAnswer, PartitionInfoGet,
    PartitionInfoGetRegs, PartitionInfoRegsAnswer, RxtxMap, Target,
};
use ffa_proto::memory::MemoryRange;
use ffa_proto::partition::{PartitionInfo, PartitionProperties};
use ffa_proto::{
    EndpointId, ErrorCode, Function, Handle, Registers, Request, RequestError, Uuid, Version,
    answer,
};
use optee_proto::ffa::{Return, Words};
use send::Unfinished;
use vms::Vm;

/// The SPMC's id.
pub const SPMC: EndpointId = EndpointId::new(0x8000);
/// The id of the partition OP-TEE.
pub const PARTITION: EndpointId = EndpointId::new(0x8001);
/// The SGI by which OP-TEE announces notifications.
pub const SCHEDULE_RECEIVER_SGI: u32 = 8;
/// The most objects that a VM may have shared. One more breaks OP-TEE.
pub const MAX_OBJECTS: usize = 64;
/// The number of lives of VMs after which OP-TEE 4.10 has no memory for translation tables.
pub const MAX_LIVES: usize = 115;

/// How the SPMC behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    /// As OP-TEE 4.10: the traps are there.
    OpTee,
    /// As an SPMC that checks who calls, such as one at S-EL2: what would be a trap is refused, and nothing stops.
    Checking,
}

/// How a yielding call enters OP-TEE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// It begins, with a message at this offset of an object of the VM's.
    Begin {
        /// The object.
        handle: Handle,
        /// The offset in bytes.
        offset: u32,
    },
    /// It goes on in this thread.
    Resume {
        /// The thread's number.
        thread: u32,
    },
}

/// What the SPMC sees of the machine, and the trusted OS that is behind it.
pub trait SecureWorld {
    /// Reads bytes of physical world. What is not RAM reads as zero.
    fn read(&self, address: u64, bytes: &mut [u8]);

    /// Writes bytes of physical world.
    fn write(&mut self, address: u64, bytes: &[u8]);

    /// Returns whether a page is secure world.
    fn is_secure(&self, page: u64) -> bool;

    /// Notes that a VM begins.
    fn created(&mut self, _vm: EndpointId) {}

    /// Notes that a VM has ended.
    fn destroyed(&mut self, _vm: EndpointId) {}

    /// Notes that the trusted OS may use world.
    fn shared(&mut self, _vm: EndpointId, _handle: Handle, _ranges: &[MemoryRange]) {}

    /// Notes that the trusted OS has forgotten world.
    fn reclaimed(&mut self, _vm: EndpointId, _handle: Handle) {}

    /// Runs a yielding call until it leaves OP-TEE, and returns w3 to w7 of the answer. `None` has the SPMC follow
    /// [`Spmc::script`] in its place.
    fn run(&mut self, _vm: EndpointId, _entry: Entry, _objects: &mut Objects) -> Option<Words> {
        None
    }
}

/// A call that has begun and not returned.
#[derive(Debug)]
#[must_use]
pub struct Ticket {
    call: Registers,
    on_behalf: EndpointId,
}

/// The fake SPMC.
#[derive(Debug)]
pub struct Spmc {
    manner: Manner,
    version: Version,
    buffers: Option<RxtxMap>,
    /// Whether the caller owns RX, and whether a call that failed has taken it.
    rx_is_taken: bool,
    rx_after_error: bool,
    room_for_vms: usize,
    vms: BTreeMap<EndpointId, Vm>,
    /// The number of lives of each id.
    lives: BTreeMap<EndpointId, usize>,
    /// The ids that have enabled notifications in an earlier life.
    enabled_before: BTreeSet<EndpointId>,
    objects: Objects,
    /// The transactions whose descriptors are incomplete, by their handles.
    unfinished: BTreeMap<u64, Unfinished>,
    script: VecDeque<Return>,
    /// The functions of the calls that have begun: VM_DESTROYED and INFO_GET only.
    destroying: usize,
    listing: usize,
    traps: Vec<Trap>,
}

impl Spmc {
    /// Returns an SPMC with room for this many VMs.
    pub const fn new(manner: Manner, room_for_vms: usize) -> Self {
        Self {
            manner,
            version: Version::V1_2,
            buffers: None,
            rx_is_taken: false,
            rx_after_error: false,
            room_for_vms,
            vms: BTreeMap::new(),
            lives: BTreeMap::new(),
            enabled_before: BTreeSet::new(),
            objects: Objects::new(),
            unfinished: BTreeMap::new(),
            script: VecDeque::new(),
            destroying: 0,
            listing: 0,
            traps: Vec::new(),
        }
    }

    /// Sets how many VMs there is room for.
    pub const fn limit_vms(&mut self, room: usize) {
        self.room_for_vms = room;
    }

    /// Returns the traps that were stepped on, in order.
    pub fn traps(&self) -> &[Trap] {
        &self.traps
    }

    /// Returns whether a trap has stopped OP-TEE. It answers no more calls.
    pub fn is_stopped(&self) -> bool {
        self.manner == Manner::OpTee && self.traps.iter().any(|trap| trap.stops())
    }

    /// Records a trap, and returns the code by which an SPMC that checks refuses the call.
    fn step_on(&mut self, trap: Trap, code: ErrorCode) -> Result<(), ErrorCode> {
        match self.manner {
            Manner::OpTee => {
                self.traps.push(trap);
                Ok(())
            }
            Manner::Checking => Err(code),
        }
    }

    /// Forgets the traps that were stepped on: for tests that step on one.
    pub fn forget_traps(&mut self) {
        self.traps.clear();
    }

    /// Makes a call and returns its answer, or `None` if OP-TEE has stopped. `on_behalf` is the VM that the caller
    /// serves, or [`EndpointId::HYPERVISOR`] for the caller itself.
    pub fn call(
        &mut self,
        on_behalf: EndpointId,
        call: &Registers,
        world: &mut dyn SecureWorld,
    ) -> Option<Registers> {
        let ticket = self.begin(on_behalf, call);
        self.finish(ticket, world)
    }

    /// Begins a call on one CPU. Other calls may begin and finish on other CPUs before it finishes.
    pub fn begin(&mut self, on_behalf: EndpointId, call: &Registers) -> Ticket {
        let kind = self.kind(call);
        self.destroying += usize::from(kind == Kind::Destroy);
        self.listing += usize::from(kind == Kind::List);
        if self.destroying > 0 && self.listing > 0 {
            // An SPMC that checks has a lock for this, and refuses nothing.
            let _ = self.step_on(Trap::InfoGetDuringDestroy, ErrorCode::BUSY);
        }
        Ticket {
            call: *call,
            on_behalf,
        }
    }

    /// Finishes a call, and returns its answer, or `None` if OP-TEE has stopped.
    pub fn finish(&mut self, ticket: Ticket, world: &mut dyn SecureWorld) -> Option<Registers> {
        let Ticket { call, on_behalf } = ticket;
        let kind = self.kind(&call);
        self.destroying -= usize::from(kind == Kind::Destroy);
        self.listing -= usize::from(kind == Kind::List);
        if self.is_stopped() {
            return None;
        }
        let answer = match Request::decode(&call, Version::V1_2) {
            Ok(request) => self.answer(on_behalf, &request, world),
            Err(error) => self.refuse(&call, error),
        };
        if self.is_stopped() {
            return None;
        }
        Some(answer.unwrap_or_else(|code| answer::refusal(call.id(), code)))
    }

    fn kind(&self, call: &Registers) -> Kind {
        match Request::decode(call, Version::V1_2) {
            Ok(Request::NotificationInfoGet(_)) => Kind::List,
            Ok(Request::DirectRequest(message)) if vms::is_destroy(&message) => Kind::Destroy,
            _ => Kind::Other,
        }
    }

    /// What is no request: OP-TEE prints a line about ids that it does not handle.
    fn refuse(&mut self, call: &Registers, error: RequestError) -> Result<Registers, ErrorCode> {
        if call.id().is_ffa() {
            self.step_on(Trap::Logged, error.code())?;
        }
        Err(error.code())
    }

    fn answer(
        &mut self,
        on_behalf: EndpointId,
        request: &Request,
        world: &mut dyn SecureWorld,
    ) -> Result<Registers, ErrorCode> {
        match request {
            Request::Version(w1) => Ok(self.exchange_version(*w1)),
            Request::Features(features) => self.features(features.query),
            Request::IdGet => Ok(IdAnswer(EndpointId::HYPERVISOR).encode()),
            Request::SpmIdGet => Ok(IdAnswer(SPMC).encode()),
            Request::RxtxMap(map) => self.map_buffers(map, world),
            Request::RxtxUnmap(_) => {
                self.buffers.take().ok_or(ErrorCode::INVALID_PARAMETERS)?;
                Ok(answer::success())
            }
            Request::RxRelease(_) => {
                if !core::mem::take(&mut self.rx_is_taken) {
                    return Err(ErrorCode::DENIED);
                }
                self.rx_after_error = false;
                Ok(answer::success())
            }
            Request::PartitionInfoGet(get) => self.partition_info(get, world),
            Request::DirectRequest(message) => self.direct(on_behalf, message, world),
            Request::MemSend(send) => self.send(on_behalf, send, world),
            Request::MemReclaim(reclaim) => self.reclaim(on_behalf, reclaim, world),
            Request::NotificationBitmapCreate(create) => self.create_bitmap(on_behalf, create.vm),
            Request::NotificationBitmapDestroy(vm) => self.destroy_bitmap(on_behalf, *vm),
            Request::NotificationBind(bind) => self.bind(on_behalf, bind, true),
            Request::NotificationUnbind(bind) => self.bind(on_behalf, bind, false),
            Request::NotificationGet(get) => self.fetch(on_behalf, get),
            Request::NotificationInfoGet(width) => self.list_pending(*width),
            Request::PartitionInfoGetRegs(get) => self.partition_info_regs(get),
            Request::MemFragTx(fragment) => self.send_fragment(on_behalf, fragment, world),
            Request::Run(target) => self.run_context(target),
            // Only the hypervisor has buffers, and RX is nobody else's.
            Request::RxAcquire(_) if self.manner == Manner::Checking => Err(ErrorCode::DENIED),
            _ => self.unhandled(),
        }
    }

    /// OP-TEE says 1.2 to every version, and remembers the smaller one for the whole normal world.
    fn exchange_version(&mut self, w1: u32) -> Registers {
        match Version::from_w(w1) {
            Some(asked) => {
                self.version = asked.min(Version::V1_2);
                answer::version(Some(Version::V1_2))
            }
            None => answer::version(None),
        }
    }

    fn features(&self, query: FeatureQuery) -> Result<Registers, ErrorCode> {
        let by_optee = self.manner == Manner::OpTee;
        let w2 = match query {
            FeatureQuery::Feature(FeatureId::SCHEDULE_RECEIVER_INTERRUPT) => {
                Some(SCHEDULE_RECEIVER_SGI)
            }
            FeatureQuery::Feature(FeatureId::MANAGED_EXIT_INTERRUPT) if by_optee => Some(0),
            FeatureQuery::Feature(_) => None,
            FeatureQuery::Function(id) => match id.function() {
                // A descriptor may be in a buffer that is not TX.
                Some(Function::MemShare) => Some(u32::from(by_optee)),
                Some(Function::PartitionInfoGetRegs) if !by_optee => Some(0),
                Some(
                    Function::Error
                    | Function::Success
                    | Function::Interrupt
                    | Function::Version
                    | Function::Features
                    | Function::RxRelease
                    | Function::RxtxMap
                    | Function::RxtxUnmap
                    | Function::PartitionInfoGet
                    | Function::SpmIdGet
                    | Function::MsgSendDirectReq
                    | Function::MemReclaim
                    | Function::MemFragTx
                    | Function::NotificationBitmapCreate
                    | Function::NotificationBitmapDestroy
                    | Function::NotificationBind
                    | Function::NotificationUnbind
                    | Function::NotificationGet
                    | Function::NotificationInfoGet,
                ) => Some(0),
                // Which it then refuses.
                Some(Function::NotificationSet) if by_optee => Some(0),
                _ => None,
            },
        };
        let w2 = w2.ok_or(ErrorCode::NOT_SUPPORTED)?;
        Ok(FeaturesAnswer { w2, w3: 0 }.encode())
    }

    fn map_buffers(
        &mut self,
        map: &RxtxMap,
        world: &dyn SecureWorld,
    ) -> Result<Registers, ErrorCode> {
        if self.buffers.is_some() {
            return Err(ErrorCode::DENIED);
        }
        if !self.vms.is_empty() {
            self.step_on(Trap::VmBeforeBuffers, ErrorCode::DENIED)?;
        }
        let pages = u64::from(map.pages);
        let all = [map.tx, map.rx].into_iter();
        let mut pages = all.flat_map(|at| (0..pages).map(move |page| at + page * 4096));
        let is_bad = pages.any(|page| page % 4096 != 0 || world.is_secure(page));
        if map.pages == 0 {
            return Err(ErrorCode::INVALID_PARAMETERS);
        }
        if is_bad {
            self.step_on(Trap::BadBuffers, ErrorCode::INVALID_PARAMETERS)?;
        }
        self.buffers = Some(*map);
        Ok(answer::success())
    }

    fn partition_info(
        &mut self,
        get: &PartitionInfoGet,
        world: &mut dyn SecureWorld,
    ) -> Result<Registers, ErrorCode> {
        let is_found = get.uuid.is_nil() || get.uuid == OPTEE;
        let (by_optee, count) = (self.manner == Manner::OpTee, u32::from(is_found));
        // OP-TEE succeeds without any partition, and then RX is the caller's too.
        if !is_found && !by_optee {
            return Err(ErrorCode::INVALID_PARAMETERS);
        }
        if get.count_only {
            return Ok(PartitionInfoAnswer { count, size: 0 }.encode());
        }
        if self.rx_after_error {
            self.step_on(Trap::RxAfterError, ErrorCode::BUSY)?;
        }
        let Some(map) = self.buffers.filter(|_| !self.rx_is_taken) else {
            // A failure takes the buffer all the same.
            self.rx_after_error = by_optee;
            self.rx_is_taken |= by_optee;
            return Err(ErrorCode::BUSY);
        };
        let mut record = [0; 24];
        let size = info().write(self.version, &mut record).unwrap_or_default();
        if is_found {
            world.write(map.rx, record.get(..size).unwrap_or_default());
        }
        self.rx_is_taken = true;
        let size = if self.version < Version::V1_1 {
            0
        } else {
            size as u32
        };
        Ok(PartitionInfoAnswer { count, size }.encode())
    }

    /// OP-TEE does not have this function.
    fn partition_info_regs(&mut self, get: &PartitionInfoGetRegs) -> Result<Registers, ErrorCode> {
        if self.manner == Manner::OpTee {
            return self.unhandled();
        }
        let is_found = get.uuid.is_nil() || get.uuid == OPTEE;
        let answer = PartitionInfoRegsAnswer::new(get.start, 0, 0, &[info()]);
        let answer = answer.filter(|_| is_found && get.tag == 0);
        Ok(answer.ok_or(ErrorCode::INVALID_PARAMETERS)?.encode())
    }

    /// Threads of OP-TEE are not resumed by FFA_RUN, and there are no other partitions.
    fn run_context(&self, target: &Target) -> Result<Registers, ErrorCode> {
        if self.manner == Manner::Checking || [SPMC, PARTITION].contains(&target.endpoint) {
            return Err(ErrorCode::INVALID_PARAMETERS);
        }
        Err(ErrorCode::NOT_SUPPORTED)
    }

    /// OP-TEE prints a line.
    fn unhandled(&mut self) -> Result<Registers, ErrorCode> {
        self.step_on(Trap::Logged, ErrorCode::NOT_SUPPORTED)?;
        Err(ErrorCode::NOT_SUPPORTED)
    }
}

/// What OP-TEE 4.10 says of its partition: direct requests, VM_CREATED and VM_DESTROYED, AArch64.
const fn info() -> PartitionInfo {
    PartitionInfo {
        id: PARTITION,
        contexts: 4,
        properties: PartitionProperties::from_bits_retain(0x1c3),
        uuid: OPTEE,
    }
}

/// OP-TEE's partition, by its UUID.
pub const OPTEE: Uuid = Uuid::new(optee_proto::ffa::PARTITION.0);

/// The calls that must not run at once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Destroy,
    List,
    Other,
}
