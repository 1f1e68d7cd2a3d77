// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attacks 37 to 41: fast calls, and the caller's identity.

use crate::attack::{Attack, Observation, Verdict, holds, one_of, same};
use crate::kit::{Got, Kit, of_client};
use crate::parked::Parked;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use guest_bare::cpu::{self, Barrier, parallel};
use guest_bare::smccc::{self, Conduit};
use guest_bare::tee::{Client, Message, apps, supplicant};
use guest_bare::timer;
use optee_proto::caps::SecureCaps;
use optee_proto::msg::Command;
use optee_proto::{FunctionId, Return, smc, uuid};
use spin::Mutex;

/// The attacks, in the order of the plan.
pub const ATTACKS: &[Attack] = &[
    Attack {
        number: 37,
        title: "a7 forged: zero, the neighbour's number, and a number of more than 16 bits",
        expected: "replaced: every answer is the same as without",
        run: forged_identity,
    },
    Attack {
        number: 38,
        title: "VM_CREATED, VM_DESTROYED, BOOT_SECONDARY, L2CC, watchdog, PROTMEM, unknown ids, SMC64 aliases, hint bit, HVC, immediates",
        expected: "UNKNOWN_FUNCTION; ENOTAVAIL where the result would be an address; the hint is ignored; an immediate is undefined",
        run: forbidden_functions,
    },
    Attack {
        number: 39,
        title: "ENABLE and DISABLE_SHM_CACHE during a call, and on all vCPUs at once",
        expected: "EBUSY; each buffer is returned exactly once",
        run: shm_cache,
    },
    Attack {
        number: 40,
        title: "EXCHANGE_CAPABILITIES with all bits, and with each single bit",
        expected: "OK, filtered in both directions",
        run: capabilities,
    },
    Attack {
        number: 41,
        title: "notifications: ENABLE, GET_VALUE, bottom half and STOP in any order, on all vCPUs at once",
        expected: "no panic of OP-TEE, and only the VM's own values",
        run: notifications,
    },
];

/// The calls whose results are compared, because they do not change from call to call.
const STEADY: [FunctionId; 8] = [
    smc::CALLS_COUNT,
    smc::CALLS_UID,
    smc::CALLS_REVISION,
    smc::GET_OS_UUID,
    smc::GET_OS_REVISION,
    smc::EXCHANGE_CAPABILITIES,
    smc::GET_THREAD_COUNT,
    smc::GET_SHM_CONFIG,
];

/// Makes a call and returns its four results; checks that the other argument registers stay
/// unchanged.
fn raw(conduit: Conduit, function: u64, a1: u64, a7: u64) -> Result<[u64; 4], String> {
    let mut registers: [u64; 18] = core::array::from_fn(|index| 0x5a5a_0000 + index as u64);
    (registers[0], registers[1], registers[7]) = (function, a1, a7);
    let before = registers;
    smccc::call(conduit, &mut registers).map_err(|fault| format!("{function:#x}: {fault}"))?;
    same("x4 to x17 after a call", &&registers[4..], &&before[4..])?;
    let [x0, x1, x2, x3, ..] = registers;
    Ok([x0, x1, x2, x3])
}

fn forged_identity(kit: &Kit) -> Verdict {
    let forged = [
        1,
        2,
        3,
        0xffff,
        0x1_0000,
        0x1_0001,
        0x1_0002,
        1 << 32 | 2,
        u64::MAX,
    ];
    for function in STEADY {
        let id = function.get().into();
        let wanted = raw(Conduit::Smc, id, 0, 0)?;
        for a7 in forged {
            let what = format!("{function:?} with a7 = {a7:#x}");
            same(&what, &raw(Conduit::Smc, id, 0, a7)?, &wanted)?;
        }
    }
    // A session belongs to this VM, whatever VM its calls claim, and so do the buffers.
    for a7 in forged {
        let forger = Kit {
            client: kit.client.with_a7(a7),
            ..*kit
        };
        forger
            .alive()
            .map_err(|why| format!("with a7 = {a7:#x}: {why}"))?;
        kit.with_tests(|session| {
            let shared = kit.share(1)?;
            let client: &Client = &forger.client;
            let sum = apps::add(client, &kit.supplicant, session, 1, 2);
            same("a session of its own", &of_client("add", sum)?, &3)?;
            same(
                "DISABLE",
                &client.fast(smc::DISABLE_SHM_CACHE, 0)[0],
                &Return::ENOTAVAIL.get(),
            )?;
            shared.check(session)?;
            shared.unshare()
        })?;
    }
    Ok(Observation::denied(
        format!(
            "{} functions and whole calls with {} numbers",
            STEADY.len(),
            forged.len()
        ),
        0,
    ))
}

fn forbidden_functions(kit: &Kit) -> Verdict {
    const UNKNOWN: u64 = 0xffff_ffff;
    let mut denied = 0;
    let known = [
        smc::EXCHANGE_CAPABILITIES.get(),
        smc::DISABLE_SHM_CACHE.get(),
        smc::ENABLE_SHM_CACHE.get(),
        smc::GET_THREAD_COUNT.get(),
        smc::ENABLE_ASYNC_NOTIF.get(),
        smc::GET_ASYNC_NOTIF_VALUE.get(),
        smc::GET_OS_UUID.get(),
        smc::GET_OS_REVISION.get(),
        smc::GET_SHM_CONFIG.get(),
        smc::GET_PROTMEM_CONFIG.get(),
    ];
    let unknown = |function: u32, a1: u64| {
        let wanted = if function >> 30 & 1 == 1 {
            u64::MAX
        } else {
            UNKNOWN
        };
        for conduit in [Conduit::Smc, Conduit::Hvc] {
            let got = raw(conduit, function.into(), a1, 0)?;
            same(&format!("{function:#010x}"), &got, &[wanted, 0, 0, 0])?;
        }
        Ok::<_, String>(2)
    };
    // Functions for the hypervisor alone, for every VM's number.
    for function in [
        smc::VM_CREATED,
        smc::VM_DESTROYED,
        smc::BOOT_SECONDARY,
        smc::L2CC_MUTEX,
    ] {
        for vm in [0, 1, 2, 3, 0x1_0001] {
            denied += unknown(function.get(), vm)?;
        }
    }
    // All other function numbers of the trusted OS's first 300, and the first of each owner from 48
    // to 63.
    for number in (0..300).filter(|number| !known.contains(&(0xb200_0000 + number))) {
        denied += unknown(0xb200_0000 + number, 0)?;
    }
    for owner in 48..64 {
        for number in [1, 2, 0xff, 0xfeff] {
            let function = 1 << 31 | owner << 24 | number;
            if !known.contains(&function) {
                denied += unknown(function, 0)?;
            }
            // The SMC64 alias of each function, and unassigned yielding calls.
            denied += unknown(function | 1 << 30, 0)?;
            denied += unknown(owner << 24 | 0x40 | number, 0)?;
        }
    }
    for function in known {
        denied += unknown(function | 1 << 30, 0)?;
    }
    for function in [
        smc::CALL_WITH_ARG,
        smc::CALL_RETURN_FROM_RPC,
        smc::CALL_WITH_RPC_ARG,
        smc::CALL_WITH_REGD_ARG,
    ] {
        denied += unknown(function.get() | 1 << 30, 0)?;
    }
    // OP-TEE's reserved yielding numbers, which would occupy a thread.
    for number in [0, 1, 2, 5, 6, 0x11, 0x14] {
        denied += unknown(0x3200_0000 | number, 0)?;
    }
    // Their results would be physical addresses.
    for function in [smc::GET_SHM_CONFIG, smc::GET_PROTMEM_CONFIG] {
        let got = raw(Conduit::Smc, function.get().into(), 0, 0)?;
        same(
            &format!("{function:?}"),
            &got,
            &[Return::ENOTAVAIL.get(), 0, 0, 0],
        )?;
    }
    // A SiP function controls the machine's one watchdog.
    for conduit in [Conduit::Smc, Conduit::Hvc] {
        let got = raw(conduit, 0x8200_3d06, 0, 0)?;
        same("the watchdog", &(got[0] as u32), &u32::MAX)?;
    }
    // The hint bit does not change the function, nor do the bits above it; HVC works as well.
    let uid = u64::from(smc::CALLS_UID.get());
    let wanted = uuid::API_UID.map(u64::from);
    for function in [uid, uid | 1 << 16, uid | 0xdead_beef << 32] {
        for conduit in [Conduit::Smc, Conduit::Hvc] {
            same(
                &format!("{function:#x}"),
                &raw(conduit, function, 0, 0)?,
                &wanted,
            )?;
        }
    }
    for conduit in [Conduit::SmcImmediate1, Conduit::HvcImmediate1] {
        let mut registers = [uid; 18];
        match smccc::call(conduit, &mut registers) {
            Err(fault) if fault.is_undefined() => {}
            other => return Err(format!("{conduit:?}: {other:?}")),
        }
    }
    kit.alive()?;
    Ok(Observation::denied(
        format!("{denied} calls to unassigned functions"),
        denied,
    ))
}

fn shm_cache(kit: &Kit) -> Verdict {
    const TIMES: u32 = 300;
    let stats = of_client(
        "open stats.pta",
        kit.client.open(&kit.supplicant, apps::STATS),
    )?;
    let fast = |function| Return::from_x0(kit.client.fast(function, 0)[0]);
    same("DISABLE", &fast(smc::DISABLE_SHM_CACHE), &Return::ENOTAVAIL)?;
    for _ in 0..3 {
        same("ENABLE", &fast(smc::ENABLE_SHM_CACHE), &Return::OK)?;
    }
    let parked = Parked::at_get_time(kit, stats)?;
    for _ in 0..20 {
        same(
            "ENABLE in a call",
            &fast(smc::ENABLE_SHM_CACHE),
            &Return::EBUSY,
        )?;
        same(
            "DISABLE in a call",
            &fast(smc::DISABLE_SHM_CACHE),
            &Return::EBUSY,
        )?;
    }
    let got = parked.finish(kit);
    holds(got.is_success(), &format!("the call: {got:?}"))?;

    // The buffer of that call is cached, and goes to exactly one of the vCPUs that ask.
    let vcpus = cpu::count();
    let barrier = Barrier::new(vcpus);
    let answers: Mutex<Vec<[u64; 4]>> = Mutex::new(Vec::new());
    let wrong: Mutex<Option<String>> = Mutex::new(None);
    parallel(vcpus, &|cpu| {
        for _ in 0..TIMES {
            barrier.wait();
            let answer = kit.client.fast(smc::DISABLE_SHM_CACHE, 0);
            answers.lock().push(answer);
            barrier.wait();
            if cpu == 0 {
                let judged = judge_disables(&core::mem::take(&mut *answers.lock()))
                    .and_then(|()| refill(kit, stats));
                *wrong.lock() = judged.err();
            }
            barrier.wait();
            if wrong.lock().is_some() {
                return;
            }
        }
    });
    if let Some(why) = wrong.into_inner() {
        return Err(why);
    }
    let answers = [kit.client.fast(smc::DISABLE_SHM_CACHE, 0)];
    judge_disables(&answers)?;
    kit.close(stats)?;
    same("objects that OP-TEE has", &supplicant::objects(), &0)?;
    Ok(Observation::denied(
        format!("EBUSY while a call waits; {TIMES} times on {vcpus} vCPUs at once"),
        0,
    ))
}

/// Makes OP-TEE cache a buffer again.
fn refill(kit: &Kit, session: u32) -> Result<(), String> {
    let answer = kit.client.fast(smc::ENABLE_SHM_CACHE, 0);
    same("ENABLE", &Return::from_x0(answer[0]), &Return::OK)?;
    let parked = Parked::at_get_time(kit, session)?;
    let got = parked.finish(kit);
    holds(got.is_success(), &format!("the call: {got:?}"))
}

/// Checks that exactly one buffer was returned, which belongs to this VM, and forgets it.
fn judge_disables(answers: &[[u64; 4]]) -> Result<(), String> {
    let mut found = 0;
    for &[a0, a1, a2, _] in answers {
        let code = Return::from_x0(a0);
        one_of(
            "DISABLE",
            &code,
            &[Return::OK, Return::ENOTAVAIL, Return::EBUSY],
        )?;
        if code == Return::OK {
            let cookie = smc::unpair(a1, a2);
            holds(
                supplicant::forget(cookie).is_some(),
                &format!("not ours: {cookie:#x}"),
            )?;
            found += 1;
        }
    }
    same("buffers that came back", &found, &1)
}

fn capabilities(kit: &Kit) -> Verdict {
    let wanted = kit.client.fast(smc::EXCHANGE_CAPABILITIES, 0);
    let [a0, a1, a2, a3] = wanted;
    same("without bits", &Return::from_x0(a0), &Return::OK)?;
    let caps = SecureCaps::from_bits_retain(a1);
    let all = SecureCaps::DYNAMIC_SHM
        | SecureCaps::MEMREF_NULL
        | SecureCaps::ASYNC_NOTIF
        | SecureCaps::RPC_ARG;
    same("what is offered", &caps, &all)?;
    holds(
        a2 > 0 && a2 < 1 << 16,
        &format!("notification values up to {a2}"),
    )?;
    same("RPC parameters", &a3, &4)?;
    for bits in (0..64)
        .map(|bit| 1 << bit)
        .chain([u64::MAX, 0xffff_ffff, 0xffff_fffe])
    {
        let got = kit.client.fast(smc::EXCHANGE_CAPABILITIES, bits);
        same(&format!("with {bits:#x}"), &got, &wanted)?;
    }
    Ok(Observation::denied(
        format!("capabilities {a1:#x}, {a2}, {a3}"),
        0,
    ))
}

/// Sends a command without parameters; OP-TEE leaves its result unchanged, so it is not compared.
fn command(kit: &Kit, command: Command) -> Result<(), String> {
    let got = kit.send(&Message::new(command, 0, 0, &[]));
    match got {
        Got::Result(..) => Ok(()),
        Got::Code(Return::ETHREAD_LIMIT) => Ok(()),
        got => Err(format!("{command:?}: {got:?}")),
    }
}

fn notifications(kit: &Kit) -> Verdict {
    let enable = || Return::from_x0(kit.client.fast(smc::ENABLE_ASYNC_NOTIF, 0)[0]);
    let value = || {
        let [a0, a1, a2, a3] = kit.client.fast(smc::GET_ASYNC_NOTIF_VALUE, 0);
        same("GET_VALUE", &(a0, a3), &(0, 0))?;
        holds(a2 & !3 == 0, &format!("flags {a2:#x}"))?;
        // Without a notification the value is undefined.
        let most = kit.client.fast(smc::EXCHANGE_CAPABILITIES, 0)[2];
        holds(
            a2 & 1 == 0 || a1 <= most,
            &format!("value {a1}, at most {most}"),
        )?;
        Ok::<_, String>(a2 & 1 != 0)
    };
    for order in 0..6 {
        for step in [order % 4, order / 2, (order + 2) % 4, 0, 1, 2, 3] {
            match step {
                0 => same("ENABLE", &enable(), &Return::OK)?,
                1 => drop(value()?),
                2 => command(kit, Command::DO_BOTTOM_HALF)?,
                _ => command(kit, Command::STOP_ASYNC_NOTIF)?,
            }
        }
    }
    // OP-TEE sends a notification every second while the VM has them enabled.
    same("ENABLE", &enable(), &Return::OK)?;
    let mut heard = 0;
    let deadline = timer::Deadline::after(Duration::from_secs(5));
    while heard < 2 && !deadline.passed() {
        if value()? {
            heard += 1;
            command(kit, Command::DO_BOTTOM_HALF)?;
        } else {
            timer::sleep(Duration::from_millis(20));
        }
    }
    holds(heard == 2, &format!("{heard} notifications in 5 s"))?;
    let calls = AtomicU32::new(0);
    let wrong: Mutex<Option<String>> = Mutex::new(None);
    let vcpus = cpu::count();
    parallel(vcpus, &|cpu| {
        let deadline = timer::Deadline::after(Duration::from_secs(3));
        let mut step = cpu + 1;
        while !deadline.passed() {
            step = step.wrapping_mul(5).wrapping_add(1);
            let done = match step >> 8 & 3 {
                0 => same("ENABLE", &enable(), &Return::OK),
                1 => value().map(drop),
                2 => command(kit, Command::DO_BOTTOM_HALF),
                _ => command(kit, Command::STOP_ASYNC_NOTIF),
            };
            if let Err(why) = done {
                *wrong.lock() = Some(why);
                return;
            }
            calls.fetch_add(1, Ordering::Relaxed);
        }
    });
    if let Some(why) = wrong.into_inner() {
        return Err(why);
    }
    command(kit, Command::STOP_ASYNC_NOTIF)?;
    Ok(Observation::denied(
        format!(
            "{heard} notifications; {} calls in any order on {vcpus} vCPUs",
            calls.into_inner()
        ),
        0,
    ))
}
