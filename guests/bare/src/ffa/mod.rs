// SPDX-License-Identifier: Apache-2.0 OR MIT
//! FF-A (DEN0077A) for bare-metal programs: calls with each register under the program's control, memory descriptors
//! that may be wrong on purpose, and a client of OP-TEE.
//!
//! It works as a guest of Postern's at EL1, where addresses are IPAs, and at EL2 on the bare machine, where they are
//! physical and the sender's id is of the program's choice.
//!
//! * [`descriptor`]: memory transaction descriptors.
//! * [`tee`]: calls to OP-TEE, step by step or whole, with a supplicant.

pub mod descriptor;
pub mod tee;

use crate::pages::Pages;
use crate::smccc;
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;
use ffa_proto::{ErrorCode, Width};
use optee_proto::ffa::{Words, unpair};
use spin::{Mutex, Once};

pub use descriptor::Descriptor;
pub use ffa_proto::Function;
pub use tee::{Shared, Tee};

/// OP-TEE's partition, as OP-TEE 4.10 numbers it.
pub const OPTEE: u16 = 0x8001;
/// The SPMC.
pub const SPMC: u16 = 0x8000;
/// The version that programs speak: 1.2.
pub const VERSION: u64 = 0x1_0002;

/// An SMC: x0..x7 in, x0..x7 out.
pub type Conduit = fn([u64; 8]) -> [u64; 8];

/// Makes an SMC with x0..x7.
pub fn smc(registers: [u64; 8]) -> [u64; 8] {
    let [x0, x1, x2, x3, x4, x5, x6, x7, ..] = smccc::smc(registers);
    [x0, x1, x2, x3, x4, x5, x6, x7]
}

/// Returns the id of a function's 32-bit form.
pub const fn id(function: Function) -> u64 {
    ffa_proto::FunctionId::new(function, Width::Smc32).get() as u64
}

/// Returns the id of a function's 64-bit form.
pub const fn id64(function: Function) -> u64 {
    ffa_proto::FunctionId::new(function, Width::Smc64).get() as u64
}

/// The registers x0..x7 of an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Answer(pub [u64; 8]);

impl Answer {
    /// Returns wN, the low half of xN.
    pub const fn w(&self, number: usize) -> u32 {
        self.0[number] as u32
    }

    /// Returns the error, where it is one.
    pub fn error(&self) -> Option<ErrorCode> {
        (u64::from(self.w(0)) == id(Function::Error)).then(|| ErrorCode::from_w(self.w(2)))
    }

    /// Returns whether it is SUCCESS, of either form.
    pub fn is_success(&self) -> bool {
        let w0 = u64::from(self.w(0));
        w0 == id(Function::Success) || w0 == id64(Function::Success)
    }

    /// Returns w3 to w7, where it answers a direct request.
    pub fn direct(&self) -> Option<Words> {
        (u64::from(self.w(0)) == id(Function::MsgSendDirectResp))
            .then(|| core::array::from_fn(|index| self.w(index + 3)))
    }

    /// Returns the handle in w2 and w3 of SUCCESS.
    pub fn handle(&self) -> Option<u64> {
        self.is_success().then(|| unpair(self.w(2), self.w(3)))
    }

    /// Returns w2 of SUCCESS as a number, otherwise what it is.
    pub fn value(&self) -> String {
        if self.is_success() {
            format!("{:#x}", self.w(2))
        } else {
            self.to_string()
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.error() {
            Some(code) => match code.name() {
                Some(name) => f.write_str(name),
                None => write!(f, "error {}", code.get()),
            },
            None if self.is_success() => f.write_str("SUCCESS"),
            None => match self.direct() {
                Some([w3, w4, w5, w6, w7]) => write!(f, "{w3:#x} {w4:#x} {w5:#x} {w6:#x} {w7:#x}"),
                None => write!(f, "w0 = {:#x}", self.w(0)),
            },
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Makes a call of the 32-bit form: w1 to w7.
pub fn call(function: Function, arguments: [u64; 7]) -> Answer {
    call_by(smc, id(function), arguments)
}

/// Makes a call: x0, and x1 to x7.
pub fn call_by(conduit: Conduit, id: u64, [x1, x2, x3, x4, x5, x6, x7]: [u64; 7]) -> Answer {
    Answer(conduit([id, x1, x2, x3, x4, x5, x6, x7]))
}

/// Asks for the version `wanted`; returns w0.
pub fn version(wanted: u64) -> u32 {
    call(Function::Version, [wanted, 0, 0, 0, 0, 0, 0]).w(0)
}

/// Returns the id that the callee has for the program: zero in a hypervisor's place.
pub fn own_id() -> Answer {
    call(Function::IdGet, [0; 7])
}

/// The RX and TX buffers.
#[derive(Debug)]
pub struct Buffers {
    /// The callee writes it.
    pub rx: Pages,
    /// The program writes it, one CPU at a time.
    pub tx: Mutex<Pages>,
}

static BUFFERS: Once<Buffers> = Once::new();

/// Returns the buffers.
///
/// # Panics
/// There are none yet.
pub fn buffers() -> &'static Buffers {
    BUFFERS.get().expect("RXTX_MAP comes first")
}

/// Maps buffers of so many pages each, once for the program's life; returns the answer of the first time.
pub fn map_buffers(pages: usize) -> Answer {
    let mut answer = Answer([id(Function::Success), 0, 0, 0, 0, 0, 0, 0]);
    BUFFERS.call_once(|| {
        let (rx, tx) = (Pages::take(pages), Pages::take(pages));
        answer = map(tx.address(), rx.address(), pages as u64);
        Buffers {
            rx,
            tx: Mutex::new(tx),
        }
    });
    answer
}

/// Makes RXTX_MAP.
pub fn map(tx: u64, rx: u64, pages: u64) -> Answer {
    let arguments = [tx, rx, pages, 0, 0, 0, 0];
    call_by(smc, id64(Function::RxtxMap), arguments)
}

/// Gives the RX buffer back.
pub fn release() -> Answer {
    call(Function::RxRelease, [0; 7])
}

/// Who calls: the sender in descriptors and messages.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// The instruction.
    pub conduit: Conduit,
    /// The sender's id: at EL2 a VM's, which the program chooses.
    pub id: u16,
}

impl Endpoint {
    /// Returns the endpoint with this id.
    pub const fn new(id: u16) -> Self {
        Self { conduit: smc, id }
    }

    /// Sends a direct request of the 32-bit form to `receiver`, with w2 and w3 to w7.
    pub fn send(&self, receiver: u16, w2: u64, words: Words) -> Answer {
        let [w3, w4, w5, w6, w7] = words.map(u64::from);
        let w1 = u64::from(self.id) << 16 | u64::from(receiver);
        let arguments = [w1, w2, w3, w4, w5, w6, w7];
        call_by(self.conduit, id(Function::MsgSendDirectReq), arguments)
    }

    /// Sends a direct request to OP-TEE.
    pub fn direct(&self, words: Words) -> Answer {
        self.send(OPTEE, 0, words)
    }

    /// Shares what a descriptor names.
    pub fn send_memory(&self, function: Function, descriptor: &Descriptor) -> Answer {
        let bytes = descriptor.bytes();
        let length = bytes.len() as u64;
        self.send_bytes(function, &bytes, [length, length, 0, 0])
    }

    /// Puts bytes into the TX buffer, and makes a memory call with w1 to w4.
    ///
    /// # Panics
    /// They are longer than the buffer.
    pub fn send_bytes(&self, function: Function, bytes: &[u8], w: [u64; 4]) -> Answer {
        let tx = buffers().tx.lock();
        tx.write(0, bytes);
        let [w1, w2, w3, w4] = w;
        call_by(self.conduit, id(function), [w1, w2, w3, w4, 0, 0, 0])
    }

    /// Shares ranges, an address and a number of pages each, with OP-TEE.
    pub fn share(&self, ranges: &[(u64, u32)]) -> Answer {
        self.send_memory(Function::MemShare, &Descriptor::new(self.id, ranges))
    }

    /// Takes the memory of a handle back.
    pub fn reclaim(&self, handle: u64) -> Answer {
        self.reclaim_with(handle, 0)
    }

    /// Does so with flags.
    pub fn reclaim_with(&self, handle: u64, flags: u64) -> Answer {
        let (low, high) = (handle & 0xffff_ffff, handle >> 32);
        let arguments = [low, high, flags, 0, 0, 0, 0];
        call_by(self.conduit, id(Function::MemReclaim), arguments)
    }
}
