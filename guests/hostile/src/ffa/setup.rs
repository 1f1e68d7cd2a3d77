// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attacks 11 to 17: versions, and the RX and TX buffers.

use super::kit::{BUFFER, FfaKit, answers};
use crate::attack::{Attack, Observation, Verdict, holds, one_of, same};
use crate::kit::{IN_USE, bad_addresses, relinquish};
use alloc::format;
use alloc::string::{String, ToString};
use core::sync::atomic::{AtomicU64, Ordering};
use guest_bare::PAGE_SIZE;
use guest_bare::cpu::parallel;
use guest_bare::ffa::{self, Answer, Descriptor, Function, VERSION, call, map, version};
use guest_bare::machine::machine;
use guest_bare::pages::Pages;

/// The attacks.
pub const ATTACKS: &[Attack<FfaKit>] = &[
    Attack {
        number: 11,
        title: "VERSION after other calls, of 1.0, 1.1, 2.0, bit 31, and on all vCPUs at once",
        expected: "1.2 for all that can go on with it, NOT_SUPPORTED for others; nothing changes",
        run: versions,
    },
    Attack {
        number: 12,
        title: "descriptors in the form of other versions",
        expected: "INVALID_PARAMETERS, or read by the sizes that they say",
        run: other_forms,
    },
    Attack {
        number: 13,
        title: "RXTX_MAP of wrong addresses and sizes, twice, and on all vCPUs at once",
        expected: "INVALID_PARAMETERS; DENIED while there are buffers; one vCPU wins",
        run: wrong_buffers,
    },
    Attack {
        number: 14,
        title: "relinquishes the pages of the RX and TX buffers",
        expected: "refused while they are registered",
        run: relinquished,
    },
    Attack {
        number: 15,
        title: "RXTX_UNMAP while other vCPUs share memory, twice, and of another VM",
        expected: "each share succeeds or is INVALID_PARAMETERS; INVALID_PARAMETERS",
        run: unmap,
    },
    Attack {
        number: 16,
        title: "PARTITION_INFO_GET without buffers, with RX full, of all kinds of UUIDs; RX_RELEASE twice",
        expected: "refused, BUSY, only OP-TEE is found, DENIED",
        run: partitions,
    },
    Attack {
        number: 17,
        title: "a call before VERSION",
        expected: "NOT_SUPPORTED",
        run: before_version,
    },
];

const INVALID: &str = "INVALID_PARAMETERS";

fn versions(kit: &FfaKit) -> Verdict {
    let check =
        |asked: u64, wanted: u32| same(&format!("VERSION {asked:#x}"), &version(asked), &wanted);
    for asked in [0x1_0002, 0x1_0003, 0x1_ffff, 0x2_0000, 0x7fff_ffff] {
        check(asked, VERSION as u32)?;
    }
    for asked in [0, 0x1_0000, 0x1_0001, 0x8000_0000, 0x8001_0002, 0xffff_ffff] {
        check(asked, u32::MAX)?;
    }
    let wrong = AtomicU64::new(0);
    parallel(guest_bare::cpu::count(), &|cpu| {
        for round in 0..200 {
            let asked = 0x1_0000 + (round + cpu as u64) % 4;
            let wanted = if asked < VERSION {
                u32::MAX
            } else {
                VERSION as u32
            };
            if version(asked) != wanted {
                wrong.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    same("other answers in the race", &wrong.into_inner(), &0)?;
    kit.alive()?;
    Ok(Observation::new("11 versions, and a race".into()))
}

fn other_forms(kit: &FfaKit) -> Verdict {
    let page = Pages::take(1);
    let good = Descriptor::new(kit.endpoint.id, &[(page.address(), 1)]);
    let send = |bytes: &[u8]| {
        let length = bytes.len() as u64;
        kit.endpoint
            .send_bytes(Function::MemShare, bytes, [length, length, 0, 0])
    };
    answers("1.0", send(&good.bytes_1_0()), INVALID)?;
    let short = send(&good.clone().with_short_access().bytes());
    let handle = short.handle();
    holds(
        handle.is_some() || short.to_string() == INVALID,
        &format!("short access: {short}"),
    )?;
    if let Some(handle) = handle {
        answers("RECLAIM", kit.endpoint.reclaim(handle), "SUCCESS")?;
    }
    for size in [0, 1, 15, 17, 24, 33, 48, 255, 1 << 16, u32::MAX] {
        let wrong = Descriptor {
            access_size: size,
            ..good.clone()
        };
        answers(
            &format!("access size {size}"),
            send(&wrong.bytes()),
            INVALID,
        )?;
    }
    Ok(Observation::new(format!("short access: {short}")))
}

fn unmap_own() -> Answer {
    call(Function::RxtxUnmap, [0; 7])
}

/// Registers the program's own buffers again.
fn map_own() -> Result<(), String> {
    let buffers = ffa::buffers();
    let tx = buffers.tx.lock().address();
    answers(
        "RXTX_MAP",
        map(tx, buffers.rx.address(), BUFFER as u64),
        "SUCCESS",
    )
}

fn wrong_buffers(kit: &FfaKit) -> Verdict {
    let own = Pages::take(64);
    let (tx, rx) = (own.page(0), own.page(32));
    answers("while there are buffers", map(tx, rx, 1), "DENIED")?;
    answers("RXTX_UNMAP", unmap_own(), "SUCCESS")?;
    let mut count = 0;
    let mut refused = |what: &str, tx: u64, rx: u64, pages: u64| {
        count += 1;
        answers(what, map(tx, rx, pages), INVALID)
    };
    for bad in bad_addresses() {
        refused(bad.what, bad.address, rx, 1)?;
        refused(bad.what, tx, bad.address, 1)?;
    }
    refused("one page twice", tx, tx, 1)?;
    refused("overlapping", tx, tx + PAGE_SIZE, 2)?;
    for off in [1, 8, 0x800, 0xfff] {
        refused("unaligned TX", tx + off, rx, 1)?;
        refused("unaligned RX", tx, rx + off, 1)?;
    }
    for pages in [0, 17, 32, 63, 64, 1 << 31, u64::from(u32::MAX)] {
        refused(&format!("{pages} pages"), tx, rx, pages)?;
    }
    let last = machine().ram.end - PAGE_SIZE;
    refused("behind RAM's end", tx, last, 2)?;
    refused("an address that wraps", !(PAGE_SIZE - 1), rx, 16)?;
    let won = AtomicU64::new(0);
    let strange = AtomicU64::new(0);
    parallel(guest_bare::cpu::count(), &|cpu| {
        let own = (own.page(2 * cpu), own.page(2 * cpu + 1));
        match map(own.0, own.1, 1).to_string().as_str() {
            "SUCCESS" => won.fetch_add(1, Ordering::Relaxed),
            "DENIED" | "BUSY" => 0,
            _ => strange.fetch_add(1, Ordering::Relaxed),
        };
    });
    same("vCPUs that have mapped", &won.into_inner(), &1)?;
    same("strange answers", &strange.into_inner(), &0)?;
    answers("RXTX_UNMAP", unmap_own(), "SUCCESS")?;
    map_own()?;
    kit.alive()?;
    Ok(Observation::new(format!("{count} pairs of buffers")))
}

fn relinquished(kit: &FfaKit) -> Verdict {
    let buffers = ffa::buffers();
    let tx = buffers.tx.lock().address();
    for page in 0..BUFFER as u64 {
        for address in [tx, buffers.rx.address()] {
            let got = relinquish(address + page * PAGE_SIZE, 1);
            same("relinquish a page of a buffer", &got, &IN_USE)?;
        }
    }
    kit.alive()?;
    Ok(Observation::new(format!("{} pages", 2 * BUFFER)))
}

fn unmap(kit: &FfaKit) -> Verdict {
    let id = kit.endpoint.id;
    let pages = Pages::take(8);
    let bytes = Descriptor::new(id, &[(pages.page(0), 8)]).bytes();
    let length = bytes.len() as u64;
    ffa::buffers().tx.lock().write(0, &bytes);
    let (good, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    let strange = spin::Mutex::new(None::<String>);
    let maps = AtomicU64::new(0);
    parallel(guest_bare::cpu::count(), &|cpu| {
        if cpu == 0 {
            for _ in 0..100 {
                let unmapped = unmap_own().to_string();
                let mapped = map_own();
                if unmapped == "SUCCESS" && mapped.is_ok() {
                    maps.fetch_add(1, Ordering::Relaxed);
                }
            }
            return;
        }
        for _ in 0..200 {
            let answer = call(Function::MemShare, [length, length, 0, 0, 0, 0, 0]);
            match answer.handle() {
                Some(handle) => match kit.endpoint.reclaim(handle) {
                    answer if answer.is_success() => {
                        good.fetch_add(1, Ordering::Relaxed);
                    }
                    answer => *strange.lock() = Some(format!("RECLAIM {answer}")),
                },
                None if ["INVALID_PARAMETERS", "DENIED", "BUSY"]
                    .contains(&answer.to_string().as_str()) =>
                {
                    refused.fetch_add(1, Ordering::Relaxed);
                }
                None => *strange.lock() = Some(format!("{answer}")),
            }
        }
    });
    same("a strange answer", &strange.into_inner(), &None)?;
    // The program's own buffers are there again.
    let w1 = u64::from(kit.neighbour()) << 16;
    let other = call(Function::RxtxUnmap, [w1, 0, 0, 0, 0, 0, 0]);
    answers("RXTX_UNMAP of another VM", other, INVALID)?;
    answers("RXTX_UNMAP", unmap_own(), "SUCCESS")?;
    answers("twice", unmap_own(), INVALID)?;
    map_own()?;
    kit.alive()?;
    Ok(Observation::new(format!(
        "{} shares, {} refused, {} times unmapped",
        good.into_inner(),
        refused.into_inner(),
        maps.into_inner()
    )))
}

fn partitions(kit: &FfaKit) -> Verdict {
    let get = |words: [u64; 4], flags: u64| {
        let [a, b, c, d] = words;
        call(Function::PartitionInfoGet, [a, b, c, d, flags, 0, 0])
    };
    answers("all", get([0; 4], 0), "SUCCESS")?;
    let rx = &ffa::buffers().rx;
    let uuid = [8, 12, 16, 20].map(|at| u64::from(rx.read_u32(at)));
    answers("with RX full", get([0; 4], 0), "BUSY")?;
    answers("RX_RELEASE", ffa::release(), "SUCCESS")?;
    answers("twice", ffa::release(), "DENIED")?;
    answers("by UUID", get(uuid, 0), "SUCCESS")?;
    answers("RX_RELEASE", ffa::release(), "SUCCESS")?;
    let mut found = 0;
    for word in 0..4 {
        for bit in 0..32 {
            let mut wrong = uuid;
            wrong[word] ^= 1 << bit;
            let answer = get(wrong, 0);
            one_of(
                "another UUID",
                &answer.to_string().as_str(),
                &["SUCCESS", INVALID],
            )?;
            if answer.is_success() {
                found += u64::from(answer.w(2));
                // What was taken is given back.
                let _ = ffa::release();
            }
        }
    }
    same("partitions of other UUIDs", &found, &0)?;
    for flags in [2, 4, 0x8000_0000, 0xffff_ffff] {
        let answer = get([0; 4], flags);
        answers(&format!("flags {flags:#x}"), answer, INVALID)?;
    }
    answers("RXTX_UNMAP", unmap_own(), "SUCCESS")?;
    let without = get([0; 4], 0).to_string();
    let released = ffa::release().to_string();
    map_own()?;
    one_of(
        "without buffers",
        &without.as_str(),
        &["BUSY", INVALID, "DENIED"],
    )?;
    one_of(
        "RX_RELEASE without buffers",
        &released.as_str(),
        &["DENIED", INVALID],
    )?;
    kit.alive()?;
    Ok(Observation::new(format!(
        "without buffers: {without}, RX_RELEASE: {released}"
    )))
}

fn before_version(kit: &FfaKit) -> Verdict {
    answers("ID_GET", kit.before, "NOT_SUPPORTED")?;
    Ok(Observation::new("ID_GET".into()))
}
