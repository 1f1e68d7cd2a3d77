// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The means of attacks.

use crate::attack::{holds, same};
use alloc::format;
use alloc::string::String;
use core::fmt::Debug;
use core::sync::atomic::{AtomicU64, Ordering};
use guest_bare::PAGE_SIZE;
use guest_bare::gic::Gic;
use guest_bare::machine::machine;
use guest_bare::pages::Pages;
use guest_bare::smccc;
use guest_bare::tee::client::Failure;
use guest_bare::tee::message::rmem;
use guest_bare::tee::{Act, Client, Message, Outcome, PageList, Step, Supplicant, Suspended, apps};
use optee_proto::msg::{Attr, Param};
use optee_proto::smc::CALL_WITH_ARG;
use optee_proto::{FunctionId, Origin, Return, TeeResult};
use postern_smccc::vendor::MEM_RELINQUISH;

/// The result of `relinquish` when the pages were given back.
pub const GONE: i64 = 0;
/// The result of `relinquish` for a page that OP-TEE may be using.
pub const IN_USE: i64 = -2;

/// Returns a number that has not been a buffer's cookie.
pub fn fresh_cookie() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0x00c0_ffee_0000_0001);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Gives pages back to Postern; returns [`GONE`], [`IN_USE`] or another error.
pub fn relinquish(address: u64, pages: u64) -> i64 {
    let [x0, ..] = smccc::hvc([MEM_RELINQUISH.into(), address, pages, 0, 0, 0, 0, 0]);
    x0.cast_signed()
}

/// The result of a call: the SMC's code, or the message's result and its origin when the code is
/// OK.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Got {
    /// A code that says that the message was not processed.
    Code(Return),
    /// The message's result and its origin.
    Result(TeeResult, Origin),
    /// The call was left suspended.
    Parked(Suspended),
}

impl Got {
    /// Denied by the hypervisor: parameters that no honest guest passes.
    pub const BAD_PARAMETERS: Self = Self::Result(TeeResult::BAD_PARAMETERS, Origin::COMMS);
    /// Denied by the hypervisor: a range that exceeds the buffer.
    pub const SECURITY: Self = Self::Result(TeeResult::SECURITY, Origin::COMMS);
    /// Denied by the hypervisor: more than the VM's quota.
    pub const OUT_OF_MEMORY: Self = Self::Result(TeeResult::OUT_OF_MEMORY, Origin::COMMS);
    /// Denied by the hypervisor: the message is not at the given address.
    pub const EBADADDR: Self = Self::Code(Return::EBADADDR);
    /// Denied by the hypervisor: not a command for guests.
    pub const EBADCMD: Self = Self::Code(Return::EBADCMD);

    /// Returns whether the result is success, of whatever origin.
    pub fn is_success(self) -> bool {
        matches!(self, Self::Result(TeeResult::SUCCESS, _))
    }
}

/// The means of attacks: a client and a supplicant.
#[derive(Clone, Copy)]
pub struct Kit {
    /// The client for calls to the TEE.
    pub client: Client,
    /// The supplicant, which answers its RPCs.
    pub supplicant: Supplicant,
}

fn conduit(arguments: [u64; 8]) -> [u64; 8] {
    let [x0, x1, x2, x3, x4, x5, x6, x7, ..] = smccc::smc(arguments);
    [x0, x1, x2, x3, x4, x5, x6, x7]
}

impl Kit {
    /// Returns a kit with the applications of the initial RAM disk.
    pub fn new() -> Self {
        let archive = guest_bare::tee::cpio::initrd();
        Self {
            // A guest's value in a7 must not matter.
            client: Client::new(conduit, 0),
            supplicant: Supplicant::new(archive),
        }
    }

    /// Makes a whole call; its RPCs are answered as Linux would.
    pub fn send(&self, message: &Message) -> Got {
        self.send_hooked(message, |_| Act::Default)
    }

    /// Makes a whole call; `hook` sees its RPCs first.
    pub fn send_hooked(&self, message: &Message, hook: impl FnMut(&Suspended) -> Act) -> Got {
        self.send_by(CALL_WITH_ARG, message, hook)
    }

    /// Makes a whole call by one of the two functions that take an address.
    pub fn send_by(
        &self,
        id: FunctionId,
        message: &Message,
        hook: impl FnMut(&Suspended) -> Act,
    ) -> Got {
        self.go_on(message, self.client.begin(id, message), hook)
    }

    /// Continues a call from a step to its end.
    pub fn go_on(&self, message: &Message, step: Step, hook: impl FnMut(&Suspended) -> Act) -> Got {
        let supplicant = self.supplicant.with_message(message);
        Self::got(message, self.client.run(step, &supplicant, hook))
    }

    /// Continues a parked call to its end, as Linux would.
    pub fn finish(&self, message: &Message, call: &Suspended) -> Got {
        self.finish_hooked(message, call, |_| Act::Default)
    }

    /// Continues a parked call: `hook` first sees the RPC at which it is parked.
    pub fn finish_hooked(
        &self,
        message: &Message,
        call: &Suspended,
        hook: impl FnMut(&Suspended) -> Act,
    ) -> Got {
        self.go_on(message, Step::Rpc(*call), hook)
    }

    fn got(message: &Message, outcome: Outcome) -> Got {
        match outcome {
            Outcome::Done(Return::OK) => Got::Result(message.view().ret(), message.view().origin()),
            Outcome::Done(code) => Got::Code(code),
            Outcome::Parked(call) => Got::Parked(call),
        }
    }

    /// Begins a call with `address` as the address of its message.
    pub fn send_at(&self, address: u64) -> Return {
        let (upper, lower) = optee_proto::smc::pair(address);
        let [a0, ..] = self.client.smc(CALL_WITH_ARG, [upper, lower, 0, 0, 0, 0]);
        Return::from_x0(a0)
    }

    /// Opens a session to OP-TEE's own test application.
    pub fn open_tests(&self) -> Result<u32, String> {
        self.client
            .open(&self.supplicant, apps::TESTS)
            .map_err(|why| failure("open invoke_tests.pta", why))
    }

    /// Closes a session.
    pub fn close(&self, session: u32) -> Result<(), String> {
        self.client
            .close(&self.supplicant, session)
            .map_err(|why| failure("close a session", why))
    }

    /// Runs `work` with a session to OP-TEE's own test application.
    pub fn with_tests<T>(&self, work: impl FnOnce(u32) -> Result<T, String>) -> Result<T, String> {
        let session = self.open_tests()?;
        let done = work(session);
        // The first error is reported; a session that does not close shows in the counters.
        let closed = self.close(session);
        let done = done?;
        closed.map(|()| done)
    }

    /// Registers pages under a new cookie.
    pub fn share(&self, count: usize) -> Result<Shared<'_>, String> {
        let pages = Pages::take(count);
        let cookie = fresh_cookie();
        let list = PageList::of(&pages);
        let got = self.send(&Message::register(cookie, &list));
        holds(
            got.is_success(),
            &format!("register {count} pages: {got:?}"),
        )?;
        Ok(Shared {
            kit: self,
            cookie,
            pages,
        })
    }

    /// Unregisters a cookie.
    pub fn unregister(&self, cookie: u64) -> Got {
        self.send(&Message::unregister(cookie))
    }

    /// Makes OP-TEE add up the bytes in part of a buffer; it writes the sum into the first of them.
    pub fn sum(&self, session: u32, cookie: u64, offset: u64, size: u64) -> Got {
        let param = rmem(Attr::RMEM_INOUT, offset, size, cookie);
        self.send(&Message::invoke(session, apps::TESTS_PARAMS, &[param]))
    }

    /// Passes one parameter to OP-TEE's test application.
    pub fn try_param(&self, session: u32, param: Param) -> Got {
        self.send(&Message::invoke(session, apps::TESTS_PARAMS, &[param]))
    }

    /// Checks that the TEE serves this VM: a session, a buffer that OP-TEE reads and writes, and
    /// the end of both.
    pub fn alive(&self) -> Result<(), String> {
        self.with_tests(|session| {
            let sum = apps::add(&self.client, &self.supplicant, session, 40, 2)
                .map_err(|why| failure("add", why))?;
            same("40 + 2", &sum, &42)?;
            let shared = self.share(1)?;
            shared.check(session)?;
            shared.unshare()
        })
    }
}

/// Describes a failure.
pub fn failure(what: &str, why: impl Debug) -> String {
    format!("{what}: {why:?}")
}

/// Registered pages.
pub struct Shared<'k> {
    kit: &'k Kit,
    /// The buffer's cookie.
    pub cookie: u64,
    /// The pages.
    pub pages: Pages,
}

impl Shared<'_> {
    /// Makes OP-TEE read and write the first page.
    ///
    /// # Errors
    /// Fails when OP-TEE does not see these pages.
    pub fn check(&self, session: u32) -> Result<(), String> {
        check_bytes(self.kit, session, self.cookie, &self.pages)
    }

    /// Checks that Postern knows that OP-TEE may use the first page.
    ///
    /// # Errors
    /// Fails when Postern lets the page be given back.
    pub fn check_pinned(&self) -> Result<(), String> {
        let answer = relinquish(self.pages.address(), 1);
        same("relinquish a registered page", &answer, &IN_USE)
    }

    /// Unregisters the pages.
    ///
    /// # Errors
    /// Fails when OP-TEE does not unregister them.
    pub fn unshare(self) -> Result<(), String> {
        let got = self.kit.unregister(self.cookie);
        holds(got.is_success(), &format!("unregister: {got:?}"))
    }
}

/// Makes OP-TEE read and write the first bytes of a buffer that begins at the start of `pages`.
///
/// # Errors
/// Fails when OP-TEE does not see these pages.
pub fn check_bytes(kit: &Kit, session: u32, cookie: u64, pages: &Pages) -> Result<(), String> {
    pages.write(0, &[1, 2, 3, 4, 5, 6, 7, 8]);
    let got = kit.sum(session, cookie, 0, 8);
    holds(got.is_success(), &format!("use a buffer: {got:?}"))?;
    let mut bytes = [0; 8];
    pages.read(0, &mut bytes);
    same("what OP-TEE wrote", &bytes, &[36, 2, 3, 4, 5, 6, 7, 8])
}

/// An address without RAM of this VM.
pub struct BadAddress {
    /// What is at the address.
    pub what: &'static str,
    /// The address, a multiple of the page size.
    pub address: u64,
}

/// Returns page-aligned addresses that are not RAM of this VM.
pub fn bad_addresses() -> [BadAddress; 14] {
    let ram = machine().ram;
    let bad = |what, address| BadAddress { what, address };
    let interrupts = match machine().gic {
        Gic::V2(interface) => bad("CPU interface", interface.0),
        Gic::V3(redistributors) => bad("redistributor", redistributors.0),
    };
    [
        bad("zero", 0),
        bad("distributor", machine().distributor),
        interrupts,
        bad("UART", machine().uart.unwrap_or_default()),
        bad("secure UART", 0x0904_0000),
        bad("secure RAM", 0x0e10_0000),
        bad("hypervisor", 0x4020_0000),
        bad("OP-TEE's static memory", 0x4200_0000),
        bad("a boot module", 0x4800_0000),
        bad("another VM's RAM", 0x9000_0000),
        bad("below RAM", ram.start - PAGE_SIZE),
        bad("behind RAM", ram.end),
        bad("behind the IPA space", 1 << 40),
        bad("nowhere", !(PAGE_SIZE - 1)),
    ]
}

/// Converts a failure of the client, for attacks that use it directly.
pub fn of_client<T>(what: &str, result: Result<T, Failure>) -> Result<T, String> {
    result.map_err(|why| failure(what, why))
}
