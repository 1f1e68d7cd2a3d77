// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The FF-A driver of a guest, as Linux has it: a version, two buffers, and shared memory for messages.

extern crate std;

use super::guest::Guest;
use super::machine::FakeHost;
use super::ram::RAM_BASE;
use crate::Mediator;
use crate::addr::{Ipa, PAGE_SIZE};
use crate::ffa::{Answer, GuestRegisters};
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use ffa_proto::answer::{read_success, read_version};
use ffa_proto::call::{
    DirectAnswer, DirectMessage, MemFragTx, MemReclaim, MemReclaimFlags, MemSend, MemSendAnswer,
    MemSendKind, Payload, RxtxMap,
};
use ffa_proto::memory::{
    AccessSize, DescriptorWriter, MemoryAttributes, MemoryRange, Receiver, Transaction,
    TransactionFlags,
};
use ffa_proto::{
    AnswerError, EndpointId, ErrorCode, FunctionId, Handle, Registers, Request, Version, Width,
};
use optee_proto::Return;
use optee_proto::ffa::{self, Service, Status, Words};
use optee_proto::rpc::Function;

/// The number of pages of each buffer.
const BUFFER_PAGES: u8 = 16;

/// The most times that a call is repeated.
const MAX_REPEATS: usize = 10_000;

/// What the driver has set up.
#[derive(Debug)]
pub struct Driver {
    /// The version that it has agreed on.
    pub version: Version,
    tx: Ipa,
    /// The objects that messages are in: the page, and the handle.
    messages: spin::Mutex<BTreeMap<u64, u64>>,
}

impl Driver {
    pub(super) fn begin(&self, guest: &Guest<'_>, at: Ipa) -> [u64; 4] {
        let page = at.page();
        let known = self.messages.lock().get(&page.get()).copied();
        let handle = match known.map_or_else(|| guest.share(&[page]), Ok) {
            Ok(handle) => handle,
            Err(_) => return [Return::ENOMEM.get(), 0, 0, 0],
        };
        self.messages.lock().insert(page.get(), handle);
        guest.begin_at(handle, at.page_offset() as u32)
    }
}

impl<'a> Guest<'a> {
    /// Creates a guest with an FF-A driver. Its buffers are before the last of its pages.
    ///
    /// # Panics
    /// When the mediator refuses what the driver sets up, unless an earlier guest of the VM has done that.
    pub fn over_ffa(host: &'a FakeHost, mediator: &'a Mediator) -> Self {
        Self::with_version(host, mediator, Version::V1_2)
    }

    /// Creates a guest with an FF-A driver of this version: 1.1 or 1.2.
    ///
    /// # Panics
    /// As [`Guest::over_ffa`].
    pub fn with_version(host: &'a FakeHost, mediator: &'a Mediator, version: Version) -> Self {
        let buffers = 2 * u64::from(BUFFER_PAGES);
        let tx = RAM_BASE + (host.pages() - 1 - buffers) * PAGE_SIZE;
        let driver = Driver {
            version,
            tx: Ipa::new(tx),
            messages: spin::Mutex::new(BTreeMap::new()),
        };
        let mut guest = Self::new(host, mediator);
        guest.driver = Some(driver);
        let answer = guest.ask(&Request::Version(version.to_w()));
        assert!(read_version(&answer).is_ok_and(|found| found >= version));
        let map = guest.done(&Request::RxtxMap(RxtxMap {
            width: Width::Smc64,
            tx,
            rx: tx + u64::from(BUFFER_PAGES) * PAGE_SIZE,
            pages: BUFFER_PAGES,
        }));
        assert!(matches!(map, Ok(()) | Err(ErrorCode::DENIED)), "{map:?}");
        guest
    }

    /// Takes the memory of messages back.
    ///
    /// # Panics
    /// When a message is in use.
    pub fn forget_messages(&self) {
        let messages = core::mem::take(&mut *self.driver().messages.lock());
        for handle in messages.into_values() {
            // OP-TEE does not use it, so there is nothing to unregister.
            assert_eq!(self.reclaim(handle), Ok(()));
        }
    }

    /// Forgets the memory of messages: the VM has begun again.
    pub(super) fn forget_driver(&self) {
        self.driver().messages.lock().clear();
    }

    fn driver(&self) -> &Driver {
        self.driver.as_ref().expect("a guest over FF-A")
    }

    /// Returns the VM's id for the framework.
    pub const fn id(&self) -> EndpointId {
        EndpointId::new(self.host.vm())
    }

    /// Returns the address of the TX buffer.
    ///
    /// # Panics
    /// Without a driver.
    pub fn tx(&self) -> Ipa {
        self.driver().tx
    }

    /// Makes one call, again as long as that is the answer, and checks that no secret comes back.
    ///
    /// # Panics
    /// When the call is to be repeated for ever.
    pub fn call(&self, call: &Registers) -> Registers {
        let regs = call.to_18();
        self.host.machine().note_ffa_registers(&regs);
        for _ in 0..MAX_REPEATS {
            let (mut x, mut more) = (call.to_8(), [0; 10]);
            more.copy_from_slice(&regs[8..]);
            let registers = GuestRegisters {
                x: &mut x,
                more: &mut more,
            };
            if self.mediator.ffa(self.host, registers) == Answer::Repeat {
                assert_eq!((&x[..], &more[..]), regs.split_at(8));
                // Whoever has what is missing may wait for this CPU.
                std::thread::yield_now();
                continue;
            }
            let mut all = [0; 18];
            all[..8].copy_from_slice(&x);
            // Answers that have only eight registers leave the others as they were.
            let is_short = FunctionId::from_x0(x[0]).width() == Width::Smc32;
            if is_short {
                assert_eq!(more, regs[8..]);
            } else if more != regs[8..] {
                all[8..].copy_from_slice(&more);
            }
            let answer = Registers::from_18(all);
            self.host.machine().check_ffa_registers(&answer);
            return answer;
        }
        panic!("{call:?} is repeated for ever");
    }

    /// Makes a call.
    pub fn ask(&self, request: &Request) -> Registers {
        self.call(&request.encode())
    }

    /// Makes a call that is answered by success or a code.
    ///
    /// # Errors
    /// The code.
    ///
    /// # Panics
    /// When the answer is another.
    pub fn done(&self, request: &Request) -> Result<(), ErrorCode> {
        read_success(&self.ask(request), Version::V1_2).map_err(code)
    }

    /// Makes a direct request to OP-TEE, and returns w3 to w7 of the answer.
    ///
    /// # Errors
    /// The code by which the call is refused.
    ///
    /// # Panics
    /// When the answer is neither.
    pub fn request(&self, words: Words) -> Result<Words, ErrorCode> {
        let message = DirectMessage {
            source: self.id(),
            destination: crate::fake::spmc::PARTITION,
            framework: None,
            payload: Payload::Smc32(words),
        };
        let answer = self.ask(&Request::DirectRequest(message));
        match message.read_answer(&answer, Version::V1_2).map_err(code)? {
            DirectAnswer::Message(Payload::Smc32(words)) => Ok(words),
            other => panic!("{other:?}"),
        }
    }

    /// Begins a call whose message is at an offset of an object. Returns what an SMC would.
    pub fn begin_at(&self, handle: u64, offset: u32) -> [u64; 4] {
        let [low, high] = ffa::pair(handle);
        let words = [Service::CALL_WITH_ARG.get(), low, high, offset, 0];
        self.request(words)
            .map_or([Return::EBADADDR.get(), 0, 0, 0], registers)
    }

    pub(super) fn resume_by_ffa(&self, token: u64) -> [u64; 4] {
        let words = [Service::RESUME.get(), 0, 0, 0, token as u32];
        self.request(words)
            .map_or([Return::ERESUME.get(), 0, 0, 0], registers)
    }

    /// Writes the descriptor of some pages, and returns it.
    ///
    /// # Panics
    /// When the pages are no memory.
    pub fn descriptor(&self, pages: &[Ipa]) -> Vec<u8> {
        let head = Transaction {
            sender: self.id(),
            attributes: MemoryAttributes::NORMAL_WRITE_BACK_INNER,
            flags: TransactionFlags::empty(),
            handle: Handle::NONE,
            tag: 0,
        };
        let size = if self.driver().version >= Version::V1_2 {
            AccessSize::Long
        } else {
            AccessSize::Short
        };
        let receivers = [Receiver::read_write(crate::fake::spmc::PARTITION)];
        let mut bytes = vec![0; 128 + 16 * pages.len()];
        let mut writer = DescriptorWriter::new(&mut bytes, &head, size, &receivers).expect("room");
        for page in pages {
            let range = MemoryRange::new(page.get(), 1).expect("a page");
            writer.push(range).expect("room");
        }
        let length = writer.finish().expect("room") as usize;
        bytes.truncate(length);
        bytes
    }

    /// Shares memory with OP-TEE by one descriptor, and returns its handle.
    ///
    /// # Errors
    /// The code by which the call is refused.
    pub fn share(&self, pages: &[Ipa]) -> Result<u64, ErrorCode> {
        let bytes = self.descriptor(pages);
        self.send_descriptor(&bytes, bytes.len())
    }

    /// Shares memory by a descriptor in fragments of this many bytes, and returns its handle.
    ///
    /// # Errors
    /// The code by which a call is refused.
    ///
    /// # Panics
    /// When an answer is none.
    pub fn send_descriptor(&self, bytes: &[u8], fragment: usize) -> Result<u64, ErrorCode> {
        let mut answer = self.send_first(bytes, fragment);
        let mut sent = fragment.min(bytes.len());
        loop {
            match MemSendAnswer::read(&answer, Version::V1_2).map_err(code)? {
                MemSendAnswer::Done(handle) => return Ok(handle.get()),
                MemSendAnswer::Continue(next) => {
                    assert_eq!(next.offset as usize, sent);
                    let part = &bytes[sent..bytes.len().min(sent + fragment)];
                    sent += part.len();
                    answer = self.send_next(next.handle, part);
                }
            }
        }
    }

    /// Sends the first fragment of a descriptor.
    pub fn send_first(&self, bytes: &[u8], fragment: usize) -> Registers {
        let first = &bytes[..fragment.min(bytes.len())];
        self.host.poke(self.tx(), first);
        self.ask(&Request::MemSend(MemSend {
            kind: MemSendKind::Share,
            width: Width::Smc32,
            total_length: bytes.len() as u32,
            fragment_length: first.len() as u32,
            buffer: None,
        }))
    }

    /// Sends a further fragment.
    pub fn send_next(&self, handle: Handle, part: &[u8]) -> Registers {
        self.host.poke(self.tx(), part);
        self.ask(&Request::MemFragTx(MemFragTx {
            handle,
            length: part.len() as u32,
            // Linux says nothing here.
            sender: EndpointId::HYPERVISOR,
        }))
    }

    /// Has OP-TEE end its use of shared memory.
    ///
    /// # Errors
    /// The code by which the call is refused.
    pub fn unregister_shm(&self, handle: u64) -> Result<Status, ErrorCode> {
        let [low, high] = ffa::pair(handle);
        let words = self.request([Service::UNREGISTER_SHM.get(), low, high, 0, 0])?;
        Ok(Status::from_w(words[0]))
    }

    /// Takes shared memory back.
    ///
    /// # Errors
    /// The code by which the call is refused.
    pub fn reclaim(&self, handle: u64) -> Result<(), ErrorCode> {
        self.done(&Request::MemReclaim(MemReclaim {
            handle: Handle::new(handle),
            flags: MemReclaimFlags::empty(),
        }))
    }

    /// Has OP-TEE end its use of shared memory, and takes it back.
    ///
    /// # Errors
    /// The code by which one of the calls is refused.
    pub fn unshare(&self, handle: u64) -> Result<(), ErrorCode> {
        match self.unregister_shm(handle)? {
            Status::OK => self.reclaim(handle),
            _ => Err(ErrorCode::BUSY),
        }
    }
}

/// Returns the code of a refusal.
fn code(error: AnswerError) -> ErrorCode {
    match error {
        AnswerError::Refused(code) => code,
        other => panic!("{other}"),
    }
}

/// Returns what an SMC would return with.
fn registers(words: Words) -> [u64; 4] {
    match ffa::Return::read(&words) {
        Ok(ffa::Return::Done) => [Return::OK.get(), 0, 0, 0],
        Ok(ffa::Return::RpcCommand(token)) => [Function::CMD.a0(), 0, 0, token.into()],
        Ok(ffa::Return::Interrupt(token)) => [Function::FOREIGN_INTR.a0(), 0, 0, token.into()],
        Err(Status::TEE_BUSY) => [Return::ETHREAD_LIMIT.get(), 0, 0, 0],
        Err(Status::TEE_BAD_PARAMETERS) => [Return::EBADADDR.get(), 0, 0, 0],
        Err(Status::TEE_OUT_OF_MEMORY) => [Return::ENOMEM.get(), 0, 0, 0],
        Err(_) => [Return::ENOTAVAIL.get(), 0, 0, 0],
    }
}
