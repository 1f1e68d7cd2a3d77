// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Experiments about versions, ids, and who may call what.

use super::lab::{
    VERSION_REQUEST, VM_CREATED, VM_DESTROYED, create, framework_by, list, one, status, two, up,
    works,
};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use guest_bare::ffa::{
    self, Endpoint, Function, OPTEE, SPMC, VERSION, call, call_by, id, id64, version,
};

/// What VERSION answers, and the ids.
pub fn versions() -> String {
    let asked = [0x1_0000, 0x1_0001, 0x1_0003, 0x2_0000, 0x8001_0002, VERSION];
    let answers = asked.map(|asked| format!("{:#x}", version(asked)));
    format!(
        "VERSION of 1.0, 1.1, 1.3, 2.0, bit 31, 1.2: {}; ID_GET: {}; SPM_ID_GET: {}",
        answers.join(" "),
        ffa::own_id().value(),
        call(Function::SpmIdGet, [0; 7]).value()
    )
}

/// What FEATURES says of each function and feature.
pub fn features() -> String {
    up();
    let ask = |what: u64| call(Function::Features, [what, 0, 0, 0, 0, 0, 0]);
    let mut yes = Vec::new();
    for &function in Function::ALL {
        let forms = [("", id(function)), ("_64", id64(function))];
        for (form, number) in forms {
            let answer = ask(number);
            if answer.is_success() {
                let words = match (answer.w(2), answer.w(3)) {
                    (0, 0) => String::new(),
                    (w2, w3) => format!("={w2:#x}/{w3:#x}"),
                };
                yes.push(format!("{}{form}{words}", function.name()));
            }
        }
    }
    let features = [1, 2, 3].map(|feature| ask(feature).value());
    let answer = ask(id(Function::MsgSend));
    format!(
        "{}; features 1 to 3: {}; others: {answer}",
        yes.join(" "),
        features.join(" ")
    )
}

/// Functions that are not OP-TEE's to answer.
pub fn unknown_ids() -> String {
    let tee = one();
    let (mut unknown, mut other) = (0, Vec::new());
    let mut ask = |number: u64| {
        let answer = call_by(ffa::smc, number, [0; 7]);
        if answer.0[0] == 0xffff_ffff || answer.0[0] == u64::MAX {
            unknown += 1;
        } else if answer.to_string() != "NOT_SUPPORTED" {
            other.push(format!("{number:#x} {answer}"));
        }
    };
    for number in 0x8f..=0xff {
        ask(0x8400_0000 | number);
        ask(0xc400_0000 | number);
    }
    for function in [
        Function::Error,
        Function::Success,
        Function::Interrupt,
        Function::MsgPoll,
        Function::MsgWait,
        Function::Yield,
        Function::Run,
        Function::MsgSend,
        Function::MsgSendDirectResp,
        Function::MemDonate,
        Function::MemRetrieveReq,
        Function::MemRetrieveResp,
        Function::MemRelinquish,
        Function::MemOpPause,
        Function::MemOpResume,
        Function::MemFragRx,
        Function::NormalWorldResume,
        Function::NotificationSet,
        Function::RxAcquire,
        Function::MsgSend2,
        Function::SecondaryEpRegister,
        Function::MemPermGet,
        Function::MemPermSet,
        Function::ConsoleLog,
        Function::PartitionInfoGetRegs,
        Function::El3IntrHandle,
        Function::MsgSendDirectReq2,
        Function::MsgSendDirectResp2,
    ] {
        ask(id(function));
        ask(id64(function));
    }
    let run = |target: u64| call(Function::Run, [target << 16, 0, 0, 0, 0, 0, 0]);
    format!(
        "unknown to SMCCC: {unknown} of 282; neither so nor NOT_SUPPORTED: {}; RUN of OP-TEE: {}, of the SPMC: {}; VM 1 works: {}",
        other.join(", "),
        run(OPTEE.into()),
        run(SPMC.into()),
        works(&tee)
    )
}

/// PARTITION_INFO_GET, and who has the RX buffer.
pub fn partition() -> String {
    up();
    let get = |words: [u64; 4], flags: u64| {
        let [a, b, c, d] = words;
        call(Function::PartitionInfoGet, [a, b, c, d, flags, 0, 0])
    };
    let counted = get([0; 4], 1).value();
    let all = get([0; 4], 0);
    let rx = &ffa::buffers().rx;
    let entry = [0, 2, 4].map(|offset| {
        let word = rx.read_u32(offset & !3);
        if offset % 4 == 0 { word } else { word >> 16 }
    });
    let properties = rx.read_u32(4);
    let uuid: Vec<String> = [8, 12, 16, 20]
        .map(|at| format!("{:08x}", rx.read_u32(at)))
        .into();
    let busy = get([0; 4], 0);
    let released = [ffa::release(), ffa::release()];
    let uuid_words = [8, 12, 16, 20].map(|at| u64::from(rx.read_u32(at)));
    let by_uuid = get(uuid_words, 0).value();
    let failed = get([0; 4], 0);
    let taken = ffa::release();
    let unknown = get([1, 2, 3, 4], 0);
    let after = ffa::release();
    format!(
        "count: {counted}; all: {}, entries of {} bytes: id {:#x}, {} contexts, properties {properties:#x}, uuid {}; \
         again: {busy}; RX_RELEASE twice: {} {}; by UUID: {by_uuid}; again: {failed}, RX_RELEASE: {taken}; \
         of an unknown UUID: {unknown}, RX_RELEASE: {after}",
        all.value(),
        all.w(3),
        entry[0] & 0xffff,
        entry[1],
        uuid.join(" "),
        released[0],
        released[1],
    )
}

/// The blocking services of OP-TEE.
pub fn services() -> String {
    let tee = one();
    let ask = |words| tee.endpoint.direct(words).to_string();
    let answers = list([
        ("API version", ask([0; 5])),
        ("OS version", ask([1, 0, 0, 0, 0])),
        ("capabilities", ask([2, 0, 0, 0, 0])),
        (
            "capabilities of all bits",
            ask([2, u32::MAX, u32::MAX, 0, 0]),
        ),
        ("4", ask([4, 0, 0, 0, 0])),
        ("6", ask([6, 0, 0, 0, 0])),
        ("7", ask([7, 0, 0, 0, 0])),
        ("RELEASE_PROTMEM", ask([8, 0, 0, 0, 0])),
        ("99", ask([99, 0, 0, 0, 0])),
        ("0x80000002", ask([0x8000_0002, 0, 0, 0, 0])),
        ("ENABLE of 63", ask([5, 63, 0, 0, 0])),
        ("of 64", ask([5, 64, 0, 0, 0])),
    ]);
    let by = |sender: u16, receiver: u16, w2: u64| {
        Endpoint::new(sender).send(receiver, w2, [0; 5]).to_string()
    };
    let others = list([
        ("as 0", by(0, OPTEE, 0)),
        ("as VM 9", by(9, OPTEE, 0)),
        ("as 0x8001", by(OPTEE, OPTEE, 0)),
        ("to 0x8000", by(1, SPMC, 0)),
        ("to 0x8002", by(1, 0x8002, 0)),
        ("to VM 2", by(1, 2, 0)),
        ("w2 = 1", by(1, OPTEE, 1)),
        ("w2 = 0x7fffffff", by(1, OPTEE, 0x7fff_ffff)),
    ]);
    format!(
        "{answers}; API version {others}; VM 1 works: {}",
        works(&tee)
    )
}

/// Framework messages, and other requests, from a VM.
pub fn framework() -> String {
    let (first, second) = two();
    let both = [works(&first), works(&second)];
    let destroyed = status(framework_by(1, OPTEE, VM_DESTROYED, 2));
    let after = works(&second);
    let created = status(framework_by(1, SPMC, VM_CREATED, 9));
    let room = create(2);
    format!(
        "VM 1 and 2 work: {} {}; VM 1 destroys VM 2: {destroyed}, VM 2 works: {after}; VM 1 creates VM 9: {created}, \
         then VM_CREATED of VM 2: {room}; VM 1 works: {}",
        both[0],
        both[1],
        works(&first)
    )
}

/// The version that a VM asks for by a framework message.
pub fn version_for_all() -> String {
    let (first, second) = two();
    let asked = Endpoint::new(1).send(OPTEE, VERSION_REQUEST, [0x1_0000, 0, 0, 0, 0]);
    let page = guest_bare::pages::Pages::take(1);
    let share = || second.endpoint.share(&[(page.address(), 1)]).to_string();
    let after = share();
    version(VERSION);
    let again = share();
    format!(
        "VM 1 asks for 1.0: {asked}; then VM 2's share: {after}; after VERSION 1.2: {again}; both work: {} {}",
        works(&first),
        works(&second)
    )
}
