// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attacks 41 to 43: what messages and answers to RPCs say.

use super::kit::{BAD_RESULT, FfaKit, answers, of_tee, results};
use crate::attack::{Attack, Observation, Verdict, holds, same};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use guest_bare::PAGE_SIZE;
use guest_bare::cpu::parallel;
use guest_bare::ffa::tee::{Act, Shared, describe, fmem};
use guest_bare::tee::apps;
use guest_bare::tee::message::value;
use optee_proto::ffa::Fmem;
use optee_proto::msg::{Attr, Command, Param};
use optee_proto::{TeeResult, rpc};

/// The attacks.
pub const ATTACKS: &[Attack<FfaKit>] = &[
    Attack {
        number: 41,
        title: "commands, numbers and types of parameters, sessions and cancellations that are not the VM's",
        expected: "refused; OP-TEE lives",
        run: wrong_messages,
    },
    Attack {
        number: 42,
        title: "references to memory: offsets, sizes, handles of all kinds, also in answers to SHM_ALLOC",
        expected: "refused, no memory but the VM's is reached",
        run: references,
    },
    Attack {
        number: 43,
        title: "another vCPU changes the message in shared memory during calls",
        expected: "fetched once: a call either is what it was, or is refused",
        run: changed,
    },
];

/// Results of requests that are refused.
fn refused(what: &str, got: &Result<(), guest_bare::ffa::tee::Refusal>) -> Result<(), String> {
    holds(got.is_err(), &format!("{what}: success"))
}

fn wrong_messages(kit: &FfaKit) -> Verdict {
    let tee = &kit.tee;
    let mut count = 0;
    kit.with_tests(|session| {
        // 6 and 7 are the bottom half and the end of notifications.
        for command in [4, 5]
            .into_iter()
            .chain(8..20)
            .chain([0x7fff_ffff, u32::MAX])
        {
            for params in [0, 1, 4] {
                let params = &[value(Attr::VALUE_INOUT, 1, 2); 4][..params];
                let got = tee.send(Command(command), 0, session, params);
                refused(&format!("command {command:#x}"), &got)?;
                count += 1;
            }
        }
        for attr in [
            0, 4, 8, 9, 0xa, 0xb, 0xc, 0xf, 0x10, 0x101, 0x103, 0x107, 0x207, 0x407, 0xff,
        ] {
            let param = Param::new(Attr(attr), kit.tee.room.pages.address(), 8, 0);
            let got = tee.invoke(session, apps::TESTS_PARAMS, &[param]);
            refused(&format!("type {attr:#x}"), &got)?;
            count += 1;
        }
        for bit in 8..64 {
            let shared = kit.share(1)?;
            let param = fmem(Attr(Attr::RMEM_INOUT.0 | 1 << bit), shared.handle, 0, 8);
            let got = tee.invoke(session, apps::TESTS_PARAMS, &[param]);
            refused(&format!("bit {bit} of a type"), &got)?;
            // OP-TEE itself would never give it back.
            kit.unshare(shared)?;
            count += 1;
        }
        let five = [value(Attr::VALUE_INOUT, 1, 2); 6];
        for params in [5, 6] {
            let got = tee.invoke(session, apps::TESTS_PARAMS, &five[..params]);
            refused(&format!("{params} parameters"), &got)?;
            count += 1;
        }
        for other in [0, session + 1, session + 77, 0xffff, u32::MAX] {
            refused(
                "INVOKE of another session",
                &tee.invoke(other, apps::TESTS_TRACE, &[]),
            )?;
            refused("CLOSE_SESSION of another session", &tee.close(other))?;
            // Whatever it says, it must not reach another VM.
            let _ = tee.send(Command::CANCEL, 0, other, &[]);
            count += 3;
        }
        // OPEN_SESSION without what says of which application.
        for params in [0, 1, 2] {
            let params = &[value(Attr::VALUE_INPUT, 1, 2); 2][..params];
            refused(
                "OPEN_SESSION",
                &tee.send(Command::OPEN_SESSION, 0, 0, params),
            )?;
            count += 1;
        }
        Ok(())
    })?;
    kit.alive()?;
    Ok(Observation::new(format!("{count} messages")))
}

fn reference(shared: &Shared, offset: u64, internal_offset: u16, size: u64) -> Param {
    let fmem = Fmem {
        offset,
        internal_offset,
        size,
        handle: shared.handle,
    };
    fmem.write(Attr::RMEM_INOUT).expect("an offset of 48 bits")
}

fn references(kit: &FfaKit) -> Verdict {
    let tee = &kit.tee;
    let mut count = 0;
    kit.with_tests(|session| {
        let shared = kit.share(2)?;
        let pages = &shared.pages;
        let attempt = |param: Param| tee.invoke(session, apps::TESTS_PARAMS, &[param]);
        let end = 2 * PAGE_SIZE;
        for (offset, internal, size) in [
            (0, 4096, 8),
            (0, 0xffff, 8),
            (end, 0, 8),
            (end - 4, 0, 8),
            (0, 0, end + 1),
            (0, 64, end),
            (end - 64, 64, 8),
            (1 << 32, 0, 8),
            (1 << 47, 0, 8),
            ((1 << 48) - 8, 0, 16),
            (8, 0, u64::MAX),
            (8, 0, u64::MAX - 7),
        ] {
            let got = attempt(reference(&shared, offset, internal, size));
            refused(
                &format!("{offset:#x} + {internal:#x}, {size:#x} bytes"),
                &got,
            )?;
            count += 1;
        }
        let foreign = u64::from(kit.neighbour()) << 16 | 1 << 44;
        let own_objects = u64::from(kit.endpoint.id) << 16 | 1 << 44;
        let others = (0..8)
            .flat_map(|index| [foreign | index, own_objects | index])
            .chain([0, 77, u64::MAX - 1, 1 << 63]);
        for handle in others.filter(|one| *one != shared.handle && *one != tee.room.handle) {
            let got = attempt(fmem(Attr::RMEM_INOUT, handle, 0, 8));
            results(&format!("handle {handle:#x}"), &got, BAD_RESULT)?;
            count += 1;
        }
        refused(
            "no memory of 8 bytes",
            &attempt(fmem(Attr::RMEM_INOUT, Fmem::NULL, 0, 8)),
        )?;
        // What is right works, and nothing else has changed.
        pages.fill(0x0101_0101_0101_0101);
        of_tee(
            "8 bytes in the second page",
            attempt(reference(&shared, PAGE_SIZE, 16, 8)),
        )?;
        let changed = (0..end as usize).step_by(8);
        let changed: Vec<usize> = changed
            .filter(|at| pages.read_u64(*at) != 0x0101_0101_0101_0101)
            .collect();
        same(
            "words that OP-TEE changed",
            &changed,
            &Vec::from([PAGE_SIZE as usize + 16]),
        )?;
        kit.unshare(shared)
    })?;
    count += allocations(kit)?;
    kit.alive()?;
    Ok(Observation::new(format!("{count} references")))
}

/// Opens an application, and answers its first large SHM_ALLOC wrongly.
fn allocations(kit: &FfaKit) -> Result<u64, String> {
    let tee = &kit.tee;
    let small = kit.share(1)?;
    let foreign = u64::from(kit.neighbour()) << 16 | 1 << 44;
    let mut count = 0;
    let out = Attr::RMEM_OUTPUT;
    let answers_: [&dyn Fn(u64) -> Param; 9] = [
        &|size| fmem(out, small.handle, 0, size),
        &|_| fmem(out, small.handle, 0, PAGE_SIZE),
        &|size| fmem(out, foreign, 0, size),
        &|size| fmem(out, 0x1234, 0, size),
        &|size| fmem(out, Fmem::NULL, 0, size),
        &|size| fmem(out, tee.room.handle, 0, size),
        &|size| fmem(Attr::RMEM_INPUT, small.handle, 0, size),
        &|size| Param::new(Attr::TMEM_OUTPUT, small.pages.address(), size, small.handle),
        &|_| Param::new(Attr::VALUE_OUTPUT, 0, 0, 0),
    ];
    for answer in answers_ {
        tee.put_open(apps::OS_TEST);
        let mut asked = false;
        let got = tee.run(tee.begin(), |view| {
            let size = view.param(0).b.get();
            if rpc::Command(view.cmd()) == rpc::Command::SHM_ALLOC && size > PAGE_SIZE {
                asked = true;
                view.set_param(0, &answer(size));
                view.set_ret(TeeResult::SUCCESS);
                return Act::Answered;
            }
            // The objects of a refused answer stay the program's.
            let is_free = rpc::Command(view.cmd()) == rpc::Command::SHM_FREE;
            if is_free && [small.handle, tee.room.handle].contains(&view.param(0).b.get()) {
                view.set_ret(TeeResult::SUCCESS);
                return Act::Answered;
            }
            Act::Default
        });
        holds(asked, "OP-TEE has not asked for memory")?;
        holds(got.is_err(), "an application was loaded into wrong memory")?;
        count += 1;
    }
    kit.unshare(small)?;
    Ok(count)
}

fn changed(kit: &FfaKit) -> Verdict {
    kit.with_tests(|session| {
        let stop = AtomicBool::new(false);
        let (good, refused) = (AtomicU64::new(0), AtomicU64::new(0));
        let wrong = AtomicU64::new(0);
        let page = &kit.tee.room.pages;
        let shared = kit.share(1)?;
        // What the other vCPU writes, and where: command, function, session, number, and the parameter.
        let changes = [
            (0, 0xffff_0001_0000_0005),
            (8, u64::MAX),
            (24, 0xffff_ffff_0000_0000),
            (32, 0x3ff),
            (40, 0xffff_0000_0000_1000),
            (48, u64::MAX),
            (56, u64::MAX),
        ];
        parallel(2, &|cpu| {
            if cpu == 0 {
                for _ in 0..1500 {
                    let param = shared.part(Attr::RMEM_INOUT, 0, 8);
                    let got = kit.tee.invoke(session, apps::TESTS_PARAMS, &[param]);
                    match got {
                        Ok(()) => good.fetch_add(1, Ordering::Relaxed),
                        Err(_) => refused.fetch_add(1, Ordering::Relaxed),
                    };
                    if describe(&got).is_empty() {
                        wrong.fetch_add(1, Ordering::Relaxed);
                    }
                }
                stop.store(true, Ordering::Relaxed);
                return;
            }
            let mut round = 0_usize;
            while !stop.load(Ordering::Relaxed) {
                round += 1;
                let (at, bits) = changes[round % changes.len()];
                let before = page.read_u64(at);
                page.write_u64(at, before ^ bits);
                page.write_u64(at, before);
            }
        });
        same("answers without words", &wrong.into_inner(), &0)?;
        kit.check(session, &shared)?;
        let handle = shared.handle;
        kit.unshare(shared)?;
        answers(
            "RECLAIM",
            kit.endpoint.reclaim(handle),
            "INVALID_PARAMETERS",
        )?;
        Ok(Observation::new(format!(
            "{} calls, {} refused",
            good.into_inner(),
            refused.into_inner()
        )))
    })
}
