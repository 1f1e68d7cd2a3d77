// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attacks 18 to 30: sharing memory.

use super::fragments::fragments;
use super::kit::{FfaKit, answers};
use crate::attack::{Attack, Observation, Verdict, holds, same};
use crate::kit::{GONE, IN_USE, bad_addresses, relinquish};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use guest_bare::PAGE_SIZE;
use guest_bare::cpu::{self, parallel};
use guest_bare::ffa::tee::Shared;
use guest_bare::ffa::{self, Answer, Descriptor, Function, call};
use guest_bare::machine::machine;
use guest_bare::pages::Pages;

/// The attacks.
pub const ATTACKS: &[Attack<FfaKit>] = &[
    Attack {
        number: 18,
        title: "another vCPU rewrites the descriptor while it is shared",
        expected: "fetched once: SUCCESS for what was there, or a refusal",
        run: rewritten,
    },
    Attack {
        number: 19,
        title: "sizes, counts and offsets in the descriptor that lead outside or wrap",
        expected: "INVALID_PARAMETERS",
        run: outside,
    },
    Attack {
        number: 20,
        title: "ranges of no pages, wrong sums, addresses that wrap or are not aligned",
        expected: "INVALID_PARAMETERS, or NO_MEMORY for 2^32 - 1 pages",
        run: wrong_ranges,
    },
    Attack {
        number: 21,
        title: "shares what is not the VM's RAM",
        expected: "DENIED, or INVALID_PARAMETERS for what is no address; no page stays pinned",
        run: not_own,
    },
    Attack {
        number: 22,
        title: "the last of 2000 pages is not the VM's, again and again",
        expected: "DENIED; no page stays pinned",
        run: last_is_bad,
    },
    Attack {
        number: 23,
        title: "the same page twice in an object, and in two objects",
        expected: "counted: unpinned with the last",
        run: twice,
    },
    Attack {
        number: 24,
        title: "other senders, handles, tags, flags, attributes, permissions and receivers",
        expected: "INVALID_PARAMETERS",
        run: wrong_fields,
    },
    Attack {
        number: 25,
        title: "1000 objects at once",
        expected: "NO_MEMORY before OP-TEE's limit; all are given back; the neighbour shares on",
        run: many,
    },
    Attack {
        number: 26,
        title: "fragments: cut anywhere, too long, too short, of wrong handles, 1000 that never end",
        expected: "put together where they are right, else INVALID_PARAMETERS; one transaction a VM",
        run: fragments,
    },
    Attack {
        number: 27,
        title: "buffers of the caller's choice",
        expected: "INVALID_PARAMETERS",
        run: dynamic,
    },
    Attack {
        number: 28,
        title: "LEND, DONATE, RETRIEVE_REQ, RELINQUISH",
        expected: "NOT_SUPPORTED",
        run: other_kinds,
    },
    Attack {
        number: 30,
        title: "60 MiB in one object, which the VM has not",
        expected: "refused",
        run: large,
    },
    Attack {
        number: 55,
        title: "shares and reclaims on all vCPUs at once",
        expected: "each object is shared and given back",
        run: all_vcpus,
    },
];

const INVALID: &str = "INVALID_PARAMETERS";
const MEM_SHARE: Function = Function::MemShare;

fn send(kit: &FfaKit, descriptor: &Descriptor) -> Answer {
    kit.endpoint.send_memory(MEM_SHARE, descriptor)
}

fn rewritten(kit: &FfaKit) -> Verdict {
    let own = Pages::take(2);
    let bytes = Descriptor::new(kit.endpoint.id, &[(own.page(0), 1)]).bytes();
    let length = bytes.len() as u64;
    let tx = ffa::buffers().tx.lock();
    tx.write(0, &bytes);
    let stop = AtomicBool::new(false);
    let (good, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    let strange = AtomicU64::new(0);
    // The sender, the offset of the list, the sum, the number of ranges, an address, a number of pages.
    let words = [0, 48, 80, 96, 104].map(|at| (at, tx.read_u64(at)));
    let others = [0x0000_0001_0000_0000, u64::MAX, 0x4020_0000, 0x0e10_0000, 0];
    parallel(2, &|cpu| {
        if cpu == 0 {
            for _ in 0..3000 {
                let answer = call(MEM_SHARE, [length, length, 0, 0, 0, 0, 0]);
                match answer.handle() {
                    Some(handle) if kit.endpoint.reclaim(handle).is_success() => {
                        good.fetch_add(1, Ordering::Relaxed)
                    }
                    Some(_) => strange.fetch_add(1, Ordering::Relaxed),
                    None => match answer.to_string().as_str() {
                        INVALID | "DENIED" | "NO_MEMORY" => refused.fetch_add(1, Ordering::Relaxed),
                        _ => strange.fetch_add(1, Ordering::Relaxed),
                    },
                };
            }
            stop.store(true, Ordering::Relaxed);
            return;
        }
        let mut round = 0_usize;
        while !stop.load(Ordering::Relaxed) {
            round += 1;
            let (at, right) = words[round % words.len()];
            tx.write_u64(at, others[round % others.len()]);
            tx.write_u64(at, right);
        }
    });
    drop(tx);
    same("strange answers", &strange.into_inner(), &0)?;
    same("relinquish", &relinquish(own.page(0), 1), &GONE)?;
    own.forget();
    kit.alive()?;
    Ok(Observation::new(format!(
        "{} shared, {} refused",
        good.into_inner(),
        refused.into_inner()
    )))
}

fn outside(kit: &FfaKit) -> Verdict {
    let page = Pages::take(1);
    let good = Descriptor::new(kit.endpoint.id, &[(page.address(), 1)]);
    let mut count = 0;
    let mut refused = |what: String, change: &dyn Fn(&mut Descriptor)| {
        let mut wrong = good.clone();
        change(&mut wrong);
        count += 1;
        answers(&what, send(kit, &wrong), INVALID)
    };
    for offset in [
        0,
        8,
        16,
        40,
        47,
        49,
        56,
        64,
        96,
        0xfff0,
        0x7fff_fff0,
        u32::MAX,
    ] {
        refused(format!("access offset {offset:#x}"), &|d| {
            d.access_offset = offset;
        })?;
    }
    for number in [0, 2, 3, 0x800_0000, 0x1000_0000, u32::MAX] {
        refused(format!("{number} receivers"), &|d| d.access_count = number)?;
    }
    for offset in [
        0,
        8,
        48,
        72,
        76,
        84,
        88,
        96,
        100,
        112,
        0xfff0,
        0xffff_fff0,
        u32::MAX,
    ] {
        refused(format!("list at {offset:#x}"), &|d| {
            d.composite_offset = offset;
        })?;
    }
    for number in [0, 2, 0x1000_0000, 0x1000_0001, u32::MAX] {
        refused(format!("{number} ranges"), &|d| d.count = Some(number))?;
    }
    let bytes = good.bytes();
    let length = bytes.len() as u64;
    for total in [0, 1, 47, 48, 80, 95, 96, 111] {
        let answer = kit
            .endpoint
            .send_bytes(MEM_SHARE, &bytes, [total, total, 0, 0]);
        answers(&format!("{total} bytes of {length}"), answer, INVALID)?;
    }
    kit.alive()?;
    Ok(Observation::new(format!("{} descriptors", count + 8)))
}

fn wrong_ranges(kit: &FfaKit) -> Verdict {
    let pages = Pages::take(4);
    let at = |page: usize| pages.page(page);
    let good = Descriptor::new(kit.endpoint.id, &[(at(0), 1)]);
    let refused = |what: &str, change: &dyn Fn(&mut Descriptor)| {
        let mut wrong = good.clone();
        change(&mut wrong);
        answers(what, send(kit, &wrong), INVALID)
    };
    let place = |what: &str, ranges: &[(u64, u32)]| refused(what, &|d| d.ranges = ranges.into());
    place("no range", &[])?;
    place("no page", &[(at(0), 0)])?;
    place("no page beside one", &[(at(0), 1), (at(1), 0)])?;
    let many = [(at(0), u32::MAX)];
    let answer = send(kit, &Descriptor::new(kit.endpoint.id, &many));
    answers("2^32 - 1 pages", answer, "NO_MEMORY")?;
    place("pages that wrap", &[(at(0), u32::MAX), (at(1), 2)])?;
    place("an address that wraps", &[(!(PAGE_SIZE - 1), 2)])?;
    place("unaligned by 1", &[(at(0) + 1, 1)])?;
    place("by 8", &[(at(0) + 8, 1)])?;
    place("by 2048", &[(at(0) + 2048, 1)])?;
    for total in [0, 2, u32::MAX] {
        refused("another sum", &|d| d.total = Some(total))?;
    }
    kit.alive()?;
    Ok(Observation::new("12 descriptors".into()))
}

fn not_own(kit: &FfaKit) -> Verdict {
    let own = Pages::take(2);
    let mut seen = Vec::new();
    for bad in bad_addresses() {
        for ranges in [
            &[(bad.address, 1)][..],
            &[(own.page(0), 2), (bad.address, 1)][..],
            &[(bad.address, 1), (own.page(0), 2)][..],
        ] {
            let answer = send(kit, &Descriptor::new(kit.endpoint.id, ranges)).to_string();
            let good = answer == "DENIED" || answer == INVALID;
            holds(good, &format!("{}: {answer}", bad.what))?;
            if !seen.contains(&answer) {
                seen.push(answer);
            }
        }
    }
    let last = machine().ram.end - PAGE_SIZE;
    let answer = send(kit, &Descriptor::new(kit.endpoint.id, &[(last, 2)]));
    answers("across the end of RAM", answer, "DENIED")?;
    same("relinquish", &relinquish(own.page(0), 2), &GONE)?;
    own.forget();
    kit.alive()?;
    Ok(Observation::new(seen.join(", ")))
}

fn last_is_bad(kit: &FfaKit) -> Verdict {
    let own = Pages::take(1999);
    let ranges = [(own.page(0), 1999), (0x4020_0000, 1)];
    for _ in 0..50 {
        let answer = send(kit, &Descriptor::new(kit.endpoint.id, &ranges));
        answers("2000 pages", answer, "DENIED")?;
    }
    same("relinquish", &relinquish(own.page(1998), 1), &GONE)?;
    own.forget();
    Ok(Observation::new("50 times".into()))
}

fn twice(kit: &FfaKit) -> Verdict {
    kit.with_tests(|session| {
        let own = Pages::take(1);
        let at = own.address();
        let first = send(kit, &Descriptor::new(kit.endpoint.id, &[(at, 1), (at, 1)]));
        let double = first
            .handle()
            .ok_or_else(|| format!("twice in one: {first}"))?;
        let shared = Shared::of(&kit.endpoint, own).map_err(|why| format!("{why:?}"))?;
        kit.check(session, &shared)?;
        answers("RECLAIM", kit.endpoint.reclaim(double), "SUCCESS")?;
        same("relinquish", &relinquish(at, 1), &IN_USE)?;
        kit.check(session, &shared)?;
        kit.give_up(shared)?;
        Ok(Observation::new("unpinned at the last".into()))
    })
}

fn wrong_fields(kit: &FfaKit) -> Verdict {
    let page = Pages::take(1);
    let own = kit.endpoint.id;
    let good = Descriptor::new(own, &[(page.address(), 1)]);
    let mut count = 0;
    let mut refused = |what: String, change: &dyn Fn(&mut Descriptor)| {
        let mut wrong = good.clone();
        change(&mut wrong);
        count += 1;
        answers(&what, send(kit, &wrong), INVALID)
    };
    for sender in [0, kit.neighbour(), 9, 0x7fff, 0x8000, 0x8001, 0xffff] {
        refused(format!("sender {sender:#x}"), &|d| d.sender = sender)?;
    }
    for handle in [1, 0x1000_0001_0000, 1 << 63, 1 << 63 | 7, u64::MAX] {
        refused(format!("handle {handle:#x}"), &|d| d.handle = handle)?;
    }
    for tag in [1, u64::MAX] {
        refused(format!("tag {tag:#x}"), &|d| d.tag = tag)?;
    }
    for bit in 0..32 {
        refused(format!("flag {bit}"), &|d| d.flags = 1 << bit)?;
    }
    for attributes in [0, 0x1f, 0x27, 0x2d, 0x2e, 0x2b, 0x3f, 0x6f, 0x12f, 0xffff] {
        refused(format!("attributes {attributes:#x}"), &|d| {
            d.attributes = attributes;
        })?;
    }
    for permissions in [0, 1, 3, 4, 6, 8, 0xa, 0xe, 0x12, 0xff] {
        refused(format!("permissions {permissions:#x}"), &|d| {
            d.permissions = permissions;
        })?;
    }
    for bit in 0..8 {
        refused(format!("the receiver's flag {bit}"), &|d| {
            d.receiver_flags = 1 << bit;
        })?;
    }
    for receiver in [0, own, kit.neighbour(), 0x8000, 0x8002, 0xffff] {
        refused(format!("receiver {receiver:#x}"), &|d| {
            d.receiver = receiver;
        })?;
    }
    kit.alive()?;
    Ok(Observation::new(format!("{count} descriptors")))
}

fn many(kit: &FfaKit) -> Verdict {
    let page = Pages::take(1);
    let ranges = [(page.address(), 1)];
    let mut handles = Vec::new();
    for _ in 0..1000 {
        let answer = kit.endpoint.share(&ranges);
        match answer.handle() {
            Some(handle) => handles.push(handle),
            None => answers("one too many", answer, "NO_MEMORY")?,
        }
    }
    let held = handles.len();
    holds(held < 64, &format!("{held} objects"))?;
    holds(held > 32, &format!("only {held} objects"))?;
    let mut sorted = handles.clone();
    sorted.sort_unstable();
    sorted.dedup();
    same("different handles", &sorted.len(), &held)?;
    for handle in handles {
        answers("RECLAIM", kit.endpoint.reclaim(handle), "SUCCESS")?;
    }
    same("relinquish", &relinquish(page.address(), 1), &GONE)?;
    page.forget();
    kit.alive()?;
    Ok(Observation::new(format!("{held} objects")))
}

fn dynamic(kit: &FfaKit) -> Verdict {
    let own = Pages::take(1);
    let bytes = Descriptor::new(kit.endpoint.id, &[(own.address(), 1)]).bytes();
    let length = bytes.len() as u64;
    for (address, pages) in [
        (own.address(), 1),
        (own.address(), 0),
        (0, 1),
        (0x4020_0000, 1),
    ] {
        let w = [length, length, address, pages];
        let answer = kit.endpoint.send_bytes(MEM_SHARE, &bytes, w);
        answers(&format!("a buffer at {address:#x}"), answer, INVALID)?;
    }
    Ok(Observation::new("4 buffers".into()))
}

fn other_kinds(kit: &FfaKit) -> Verdict {
    let own = Pages::take(1);
    let bytes = Descriptor::new(kit.endpoint.id, &[(own.address(), 1)]).bytes();
    let length = bytes.len() as u64;
    let kinds = [
        Function::MemLend,
        Function::MemDonate,
        Function::MemRetrieveReq,
        Function::MemRelinquish,
        Function::MemRetrieveResp,
    ];
    for function in kinds {
        for length in [length, 0] {
            let w = [length, length, 0, 0];
            let answer = kit.endpoint.send_bytes(function, &bytes, w);
            let text = answer.to_string();
            holds(
                text == "NOT_SUPPORTED" || length == 0 && text == INVALID,
                &format!("{}: {text}", function.name()),
            )?;
        }
    }
    same("relinquish", &relinquish(own.address(), 1), &GONE)?;
    own.forget();
    Ok(Observation::new(format!("{} functions", kinds.len())))
}

fn large(kit: &FfaKit) -> Verdict {
    let start = machine().ram.start;
    let mut seen = Vec::new();
    for mib in [60, 256, 4096, 1 << 22] {
        let pages = ((mib << 20) / PAGE_SIZE) as u32;
        let answer = kit.endpoint.share(&[(start, pages)]);
        let text = answer.to_string();
        holds(
            ["DENIED", "NO_MEMORY", INVALID].contains(&text.as_str()),
            &format!("{mib} MiB: {text}"),
        )?;
        seen.push(text);
    }
    kit.alive()?;
    Ok(Observation::new(seen.join(", ")))
}

fn all_vcpus(kit: &FfaKit) -> Verdict {
    let pages = Pages::take(8);
    let bytes = Descriptor::new(kit.endpoint.id, &[(pages.page(0), 8)]).bytes();
    let length = bytes.len() as u64;
    ffa::buffers().tx.lock().write(0, &bytes);
    let good = AtomicU64::new(0);
    let strange = spin::Mutex::new(None::<String>);
    parallel(guest_bare::cpu::count(), &|_| {
        for _ in 0..300 {
            let answer = call(MEM_SHARE, [length, length, 0, 0, 0, 0, 0]);
            let Some(handle) = answer.handle() else {
                *strange.lock() = Some(format!("MEM_SHARE: {answer}"));
                continue;
            };
            let answer = kit.endpoint.reclaim(handle);
            if answer.is_success() {
                good.fetch_add(1, Ordering::Relaxed);
            } else {
                *strange.lock() = Some(format!("RECLAIM of {handle:#x}: {answer}"));
            }
        }
    });
    same("a strange answer", &strange.into_inner(), &None)?;
    same("relinquish", &relinquish(pages.page(0), 8), &GONE)?;
    pages.forget();
    kit.alive()?;
    Ok(Observation::new(format!("{} objects", good.into_inner())))
}

/// The descriptor's length, for other vCPUs.
static LENGTH: AtomicU64 = AtomicU64::new(0);

fn share_for_ever(id: u64) {
    let endpoint = guest_bare::ffa::Endpoint::new(id as u16);
    let length = LENGTH.load(Ordering::Relaxed);
    loop {
        let answer = call(MEM_SHARE, [length, length, 0, 0, 0, 0, 0]);
        if let Some(handle) = answer.handle() {
            endpoint.reclaim(handle);
        }
    }
}

/// Has all other vCPUs share and reclaim without pause.
pub fn leave_sharing(kit: &FfaKit) -> Result<(), String> {
    let pages = Pages::take(512);
    let bytes = Descriptor::new(kit.endpoint.id, &[(pages.page(0), 512)]).bytes();
    ffa::buffers().tx.lock().write(0, &bytes);
    LENGTH.store(bytes.len() as u64, Ordering::Relaxed);
    pages.forget();
    for other in 1..cpu::count() {
        cpu::spawn(other, share_for_ever, kit.endpoint.id.into());
    }
    guest_bare::timer::sleep(core::time::Duration::from_millis(50));
    Ok(())
}
