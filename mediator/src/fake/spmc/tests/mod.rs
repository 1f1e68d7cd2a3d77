// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The fake itself: it answers as OP-TEE does, and each trap is found where it is stepped on.

mod answers;
mod traps;

use super::*;
use ffa_proto::call::{
    DirectAnswer, DirectMessage, FrameworkMessage, MemFragTx, MemReclaim, MemReclaimFlags, MemSend,
    MemSendAnswer, MemSendKind, NotificationBind, NotificationBitmapCreate, NotificationGet,
    NotificationGetAnswer, Payload,
};
use ffa_proto::memory::{
    AccessSize, DescriptorWriter, MemoryAttributes, MemoryRange, Receiver, Transaction,
    TransactionFlags,
};
use ffa_proto::notification::{NotificationBitmap, NotificationGetFlags, PendingLists};
use ffa_proto::partition::PartitionInfos;
use ffa_proto::{AnswerError, Handle, VcpuId, Width};
use optee_proto::ffa::{Service, Status, Words, pair};

const HYPERVISOR: EndpointId = EndpointId::HYPERVISOR;
const VM: EndpointId = EndpointId::new(1);
const OTHER: EndpointId = EndpointId::new(2);
const V1_2: Version = Version::V1_2;
const TX: u64 = 0x10_0000;
const RX: u64 = 0x10_1000;
const SECURE: u64 = 0xe10_0000;

/// TX and RX; the rest is not looked at.
struct Ram([u8; 8192]);

impl SecureWorld for Ram {
    fn read(&self, address: u64, bytes: &mut [u8]) {
        let at = (address - TX) as usize;
        bytes.copy_from_slice(&self.0[at..at + bytes.len()]);
    }

    fn write(&mut self, address: u64, bytes: &[u8]) {
        let at = (address - TX) as usize;
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn is_secure(&self, page: u64) -> bool {
        (SECURE..SECURE + 0x10_0000).contains(&page)
    }
}

/// An SPMC, and calls as a mediator makes them.
struct Bench {
    spmc: Spmc,
    ram: Ram,
    on_behalf: EndpointId,
}

type Outcome<T> = Result<T, AnswerError>;

impl Bench {
    /// Nothing has been called yet.
    fn bare(manner: Manner) -> Self {
        Self {
            spmc: Spmc::new(manner, 4),
            ram: Ram([0; 8192]),
            on_behalf: HYPERVISOR,
        }
    }

    /// The buffers are mapped, and two VMs live.
    fn new(manner: Manner) -> Self {
        let mut bench = Self::bare(manner);
        bench.map(TX, RX).unwrap();
        bench
            .life(DirectMessage::vm_created(PARTITION, VM))
            .unwrap();
        bench
            .life(DirectMessage::vm_created(PARTITION, OTHER))
            .unwrap();
        bench
    }

    fn call(&mut self, request: Request) -> Registers {
        let call = request.encode();
        let answer = self.spmc.call(self.on_behalf, &call, &mut self.ram);
        // An answer that never comes has no registers.
        answer.unwrap_or(Registers::from_8([0; 8]))
    }

    fn simple(&mut self, request: Request) -> Outcome<()> {
        answer::read_success(&self.call(request), V1_2)
    }

    fn map(&mut self, tx: u64, rx: u64) -> Outcome<()> {
        let width = Width::Smc64;
        self.simple(Request::RxtxMap(RxtxMap {
            width,
            tx,
            rx,
            pages: 1,
        }))
    }

    fn life(&mut self, message: DirectMessage) -> Outcome<()> {
        message.read_vm_answer(&self.call(Request::DirectRequest(message)), V1_2)
    }

    fn partitions(&mut self, uuid: Uuid) -> Outcome<PartitionInfoAnswer> {
        let count_only = false;
        let get = PartitionInfoGet { uuid, count_only };
        PartitionInfoAnswer::read(&self.call(Request::PartitionInfoGet(get)), V1_2)
    }

    fn service(&mut self, vm: EndpointId, words: Words) -> Outcome<Words> {
        let message = DirectMessage {
            source: vm,
            destination: PARTITION,
            framework: None,
            payload: Payload::Smc32(words),
        };
        let answer = self.call(Request::DirectRequest(message));
        match message.read_answer(&answer, V1_2)? {
            DirectAnswer::Message(Payload::Smc32(words)) => Ok(words),
            other => panic!("{other:?}"),
        }
    }

    /// Writes a descriptor of one page to TX, and returns its length.
    fn describe(&mut self, attributes: u16, sender: EndpointId, handle: Handle, at: u64) -> u32 {
        let transaction = Transaction {
            sender,
            attributes: MemoryAttributes::new(attributes),
            flags: TransactionFlags::empty(),
            handle,
            tag: 0,
        };
        let receivers = [Receiver::read_write(PARTITION)];
        let tx = &mut self.ram.0[..4096];
        let mut writer =
            DescriptorWriter::new(tx, &transaction, AccessSize::Long, &receivers).unwrap();
        writer.push(MemoryRange::new(at, 1).unwrap()).unwrap();
        writer.finish().unwrap()
    }

    fn share_as(&mut self, sender: EndpointId, handle: Handle, address: u64) -> Outcome<Handle> {
        let total_length = self.describe(0x2f, sender, handle, address);
        self.send(MemSendKind::Share, total_length)
    }

    fn send(&mut self, kind: MemSendKind, total_length: u32) -> Outcome<Handle> {
        let answer = self.call(Request::MemSend(MemSend {
            kind,
            width: Width::Smc32,
            total_length,
            fragment_length: total_length,
            buffer: None,
        }));
        match MemSendAnswer::read(&answer, V1_2)? {
            MemSendAnswer::Done(handle) => Ok(handle),
            other => panic!("{other:?}"),
        }
    }

    fn share(&mut self, sender: EndpointId) -> Outcome<Handle> {
        self.share_as(sender, Handle::NONE, 0x4000_0000)
    }

    fn reclaim(&mut self, handle: Handle) -> Outcome<()> {
        let flags = MemReclaimFlags::empty();
        self.simple(Request::MemReclaim(MemReclaim { handle, flags }))
    }

    fn by_handle(&mut self, vm: EndpointId, service: Service, handle: Handle) -> Outcome<Words> {
        let [low, high] = pair(handle.get());
        self.service(vm, [service.get(), low, high, 0, 0])
    }

    fn enable(&mut self, vm: EndpointId) -> Outcome<Words> {
        self.service(vm, [Service::ENABLE_ASYNC_NOTIF.get(), 3, 0, 0, 0])
    }

    fn create_bitmap(&mut self, vm: EndpointId) -> Outcome<()> {
        let create = NotificationBitmapCreate { vm, vcpus: 1 };
        self.simple(Request::NotificationBitmapCreate(create))
    }

    /// Checks that a trap was stepped on, once and alone, and that OP-TEE has stopped if it stops.
    #[track_caller]
    fn found(&self, trap: Trap) {
        assert_eq!(self.spmc.traps(), [trap]);
        assert_eq!(self.spmc.is_stopped(), trap.stops());
    }
}

fn fragment(handle: Handle, length: u32) -> MemFragTx {
    MemFragTx {
        handle,
        length,
        sender: VM,
    }
}

fn refused<T>(code: ErrorCode) -> Outcome<T> {
    Err(AnswerError::Refused(code))
}

const INVALID: ErrorCode = ErrorCode::INVALID_PARAMETERS;
const MANNERS: [Manner; 2] = [Manner::OpTee, Manner::Checking];

#[test]
fn life_of_a_vm_without_traps_is_answered_alike() {
    for manner in MANNERS {
        let mut bench = Bench::new(manner);
        let version = answer::read_version(&bench.call(Request::Version(V1_2.to_w())));
        assert_eq!(version, Ok(V1_2));
        bench.create_bitmap(VM).unwrap();
        let read = bench.partitions(OPTEE).unwrap();
        let mut infos =
            PartitionInfos::new(&bench.ram.0[4096..], V1_2, read.count, read.size).unwrap();
        assert_eq!(infos.next().unwrap().id, PARTITION);
        bench.simple(Request::RxRelease(HYPERVISOR)).unwrap();

        bench.on_behalf = VM;
        let handle = bench.share(VM).unwrap();
        assert_eq!(handle.get(), 0x1000_0001_0000);
        assert_eq!(bench.spmc.ranges(handle).unwrap()[0].address(), 0x4000_0000);
        // In a call it cannot be reclaimed, and afterwards only when it is no longer registered.
        bench
            .spmc
            .script([Return::Interrupt(2), Return::RpcCommand(2)]);
        let call = Service::CALL_WITH_ARG;
        let returned = bench.by_handle(VM, call, handle).unwrap();
        assert_eq!(Return::read(&returned), Ok(Return::Interrupt(2)));
        assert_eq!(bench.reclaim(handle), refused(ErrorCode::DENIED));
        let busy = bench
            .by_handle(VM, Service::UNREGISTER_SHM, handle)
            .unwrap();
        assert_eq!(busy[0], Status::BUSY.to_w());
        if manner == Manner::OpTee {
            bench.found(Trap::Logged);
            bench.spmc.forget_traps();
        }
        let resume = [Service::RESUME.get(), 0, 0, 0, 2];
        let returned = bench.service(VM, resume).unwrap();
        assert_eq!(Return::read(&returned), Ok(Return::RpcCommand(2)));
        let returned = bench.service(VM, resume).unwrap();
        assert_eq!(Return::read(&returned), Ok(Return::Done));
        let returned = bench.service(VM, resume).unwrap();
        assert_eq!(Return::read(&returned), Err(Status::TEE_BAD_PARAMETERS));
        assert_eq!(bench.reclaim(handle), refused(ErrorCode::DENIED));
        bench
            .by_handle(VM, Service::UNREGISTER_SHM, handle)
            .unwrap();
        bench.reclaim(handle).unwrap();
        assert_eq!(bench.reclaim(handle), refused(INVALID));

        bench.on_behalf = HYPERVISOR;
        bench
            .life(DirectMessage::vm_destroyed(PARTITION, VM))
            .unwrap();
        let gone = bench.service(VM, [0; 5]).unwrap();
        assert_eq!(gone[0], Status::TEE_ITEM_NOT_FOUND.to_w());
        assert_eq!(bench.spmc.traps(), []);
    }
}

#[test]
fn notification_stays_listed_until_it_is_fetched() {
    for manner in MANNERS {
        let mut bench = Bench::new(manner);
        bench.create_bitmap(VM).unwrap();
        let list = Request::NotificationInfoGet(Width::Smc64);
        let read = |answer| PendingLists::read_answer(&answer, V1_2, Width::Smc64);
        assert_eq!(read(bench.call(list)), refused(ErrorCode::NO_DATA));
        assert!(!bench.spmc.post(VM));
        let bind = NotificationBind {
            sender: PARTITION,
            receiver: VM,
            per_vcpu: false,
            bitmap: NotificationBitmap::new(8),
        };
        bench.simple(Request::NotificationBind(bind)).unwrap();
        assert_eq!(
            bench.simple(Request::NotificationBind(bind)),
            refused(ErrorCode::DENIED)
        );
        bench.enable(VM).unwrap();
        assert!(bench.spmc.post(VM));
        for _ in 0..2 {
            let lists = read(bench.call(list)).unwrap();
            assert!(lists.iter().map(|list| list.endpoint).eq([VM]));
        }
        assert_eq!(
            bench.simple(Request::NotificationUnbind(bind)),
            refused(ErrorCode::DENIED)
        );
        let flags = NotificationGetFlags::SECURE_PARTITIONS;
        let get = NotificationGet {
            receiver: VM,
            vcpu: VcpuId::new(0),
            flags,
        };
        let answer = bench.call(Request::NotificationGet(get));
        let got = NotificationGetAnswer::read(&answer, V1_2, flags).unwrap();
        assert_eq!(got.secure_partitions.get(), 8);
        assert_eq!(read(bench.call(list)), refused(ErrorCode::NO_DATA));
        bench.simple(Request::NotificationUnbind(bind)).unwrap();
        bench
            .simple(Request::NotificationBitmapDestroy(VM))
            .unwrap();
        assert_eq!(bench.spmc.traps(), []);
    }
}
