// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Measures calls into OP-TEE over FF-A.

use crate::meter::{self, Meter, failed};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use guest_bare::ffa::tee::{Refusal, Shared, describe};
use guest_bare::ffa::{
    self, Answer, Descriptor, Endpoint, Function, OPTEE, Tee, VERSION, call_by, id,
};
use guest_bare::machine::at_el2;
use guest_bare::pages::Pages;
use guest_bare::tee::apps;
use guest_bare::tee::message::value;
use optee_proto::TeeResult;
use optee_proto::msg::{Attr, Command, Param};

/// The VM's id when the program replaces the hypervisor.
const VM: u16 = 1;
/// w2 of the message that tells OP-TEE of a new VM.
const VM_CREATED: u64 = 0x8000_0004;
/// The rounds of each measurement.
const ROUNDS: usize = 4;
/// A function that `invoke_tests.pta` does not have.
const NO_FUNCTION: u32 = 0x1234;
/// A session ID that OP-TEE never assigns.
const NO_SESSION: u32 = 0x7fff_0000;
/// The bytes of each memory reference.
const PASSED: u64 = 64;
/// The sizes of the shared buffers in pages.
const BUFFERS: [usize; 4] = [1, 16, 65, 250];

/// Returns whether the callee speaks FF-A.
pub fn is_there() -> bool {
    ffa::version(VERSION) == VERSION as u32
}

fn good(what: Answer, is: bool) -> Result<(), String> {
    if is { Ok(()) } else { Err(format!("{what}")) }
}

/// Does what comes before the first call; returns who calls.
fn begin() -> Result<Endpoint, String> {
    let mapped = ffa::map_buffers(1);
    good(mapped, mapped.is_success()).map_err(|why| format!("RXTX_MAP: {why}"))?;
    let id = if at_el2() {
        let created = Endpoint::new(0).send(OPTEE, VM_CREATED, [0, 0, VM.into(), 0, 0]);
        let is = created.direct().is_some_and(|words| words[0] == 0);
        good(created, is).map_err(|why| format!("VM_CREATED: {why}"))?;
        VM
    } else {
        ffa::own_id().w(2) as u16
    };
    Ok(Endpoint {
        conduit: meter::smc,
        id,
    })
}

/// Measures all of them.
pub fn measure(meter: &Meter) {
    let started = begin().and_then(|endpoint| {
        let tee = Tee::new(endpoint).map_err(|why| describe::<()>(&Err(why)));
        tee.map_err(|why| format!("MEM_SHARE: {why}"))
    });
    match started {
        Ok(tee) => {
            let bench = Bench { meter, tee };
            bench.plain();
            bench.calls();
            for pages in BUFFERS {
                bench.buffer(pages);
            }
            bench.scattered(65);
        }
        Err(why) => failed("ffa", &why),
    }
}

struct Bench<'a> {
    meter: &'a Meter,
    tee: Tee,
}

impl Bench<'_> {
    /// Calls that need no memory.
    fn plain(&self) {
        let counted =
            |function: Function, w1: u64| call_by(meter::smc, id(function), [w1, 0, 0, 0, 0, 0, 0]);
        self.meter.measure("ffa-version", ROUNDS, || {
            let answer = counted(Function::Version, VERSION);
            good(answer, answer.w(0) == VERSION as u32)
        });
        self.meter.measure("ffa-id-get", ROUNDS, || {
            let answer = counted(Function::IdGet, 0);
            good(answer, answer.is_success())
        });
        self.meter.measure("ffa-features", ROUNDS, || {
            let answer = counted(Function::Features, id(Function::MemShare));
            good(answer, answer.is_success())
        });
        self.meter.measure("ffa-direct", ROUNDS, || {
            let answer = self.tee.endpoint.direct([0; 5]);
            let words = answer.direct();
            good(
                answer,
                words.is_some_and(|[major, minor, ..]| (major, minor) == (1, 0)),
            )
        });
    }

    /// Sends one message repeatedly. OP-TEE's answer in it is the same each time.
    fn again(
        &self,
        name: &str,
        session: u32,
        func: u32,
        params: &[Param],
        wanted: Result<(), Refusal>,
    ) {
        self.meter.measure(name, ROUNDS, || {
            let sent = self.tee.send(Command::INVOKE, func, session, params);
            if sent == wanted {
                Ok(())
            } else {
                Err(describe(&sent))
            }
        });
    }

    /// Calls with a message.
    fn calls(&self) {
        let refused = Err(Refusal::Tee(TeeResult::BAD_PARAMETERS));
        let again = |name: &str, session: u32, params: &[Param]| {
            self.again(name, session, NO_FUNCTION, params, refused);
        };
        again("ffa-invoke-no-session", NO_SESSION, &[]);
        match self.tee.open(apps::TESTS) {
            Ok(session) => {
                again("ffa-invoke", session, &[]);
                again(
                    "ffa-invoke-values",
                    session,
                    &[value(Attr::VALUE_INOUT, 42, 0); 4],
                );
                let buffers: Result<Vec<Shared>, Refusal> =
                    (0..4).map(|_| Shared::new(&self.tee.endpoint, 1)).collect();
                match buffers {
                    Ok(buffers) => {
                        let part = |buffer: &Shared| buffer.part(Attr::RMEM_INOUT, 0, PASSED);
                        let memrefs: Vec<Param> = buffers.iter().map(part).collect();
                        again("ffa-invoke-memrefs", session, &memrefs);
                        for buffer in buffers {
                            buffer.unshare(&self.tee.endpoint);
                        }
                    }
                    Err(why) => failed("ffa-invoke-memrefs", &describe::<()>(&Err(why))),
                }
            }
            Err(why) => failed("ffa-invoke", &describe::<()>(&Err(why))),
        }
        // `stats.pta` asks the normal world for the time once.
        match self.tee.open(apps::STATS) {
            Ok(session) => {
                let times = [value(Attr::VALUE_OUTPUT, 0, 0); 2];
                self.again("ffa-invoke-rpc", session, apps::STATS_TIME, &times, Ok(()));
            }
            Err(why) => failed("ffa-invoke-rpc", &describe::<()>(&Err(why))),
        }
    }

    /// A buffer of so many pages in a row.
    fn buffer(&self, pages: usize) {
        let buffer = Pages::take(pages);
        self.ranges(&format!("{pages}"), &[(buffer.address(), pages as u32)]);
    }

    /// A buffer of so many pages, none beside another.
    fn scattered(&self, pages: usize) {
        let buffer = Pages::take(2 * pages);
        let ranges: Vec<(u64, u32)> = (0..pages).map(|page| (buffer.page(2 * page), 1)).collect();
        self.ranges(&format!("{pages}-ranges"), &ranges);
    }

    fn ranges(&self, name: &str, ranges: &[(u64, u32)]) {
        let endpoint = self.tee.endpoint;
        let descriptor = Descriptor::new(endpoint.id, ranges);
        let parts = [format!("ffa-share-{name}"), format!("ffa-reclaim-{name}")];
        let parts = parts.each_ref().map(String::as_str);
        self.meter.measure_parts(parts, ROUNDS, || {
            meter::take();
            let shared = endpoint.send_memory(Function::MemShare, &descriptor);
            let there = meter::take();
            let handle = shared.handle().ok_or_else(|| format!("{shared}"))?;
            let reclaimed = endpoint.reclaim(handle);
            good(reclaimed, reclaimed.is_success())?;
            Ok([there, meter::take()])
        });
    }
}
