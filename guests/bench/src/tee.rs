// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Measures calls into OP-TEE.

use crate::foreign;
use crate::meter::{self, Meter, failed};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Debug;
use guest_bare::machine::at_el2;
use guest_bare::pages::Pages;
use guest_bare::tee::message::{rmem, value};
use guest_bare::tee::{Act, Client, Message, PageList, Supplicant, apps, cpio};
use optee_proto::msg::{Attr, Param};
use optee_proto::{FunctionId, TeeResult, smc};

/// The VM's number in OP-TEE when the program replaces the hypervisor.
const VM: u64 = 1;
/// The rounds of short calls.
const ROUNDS: usize = 4;
/// A function that `invoke_tests.pta` does not have. It reads the number but no parameter, while
/// the work of OP-TEE and hypervisor is the same as for any function.
const NO_FUNCTION: u32 = 0x1234;
/// A session ID that OP-TEE never assigns: it counts up from one.
const NO_SESSION: u32 = 0x7fff_0000;
/// The cookie of the first buffer.
const COOKIE: u64 = 0x00be_0000_0000_0001;
/// The bytes of each memory reference.
const PASSED: u64 = 64;
/// The sizes of the registered buffers in pages.
const BUFFERS: [usize; 7] = [1, 16, 128, 256, 1024, 4096, 16_384];
/// The rounds of each buffer.
const BUFFER_ROUNDS: usize = 2;

/// Converts an error to text.
///
/// # Errors
/// Fails with the error as text.
pub fn text<T, E: Debug>(result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| format!("{error:?}"))
}

/// The state of the measurements.
pub struct Bench<'a> {
    /// The counter of instructions.
    pub meter: &'a Meter,
    /// The client for calls.
    pub client: Client,
    /// The supplicant for OP-TEE's requests.
    pub supplicant: Supplicant,
}

/// Measures all of them.
pub fn measure(meter: &Meter) {
    let hypervisor = Client::new(meter::smc, 0);
    let client = hypervisor.with_a7(if at_el2() { VM } else { 0 });
    if at_el2() {
        let [code, ..] = hypervisor.fast(smc::VM_CREATED, VM);
        if code != 0 {
            return failed("tee", &format!("VM_CREATED says {code:#x}"));
        }
    }
    let bench = Bench {
        meter,
        client,
        supplicant: Supplicant::new(cpio::initrd()),
    };
    bench.fast();
    match text(client.open(&bench.supplicant, apps::TESTS)) {
        Ok(session) => {
            bench.invoke(session);
            foreign::measure(&bench, session);
        }
        Err(text) => failed("invoke", &text),
    }
    bench.rpc();
    for pages in BUFFERS {
        bench.buffer(pages);
    }
}

impl Bench<'_> {
    fn fast(&self) {
        self.meter.measure("calls-uid", ROUNDS, || {
            match self.client.fast(smc::CALLS_UID, 0)[0] {
                0xffff_ffff => Err("there is no OP-TEE".into()),
                _ => Ok(()),
            }
        });
    }

    /// Sends one message repeatedly. OP-TEE's answer in it is the same each time.
    fn again(&self, name: &str, message: &Message, wanted: TeeResult) {
        self.again_by(smc::CALL_WITH_ARG, name, message, wanted);
    }

    /// Sends one message repeatedly by one of the two functions that take an address.
    fn again_by(&self, id: FunctionId, name: &str, message: &Message, wanted: TeeResult) {
        self.meter.measure(name, ROUNDS, || {
            // Only the result is compared; it may be an error.
            let sent = self
                .client
                .call_by(id, message, &self.supplicant, |_| Act::Default);
            let result = message.view().ret();
            if result == wanted {
                Ok(())
            } else {
                Err(format!("{sent:?}, result {result:?}"))
            }
        });
    }

    fn invoke(&self, session: u32) {
        let plain = Message::invoke(session, NO_FUNCTION, &[]);
        self.again("invoke", &plain, TeeResult::BAD_PARAMETERS);
        let nowhere = Message::invoke(NO_SESSION, NO_FUNCTION, &[]);
        self.again("invoke-no-session", &nowhere, TeeResult::BAD_PARAMETERS);

        let values = [value(Attr::VALUE_INOUT, 42, 0); 4];
        let values = Message::invoke(session, NO_FUNCTION, &values);
        self.again("invoke-values", &values, TeeResult::BAD_PARAMETERS);

        let buffers: Vec<Pages> = (0..4).map(|_| Pages::take(1)).collect();
        let cookies = (0..4).map(|index| COOKIE + index);
        let registered: Result<(), _> =
            cookies
                .clone()
                .zip(&buffers)
                .try_for_each(|(cookie, buffer)| {
                    self.client
                        .register(&self.supplicant, cookie, &PageList::of(buffer))
                });
        match text(registered) {
            Ok(()) => {
                let memrefs: Vec<Param> = cookies
                    .map(|cookie| rmem(Attr::RMEM_INOUT, 0, PASSED, cookie))
                    .collect();
                let memrefs = Message::invoke(session, NO_FUNCTION, &memrefs);
                self.again("invoke-memrefs", &memrefs, TeeResult::BAD_PARAMETERS);
            }
            Err(text) => failed("invoke-memrefs", &text),
        }
    }

    /// `stats.pta` asks the normal world for the time once.
    fn rpc(&self) {
        match text(self.client.open(&self.supplicant, apps::STATS)) {
            Ok(session) => {
                let times: [Param; 2] = [value(Attr::VALUE_OUTPUT, 0, 0); 2];
                let message = Message::invoke(session, apps::STATS_TIME, &times);
                let id = smc::CALL_WITH_RPC_ARG;
                self.again_by(id, "invoke-rpc", &message, TeeResult::SUCCESS);
                // With two more RPCs, for the memory of the first one's message.
                self.again("invoke-rpc-alloc", &message, TeeResult::SUCCESS);
            }
            Err(text) => failed("invoke-rpc", &text),
        }
    }

    fn buffer(&self, pages: usize) {
        let register = format!("register-{pages}");
        let unregister = format!("unregister-{pages}");
        let Some(buffer) = Pages::try_take(pages) else {
            return failed(&register, "the program has not so much memory");
        };
        let list = PageList::of(&buffer);
        let cookie = COOKIE + pages as u64 * 16;
        let parts = [register.as_str(), unregister.as_str()];
        self.meter.measure_parts(parts, BUFFER_ROUNDS, || {
            meter::take();
            text(self.client.register(&self.supplicant, cookie, &list))?;
            let there = meter::take();
            text(self.client.unregister(&self.supplicant, cookie))?;
            Ok([there, meter::take()])
        });
    }
}
