// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attacks 31 to 36: the end of objects.

use super::kit::{BAD_PARAMETERS, BAD_RESULT, FfaKit, answers, results, status};
use crate::attack::{Attack, Observation, Verdict, holds, one_of, same};
use crate::kit::{GONE, IN_USE, relinquish};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use guest_bare::cpu::parallel;
use guest_bare::ffa::tee::{describe_status, fmem};
use guest_bare::tee::apps;
use optee_proto::msg::{Attr, Command};

/// The attacks.
pub const ATTACKS: &[Attack<FfaKit>] = &[
    Attack {
        number: 31,
        title: "RECLAIM of other VMs' handles, of guesses, of what is reclaimed, with flags",
        expected: "INVALID_PARAMETERS",
        run: wrong_reclaims,
    },
    Attack {
        number: 32,
        title: "RECLAIM while a call uses the object, and before UNREGISTER_SHM",
        expected: "DENIED, and the pages stay pinned",
        run: in_use,
    },
    Attack {
        number: 33,
        title: "RECLAIM and UNREGISTER_SHM of one handle on all vCPUs at once",
        expected: "one RECLAIM succeeds",
        run: race,
    },
    Attack {
        number: 34,
        title: "UNREGISTER_SHM of all ones, 0, other VMs' and OP-TEE's handles, of an object in use",
        expected: "refused; OP-TEE lives",
        run: unregister,
    },
    Attack {
        number: 36,
        title: "old handles in messages, after their objects were reclaimed and others shared",
        expected: "refused, or the VM's own objects",
        run: reused,
    },
];

const INVALID: &str = "INVALID_PARAMETERS";

/// Handles that OP-TEE gives to VMs, and other guesses.
fn guesses() -> Vec<u64> {
    let mut all: Vec<u64> = (0..8_u64)
        .flat_map(|vm| (0..66_u64).map(move |index| 1 << 44 | vm << 16 | index))
        .collect();
    all.extend([0, u64::MAX, u64::MAX - 1, 1 << 63, 1 << 63 | 1, 1 << 44]);
    all
}

fn wrong_reclaims(kit: &FfaKit) -> Verdict {
    let shared = kit.share(1)?;
    // The handles that the VM has itself may be among the guesses.
    let own = [shared.handle, kit.tee.room.handle];
    let guesses = guesses();
    for guess in guesses.iter().filter(|guess| !own.contains(guess)) {
        let answer = kit.endpoint.reclaim(*guess);
        answers(&format!("RECLAIM of {guess:#x}"), answer, INVALID)?;
    }
    for flags in [1, 2, 3, 4, 0x8000_0000, 0xffff_ffff] {
        let answer = kit.endpoint.reclaim_with(shared.handle, flags);
        answers(&format!("flags {flags:#x}"), answer, INVALID)?;
    }
    kit.check_pinned(&shared)?;
    let handle = shared.handle;
    kit.unshare(shared)?;
    answers("twice", kit.endpoint.reclaim(handle), INVALID)?;
    kit.alive()?;
    Ok(Observation::new(format!("{} handles", guesses.len())))
}

fn in_use(kit: &FfaKit) -> Verdict {
    let tee = kit.client()?;
    let call = kit
        .park(&tee)
        .map_err(|why| format!("a call does not wait: {why:?}"))?;
    let handle = tee.room.handle;
    let at = tee.room.pages.address();
    answers("RECLAIM in a call", kit.endpoint.reclaim(handle), "DENIED")?;
    status(
        "UNREGISTER in a call",
        kit.endpoint.unregister(handle),
        "BUSY",
    )?;
    same("relinquish in a call", &relinquish(at, 1), &IN_USE)?;
    kit.finish(&tee, call)?;
    // The mediator reads the message itself, so OP-TEE may not have used the object at all.
    kit.with_tests(|session| {
        let shared = kit.share(1)?;
        kit.check(session, &shared)?;
        let early = kit.endpoint.reclaim(shared.handle).to_string();
        one_of(
            "RECLAIM before UNREGISTER",
            &early.as_str(),
            &["DENIED", "SUCCESS"],
        )?;
        if early == "DENIED" {
            kit.check_pinned(&shared)?;
            kit.unshare(shared)?;
        } else {
            same("relinquish", &relinquish(shared.pages.address(), 1), &GONE)?;
            shared.pages.forget();
        }
        kit.give_up(tee.room)?;
        Ok(Observation::new(format!("before UNREGISTER: {early}")))
    })
}

fn race(kit: &FfaKit) -> Verdict {
    let mut rounds = 0;
    for _ in 0..100 {
        let shared = kit.share(4)?;
        let (won, strange) = (AtomicU64::new(0), AtomicU64::new(0));
        parallel(guest_bare::cpu::count(), &|cpu| {
            if cpu % 2 == 1 {
                // Whatever its answer, it must not bring an object back.
                let _ = kit.endpoint.unregister(shared.handle);
            }
            match kit.endpoint.reclaim(shared.handle).to_string().as_str() {
                "SUCCESS" => won.fetch_add(1, Ordering::Relaxed),
                INVALID | "DENIED" => 0,
                _ => strange.fetch_add(1, Ordering::Relaxed),
            };
        });
        same("strange answers", &strange.into_inner(), &0)?;
        let won = won.into_inner();
        if won == 0 {
            // All came while another was at it.
            answers(
                "RECLAIM after all",
                kit.endpoint.reclaim(shared.handle),
                "SUCCESS",
            )?;
        } else {
            same("vCPUs that have reclaimed", &won, &1)?;
        }
        rounds += 1;
    }
    kit.alive()?;
    Ok(Observation::new(format!("{rounds} rounds")))
}

fn unregister(kit: &FfaKit) -> Verdict {
    let own = kit.tee.room.handle;
    let mut seen = Vec::new();
    let guesses = guesses();
    for guess in guesses.iter().filter(|guess| **guess != own) {
        let got = describe_status(kit.endpoint.unregister(*guess));
        one_of(
            &format!("UNREGISTER of {guess:#x}"),
            &got.as_str(),
            &[BAD_PARAMETERS, "OK", INVALID],
        )?;
        if !seen.contains(&got) {
            seen.push(got);
        }
    }
    let ones = describe_status(kit.endpoint.unregister(u64::MAX));
    holds(ones != "OK", "UNREGISTER of all ones is OK")?;
    let tee = kit.client()?;
    let call = kit
        .park(&tee)
        .map_err(|why| format!("a call does not wait: {why:?}"))?;
    status(
        "in a call",
        kit.endpoint.unregister(tee.room.handle),
        "BUSY",
    )?;
    kit.finish(&tee, call)?;
    kit.end(tee)?;
    kit.alive()?;
    Ok(Observation::new(format!(
        "{} handles: {}",
        guesses.len(),
        seen.join(", ")
    )))
}

fn reused(kit: &FfaKit) -> Verdict {
    kit.with_tests(|session| {
        let old: Vec<u64> = (0..8)
            .map(|_| {
                let shared = kit.share(1)?;
                let handle = shared.handle;
                kit.unshare(shared)?;
                Ok(handle)
            })
            .collect::<Result<_, String>>()?;
        for handle in &old {
            let begun = kit.tee.begin_at(*handle, 0).map(drop);
            results("a message in an old object", &begun, BAD_PARAMETERS)?;
            let param = fmem(Attr::RMEM_INOUT, *handle, 0, 8);
            let used = kit
                .tee
                .send(Command::INVOKE, apps::TESTS_PARAMS, session, &[param]);
            results("an old object as a parameter", &used, BAD_RESULT)?;
            answers("RECLAIM", kit.endpoint.reclaim(*handle), INVALID)?;
        }
        Ok(Observation::new(format!("{} handles", old.len())))
    })
}

/// Leaves objects shared, one of which OP-TEE knows.
pub fn leave_objects(kit: &FfaKit) -> Result<(), String> {
    let session = kit.open_tests()?;
    for pages in [1, 3, 500] {
        let shared = kit.share(pages)?;
        kit.check(session, &shared)?;
        shared.pages.forget();
    }
    for _ in 0..20 {
        kit.share(1)?.pages.forget();
    }
    Ok(())
}
