// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attacks 1 to 10: ids, framework messages, functions.

use super::kit::{FfaKit, answers};
use crate::attack::{Attack, Observation, Verdict, holds, one_of, same};
use alloc::format;
use alloc::string::{String, ToString};
use guest_bare::ffa::{self, Answer, Function, OPTEE, SPMC, call_by, id, id64};
use guest_bare::smccc::{self, Conduit};

/// The attacks.
pub const ATTACKS: &[Attack<FfaKit>] = &[
    Attack {
        number: 1,
        title: "direct requests from another VM's id, 0, and secure ids",
        expected: "INVALID_PARAMETERS",
        run: sources,
    },
    Attack {
        number: 2,
        title: "direct requests to 0, the VM itself, another VM, the SPMC, other partitions",
        expected: "INVALID_PARAMETERS",
        run: receivers,
    },
    Attack {
        number: 3,
        title: "framework messages, and each bit of w2, about its own and other VMs, in both forms",
        expected: "INVALID_PARAMETERS; all VMs live, and the version is unchanged",
        run: framework,
    },
    Attack {
        number: 4,
        title: "VM_DESTROYED of itself and of others while objects are shared",
        expected: "INVALID_PARAMETERS; the objects work, and more can be shared",
        run: framework_with_objects,
    },
    Attack {
        number: 5,
        title: "garbage in the upper halves of a 32-bit call's registers",
        expected: "ignored: the same answers",
        run: upper_halves,
    },
    Attack {
        number: 6,
        title: "hint bit, HVC, immediates, 64-bit forms of 32-bit functions",
        expected: "the hint is ignored; an immediate is undefined; NOT_SUPPORTED",
        run: forms,
    },
    Attack {
        number: 7,
        title: "all ids of FF-A in both forms with registers of all kinds",
        expected: "NOT_SUPPORTED for all that a guest does not have",
        run: all_ids,
    },
    Attack {
        number: 8,
        title: "answers as calls, and functions of secure partitions",
        expected: "NOT_SUPPORTED",
        run: not_for_guests,
    },
    Attack {
        number: 9,
        title: "RUN of OP-TEE, of the SPMC and of others, in all contexts",
        expected: "NOT_SUPPORTED",
        run: run_partitions,
    },
    Attack {
        number: 10,
        title: "looks for what is not its own in registers and in the RX buffer",
        expected: "x8 to x17 unchanged, unused results zero, nothing behind the record in RX",
        run: leaks,
    },
];

const INVALID: &str = "INVALID_PARAMETERS";
const UNSUPPORTED: &str = "NOT_SUPPORTED";

fn sources(kit: &FfaKit) -> Verdict {
    let own = kit.endpoint.id;
    let forged = (0..16).chain([0xff, 0x7fff, SPMC, OPTEE, 0x8002, 0xffff, own | 0x100]);
    let mut count = 0;
    for source in forged.filter(|source| *source != own) {
        let answer = kit.ask(source, OPTEE, 0);
        answers(&format!("from {source:#x}"), answer, INVALID)?;
        count += 1;
    }
    kit.check_honest()?;
    Ok(Observation::none_passed(format!("{count} sources"), count))
}

fn receivers(kit: &FfaKit) -> Verdict {
    let own = kit.endpoint.id;
    let others = [
        0,
        own,
        kit.neighbour(),
        0x7fff,
        SPMC,
        0x8002,
        0x8003,
        0xffff,
    ];
    for receiver in others {
        let answer = kit.ask(own, receiver, 0);
        answers(&format!("to {receiver:#x}"), answer, INVALID)?;
    }
    kit.check_honest()?;
    let count = others.len() as u64;
    Ok(Observation::none_passed(
        format!("{count} receivers"),
        count,
    ))
}

/// Sends a message with this w2 about a VM, in all ways. Returns how many.
fn send_framework(kit: &FfaKit, w2: u64) -> Result<u64, String> {
    let own = kit.endpoint.id;
    let mut count = 0;
    for receiver in [SPMC, OPTEE] {
        for about in [own, kit.neighbour(), 3, 9, 0] {
            for id in [
                id(Function::MsgSendDirectReq),
                id64(Function::MsgSendDirectReq),
            ] {
                let w1 = u64::from(own) << 16 | u64::from(receiver);
                let version = 0x1_0000;
                let answer = call_by(ffa::smc, id, [w1, w2, version, 0, about.into(), 0, 0]);
                let what = format!("w2 = {w2:#x} about {about} to {receiver:#x} by {id:#x}");
                answers(&what, answer, INVALID)?;
                count += 1;
            }
        }
    }
    Ok(count)
}

const MESSAGES: [u64; 8] = [
    0x8000_0004,
    0x8000_0005,
    0x8000_0006,
    0x8000_0007,
    0x8000_0008,
    0x8000_0009,
    0x8000_0000,
    0xffff_ffff,
];

fn framework(kit: &FfaKit) -> Verdict {
    let mut count = 0;
    for w2 in MESSAGES.into_iter().chain((0..32).map(|bit| 1 << bit)) {
        count += send_framework(kit, w2)?;
    }
    kit.alive()?;
    Ok(Observation::new(format!("{count} messages")))
}

fn framework_with_objects(kit: &FfaKit) -> Verdict {
    kit.with_tests(|session| {
        let shared = kit.share(2)?;
        let mut count = 0;
        for w2 in MESSAGES {
            count += send_framework(kit, w2)?;
        }
        kit.check(session, &shared)?;
        kit.unshare(shared)?;
        kit.alive()?;
        Ok(Observation::new(format!("{count} messages")))
    })
}

/// Calls with garbage in the registers that do not count.
fn call_18(conduit: Conduit, head: [u64; 8]) -> Result<[u64; 18], String> {
    let mut registers: [u64; 18] = core::array::from_fn(|index| 0x5a5a_0000 + index as u64);
    registers[..8].copy_from_slice(&head);
    smccc::call(conduit, &mut registers).map_err(|fault| format!("{:#x}: {fault}", head[0]))?;
    Ok(registers)
}

fn first(registers: [u64; 18]) -> Answer {
    let [x0, x1, x2, x3, x4, x5, x6, x7, ..] = registers;
    Answer([x0, x1, x2, x3, x4, x5, x6, x7])
}

fn upper_halves(kit: &FfaKit) -> Verdict {
    const GARBAGE: u64 = 0xdead_beef << 32;
    let own = u64::from(kit.endpoint.id);
    let w1 = own << 16 | u64::from(OPTEE);
    let direct = [id(Function::MsgSendDirectReq), w1, 0, 0, 0, 0, 0, 0];
    let calls = [
        (direct, "0x1 0x0 0x0 0x0 0x0"),
        ([id(Function::IdGet), 0, 0, 0, 0, 0, 0, 0], "SUCCESS"),
        ([id(Function::SpmIdGet), 0, 0, 0, 0, 0, 0, 0], "SUCCESS"),
        ([id(Function::RxRelease), 0, 0, 0, 0, 0, 0, 0], "DENIED"),
        ([id(Function::MemReclaim), 1, 0, 0, 0, 0, 0, 0], INVALID),
    ];
    for (call, wanted) in calls {
        let mut dirty = call.map(|word| word | GARBAGE);
        answers("without", first(call_18(Conduit::Smc, call)?), wanted)?;
        answers(
            "in x1 to x7",
            first(call_18(Conduit::Smc, {
                dirty[0] = call[0];
                dirty
            })?),
            wanted,
        )?;
    }
    let shared = kit.share(1)?;
    let (low, high) = (shared.handle & 0xffff_ffff, shared.handle >> 32);
    let call = [
        id(Function::MemReclaim),
        low | GARBAGE,
        high | GARBAGE,
        GARBAGE,
        0,
        0,
        0,
        0,
    ];
    answers("RECLAIM", first(call_18(Conduit::Smc, call)?), "SUCCESS")?;
    Ok(Observation::new(format!("{} calls", calls.len() + 1)))
}

fn forms(kit: &FfaKit) -> Verdict {
    const HINT: u64 = 1 << 16;
    let ask = |conduit, number: u64| call_18(conduit, [number, 0, 0, 0, 0, 0, 0, 0]);
    let hinted = first(ask(Conduit::Smc, id(Function::IdGet) | HINT)?);
    one_of(
        "ID_GET with the hint bit",
        &hinted.to_string().as_str(),
        &["SUCCESS", UNSUPPORTED],
    )?;
    let by_hvc = first(ask(Conduit::Hvc, id(Function::IdGet))?);
    one_of(
        "ID_GET by HVC",
        &by_hvc.to_string().as_str(),
        &["SUCCESS", UNSUPPORTED, "w0 = 0xffffffff"],
    )?;
    for conduit in [Conduit::SmcImmediate1, Conduit::HvcImmediate1] {
        let refused = ask(conduit, id(Function::IdGet));
        holds(refused.is_err(), "an immediate is not undefined")?;
    }
    let mut count = 0;
    for &function in Function::ALL {
        let wide = ffa_id(function);
        if let Some(wide) = wide {
            let answer = first(ask(Conduit::Smc, wide)?);
            answers(function.name(), answer, UNSUPPORTED)?;
            count += 1;
        }
    }
    kit.check_honest()?;
    Ok(Observation::new(format!(
        "hint: {hinted}, HVC: {by_hvc}, {count} forms"
    )))
}

/// Returns the 64-bit form of a function that has none.
fn ffa_id(function: Function) -> Option<u64> {
    let both = [
        Function::Success,
        Function::RxtxMap,
        Function::MsgSendDirectReq,
        Function::MsgSendDirectResp,
        Function::MemDonate,
        Function::MemLend,
        Function::MemShare,
        Function::MemRetrieveReq,
        Function::NotificationInfoGet,
        Function::SecondaryEpRegister,
        Function::MemPermGet,
        Function::MemPermSet,
        Function::ConsoleLog,
        Function::PartitionInfoGetRegs,
        Function::MsgSendDirectReq2,
        Function::MsgSendDirectResp2,
    ];
    (!both.contains(&function)).then(|| id64(function))
}

/// What a guest has, and what changes what the program needs.
const KNOWN: [Function; 17] = [
    Function::Version,
    Function::Features,
    Function::RxRelease,
    Function::RxtxMap,
    Function::RxtxUnmap,
    Function::PartitionInfoGet,
    Function::PartitionInfoGetRegs,
    Function::IdGet,
    Function::SpmIdGet,
    Function::MsgSendDirectReq,
    Function::MemShare,
    Function::MemReclaim,
    Function::MemFragTx,
    Function::NotificationBind,
    Function::NotificationUnbind,
    Function::NotificationGet,
    Function::NotificationInfoGet,
];

fn all_ids(kit: &FfaKit) -> Verdict {
    let known = |number: u64| {
        let is = |function: &Function| number & 0xff == id(*function) & 0xff;
        KNOWN.iter().any(is)
    };
    let mut random = 0x1234_5678_9abc_def0_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut count = 0;
    for number in (0x60..=0xff).filter(|number| !known(*number)) {
        for form in [0x8400_0000, 0xc400_0000] {
            for kind in 0..4 {
                let mut registers = [form | number; 8];
                for register in &mut registers[1..] {
                    *register = match kind {
                        0 => 0,
                        1 => u64::MAX,
                        2 => next(),
                        _ => next() & 0xffff,
                    };
                }
                let answer = first(call_18(Conduit::Smc, registers)?);
                let text = answer.to_string();
                let good = text == UNSUPPORTED;
                holds(good, &format!("{:#x}: {text}", form | number))?;
                count += 1;
            }
        }
    }
    kit.alive()?;
    Ok(Observation::new(format!("{count} calls")))
}

fn not_for_guests(kit: &FfaKit) -> Verdict {
    let functions = [
        Function::Error,
        Function::Success,
        Function::Interrupt,
        Function::MsgWait,
        Function::Yield,
        Function::MsgSend,
        Function::MsgPoll,
        Function::MsgSend2,
        Function::MsgSendDirectResp,
        Function::MsgSendDirectResp2,
        Function::MsgSendDirectReq2,
        Function::NormalWorldResume,
        Function::SecondaryEpRegister,
        Function::ConsoleLog,
        Function::MemPermGet,
        Function::MemPermSet,
        Function::El3IntrHandle,
        Function::RxAcquire,
        Function::MemOpPause,
        Function::MemOpResume,
        Function::MemFragRx,
        Function::NotificationSet,
    ];
    let w1 = u64::from(OPTEE) << 16 | u64::from(kit.endpoint.id);
    for function in functions {
        for id in [id(function), id64(function)] {
            let answer = call_by(ffa::smc, id, [w1, 0, 0, 0, 0, 0, 0]);
            answers(function.name(), answer, UNSUPPORTED)?;
        }
    }
    kit.check_honest()?;
    Ok(Observation::new(format!("{} functions", functions.len())))
}

fn run_partitions(kit: &FfaKit) -> Verdict {
    let mut count = 0;
    for target in [
        OPTEE,
        SPMC,
        0x8002,
        0xffff,
        0,
        kit.endpoint.id,
        kit.neighbour(),
    ] {
        for context in 0..8 {
            let w1 = u64::from(target) << 16 | context;
            let answer = ffa::call(Function::Run, [w1, 0, 0, 0, 0, 0, 0]);
            answers(&format!("RUN {w1:#x}"), answer, UNSUPPORTED)?;
            count += 1;
        }
    }
    Ok(Observation::none_passed(format!("{count} calls"), count))
}

fn leaks(kit: &FfaKit) -> Verdict {
    let kept: [u64; 10] = core::array::from_fn(|index| 0x5a5a_0008 + index as u64);
    let own = u64::from(kit.endpoint.id);
    let w1 = own << 16 | u64::from(OPTEE);
    let calls = [
        [id(Function::IdGet), 0, 0, 0, 0, 0, 0, 0],
        [id(Function::SpmIdGet), 0, 0, 0, 0, 0, 0, 0],
        [
            id(Function::Features),
            id(Function::MemShare),
            0,
            0,
            0,
            0,
            0,
            0,
        ],
        [id(Function::MsgSendDirectReq), w1, 0, 0, 0, 0, 0, 0],
        [id(Function::MsgSendDirectReq), w1, 0, 1, 0, 0, 0, 0],
        [id(Function::MsgSendDirectReq), w1, 0, 2, 0, 0, 0, 0],
        [id(Function::MsgSendDirectReq), w1, 0, 99, 0, 0, 0, 0],
        [id(Function::MemReclaim), 77, 0, 0, 0, 0, 0, 0],
        [id(Function::Run), 0, 0, 0, 0, 0, 0, 0],
    ];
    for call in calls {
        let back = call_18(Conduit::Smc, call)?;
        same(
            &format!("x8 to x17 after {:#x}", call[0]),
            &&back[8..],
            &&kept[..],
        )?;
        let high = back[..8].iter().any(|word| word >> 32 != 0);
        holds(
            !high,
            &format!("upper halves after {:#x}: {:x?}", call[0], &back[..8]),
        )?;
        let answer = first(back);
        if answer.direct().is_none() {
            holds(
                back[4..8] == [0; 4],
                &format!("x4 to x7 after {:#x}", call[0]),
            )?;
        }
    }
    let rx = &ffa::buffers().rx;
    rx.fill(0x7272_7272_7272_7272);
    let got = ffa::call(Function::PartitionInfoGet, [0; 7]);
    answers("PARTITION_INFO_GET", got, "SUCCESS")?;
    same("partitions", &got.w(2), &1)?;
    let entry = got.w(3) as usize;
    same("bytes of an entry", &entry, &24)?;
    let rest = (entry..rx.bytes() as usize).step_by(8);
    let touched = rest.filter(|at| rx.read_u64(*at) != 0x7272_7272_7272_7272);
    same("words behind the entry that changed", &touched.count(), &0)?;
    let properties = rx.read_u32(4);
    holds(
        properties & 0xc0 == 0,
        &format!("properties {properties:#x} tell of VMs that come and go"),
    )?;
    answers("RX_RELEASE", ffa::release(), "SUCCESS")?;
    Ok(Observation::new(format!("{} calls", calls.len() + 1)))
}
