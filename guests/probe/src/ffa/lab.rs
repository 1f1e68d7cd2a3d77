// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Functions that the experiments over FF-A share.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::Display;
use guest_bare::ffa::tee::{Act, Refusal, describe, describe_status};
use guest_bare::ffa::{Answer, Endpoint, OPTEE, Tee, VERSION, map_buffers, version};
use guest_bare::tee::apps;
use guest_bare::tee::message::value;
use guest_bare::tee::{files, supplicant};
use optee_proto::Uuid;
use optee_proto::msg::Attr;

/// The pages of the RX and the TX buffer.
pub const BUFFER: usize = 16;
/// w2 of VM_CREATED.
pub const VM_CREATED: u64 = 0x8000_0004;
/// w2 of VM_DESTROYED.
pub const VM_DESTROYED: u64 = 0x8000_0006;
/// w2 of the request for a version.
pub const VERSION_REQUEST: u64 = 0x8000_0008;

/// Does what a hypervisor does before its first VM: VERSION and RXTX_MAP.
pub fn up() {
    version(VERSION);
    map_buffers(BUFFER);
}

/// Sends a framework message about `id` to OP-TEE; returns the answer.
pub fn framework_by(sender: u16, receiver: u16, w2: u64, id: u16) -> Answer {
    Endpoint::new(sender).send(receiver, w2, [0, 0, id.into(), 0, 0])
}

/// Describes the status in w3 of the answer to a framework message.
pub fn status(answer: Answer) -> String {
    match answer.direct() {
        Some([w3, ..]) => describe_status(Ok(w3)),
        None => answer.to_string(),
    }
}

/// VM_CREATED.
pub fn create(id: u16) -> String {
    status(framework_by(0, OPTEE, VM_CREATED, id))
}

/// VM_DESTROYED.
pub fn destroy(id: u16) -> String {
    supplicant::forget_all();
    files::clear();
    status(framework_by(0, OPTEE, VM_DESTROYED, id))
}

/// Brings VM 1 up: everything before its first call.
pub fn one() -> Tee {
    up();
    create(1);
    client(1)
}

/// Brings VM 1 and VM 2 up.
pub fn two() -> (Tee, Tee) {
    let first = one();
    create(2);
    (first, client(2))
}

/// Returns a client with a VM's id.
///
/// # Panics
/// The VM cannot share a page.
pub fn client(id: u16) -> Tee {
    match Tee::new(Endpoint::new(id)) {
        Ok(tee) => tee,
        Err(why) => panic!("VM {id} cannot share a page: {}", describe::<()>(&Err(why))),
    }
}

/// Opens `invoke_tests.pta`.
///
/// # Errors
/// What failed.
pub fn open_tests(tee: &Tee) -> Result<u32, Refusal> {
    tee.open(apps::TESTS)
}

/// Has `invoke_tests.pta` add two numbers.
///
/// # Errors
/// What failed.
pub fn add(tee: &Tee, session: u32, a: u64, b: u64) -> Result<u64, Refusal> {
    tee.invoke(
        session,
        apps::TESTS_PARAMS,
        &[value(Attr::VALUE_INOUT, a, b)],
    )?;
    Ok(tee.message().param(0).a.get())
}

/// Returns whether a VM's calls work: a PTA adds two numbers.
pub fn works(tee: &Tee) -> bool {
    let Ok(session) = open_tests(tee) else {
        return false;
    };
    let sum = add(tee, session, 40, 2);
    tee.close(session).is_ok() && sum == Ok(42)
}

/// Begins to open an application and leaves the call at its first RPC.
pub fn park(tee: &Tee, app: Uuid) -> Result<u32, Refusal> {
    tee.put_open(app);
    let parked = tee.run(tee.begin(), |_| Act::Park);
    match parked {
        Err(Refusal::Parked(call)) => Ok(call),
        Err(other) => Err(other),
        Ok(()) => Err(Refusal::Tee(optee_proto::TeeResult::SUCCESS)),
    }
}

/// Continues a call that [`park`] left, to its end.
pub fn finish(tee: &Tee, call: u32) -> Result<(), Refusal> {
    tee.answer(tee.rpc());
    tee.run(tee.resume(call), |_| Act::Default)
}

/// Describes several results, each with what it is of.
pub fn list<T: Display>(all: impl IntoIterator<Item = (&'static str, T)>) -> String {
    let each = all.into_iter().map(|(what, got)| format!("{what}: {got}"));
    let each: alloc::vec::Vec<String> = each.collect();
    each.join(", ")
}
