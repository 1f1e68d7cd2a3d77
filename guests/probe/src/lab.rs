// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Functions that the experiments share.

use alloc::format;
use alloc::string::String;
use guest_bare::smccc;
use guest_bare::tee::client::Failure;
use guest_bare::tee::{
    Act, Client, Message, Outcome, Step, Supplicant, Suspended, apps, cpio, files, supplicant,
};
use optee_proto::msg::login;
use optee_proto::{Return, Uuid, rpc, smc};

/// The test bench: the hypervisor's view of OP-TEE, and a supplicant.
pub struct Lab {
    /// The supplicant, which answers RPCs.
    pub supplicant: Supplicant,
}

fn conduit(args: [u64; 8]) -> [u64; 8] {
    let mut back = [0; 8];
    back.copy_from_slice(&smccc::smc(args)[..8]);
    back
}

/// Returns the client with this a7.
pub fn client(a7: u64) -> Client {
    Client::new(conduit, a7)
}

/// Returns the client of the hypervisor itself: a7 = 0.
pub fn hypervisor() -> Client {
    client(0)
}

impl Lab {
    /// Returns a test bench.
    pub fn new() -> Self {
        Self {
            supplicant: Supplicant::new(cpio::initrd()),
        }
    }

    /// Opens a session.
    pub fn open(&self, a7: u64, app: Uuid) -> Result<u32, Failure> {
        client(a7).open(&self.supplicant, app)
    }

    /// Begins to open a session and leaves the call at the first RPC of this command.
    pub fn open_until(
        &self,
        a7: u64,
        app: Uuid,
        stop: rpc::Command,
    ) -> (Message, Result<Suspended, Failure>) {
        let message = Message::open(app, login::PUBLIC, &[]);
        let result = self.run_until(a7, &message, stop);
        (message, result)
    }

    /// Begins a call and leaves it at the first RPC of this command.
    pub fn run_until(
        &self,
        a7: u64,
        message: &Message,
        stop: rpc::Command,
    ) -> Result<Suspended, Failure> {
        let supplicant = self.supplicant.with_message(message);
        let result = client(a7).call_by(smc::CALL_WITH_ARG, message, &self.supplicant, |call| {
            if supplicant.command(call) == Some(stop) {
                Act::Park
            } else {
                Act::Default
            }
        });
        match result {
            Err(Failure::Parked(call)) => Ok(call),
            Err(other) => Err(other),
            Ok(()) => Err(Failure::Smc(Return::OK)),
        }
    }

    /// Ends a call that was left, with ordinary answers.
    pub fn finish(&self, a7: u64, message: &Message, call: &Suspended) -> Result<(), Failure> {
        self.go_on(a7, message, call, |_, _| Act::Default)
    }

    /// Continues a call that was left, up to the next RPC of this command.
    pub fn go_on_until(
        &self,
        a7: u64,
        message: &Message,
        call: &Suspended,
        stop: rpc::Command,
    ) -> Result<(), Failure> {
        self.go_on(a7, message, call, |supplicant, call| {
            if supplicant.command(call) == Some(stop) {
                Act::Park
            } else {
                Act::Default
            }
        })
    }

    fn go_on(
        &self,
        a7: u64,
        message: &Message,
        call: &Suspended,
        hook: impl Fn(&Supplicant, &Suspended) -> Act,
    ) -> Result<(), Failure> {
        let supplicant = self.supplicant.with_message(message);
        let client = client(a7);
        let answer = supplicant.answer(call);
        let step = client.resume(call, answer);
        let outcome = client.run(step, &supplicant, |call| hook(&supplicant, call));
        match outcome {
            Outcome::Done(Return::OK) if message.view().ret().0 == 0 => Ok(()),
            Outcome::Done(Return::OK) => Err(Failure::Tee(message.view().ret())),
            Outcome::Done(code) => Err(Failure::Smc(code)),
            Outcome::Parked(call) => Err(Failure::Parked(call)),
        }
    }

    /// Returns whether a VM's calls work: a PTA adds two numbers.
    pub fn works(&self, a7: u64) -> bool {
        let client = client(a7);
        let Ok(session) = client.open(&self.supplicant, apps::TESTS) else {
            return false;
        };
        let sum = apps::add(&client, &self.supplicant, session, 40, 2);
        client.close(&self.supplicant, session).is_ok() && sum == Ok(42)
    }
}

/// Calls VM_CREATED.
pub fn create(id: u64) -> Code {
    Code(hypervisor().fast(smc::VM_CREATED, id)[0])
}

/// Calls VM_DESTROYED.
pub fn destroy(id: u64) -> Code {
    supplicant::forget_all();
    files::clear();
    Code(hypervisor().fast(smc::VM_DESTROYED, id)[0])
}

/// A code in a0.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Code(pub u64);

impl core::fmt::Display for Code {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let text = match self.0 as u32 {
            0 => "OK",
            1 => "ETHREAD_LIMIT",
            2 => "EBUSY",
            3 => "ERESUME",
            4 => "EBADADDR",
            5 => "EBADCMD",
            6 => "ENOMEM",
            7 => "ENOTAVAIL",
            u32::MAX => "UNKNOWN_FUNCTION",
            other => return write!(f, "{other:#x}"),
        };
        f.write_str(text)
    }
}

/// Describes the result of a call.
pub fn describe<T>(result: &Result<T, Failure>) -> String {
    match result {
        Ok(_) => "success".into(),
        Err(Failure::Smc(code)) => format!("{}", Code(code.get())),
        Err(Failure::Tee(result)) => match result.0 {
            0xffff_0001 => "ACCESS_DENIED".into(),
            0xffff_0006 => "BAD_PARAMETERS".into(),
            0xffff_0008 => "ITEM_NOT_FOUND".into(),
            0xffff_000a => "NOT_SUPPORTED".into(),
            0xffff_000c => "OUT_OF_MEMORY".into(),
            0xffff_000d => "BUSY".into(),
            0xffff_000f => "SECURITY".into(),
            0xffff_0010 => "SHORT_BUFFER".into(),
            0xffff_3024 => "TARGET_DEAD".into(),
            other => format!("result {other:#x}"),
        },
        Err(Failure::Parked(call)) => format!("suspended in RPC function {}", call.function.get()),
    }
}

/// Describes the result of one step.
pub fn describe_step(step: Step) -> String {
    match step {
        Step::Done(code) => format!("{}", Code(code.get())),
        Step::Rpc(call) => format!("RPC function {}", call.function.get()),
    }
}
