// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attacks 44 to 49: notifications.

use super::kit::{FfaKit, answers};
use crate::attack::{Attack, Observation, Verdict, holds, one_of, same};
use alloc::format;
use alloc::string::{String, ToString};
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use guest_bare::cpu::parallel;
use guest_bare::ffa::{self, Answer, Function, OPTEE, call, call_by, id64};
use guest_bare::gic;
use guest_bare::timer::{self, Deadline};

/// The attacks.
pub const ATTACKS: &[Attack<FfaKit>] = &[
    Attack {
        number: 44,
        title: "NOTIFICATION_BITMAP_CREATE and DESTROY of all VMs, before and after ENABLE",
        expected: "NOT_SUPPORTED; OP-TEE lives at the next event",
        run: bitmaps,
    },
    Attack {
        number: 45,
        title: "BIND, UNBIND, GET, SET of other VMs, per vCPU, of no and all bits",
        expected: "INVALID_PARAMETERS, or NOT_SUPPORTED where there are no notifications",
        run: others,
    },
    Attack {
        number: 46,
        title: "ENABLE_ASYNC_NOTIF of what is not bound, of 64 and more",
        expected: "refused",
        run: enable,
    },
    Attack {
        number: 47,
        title: "NOTIFICATION_INFO_GET on all vCPUs without pause",
        expected: "answered at EL2: no data",
        run: info_storm,
    },
    Attack {
        number: 48,
        title: "raises its own notification interrupt, masks it, never fetches",
        expected: "harmless; the interrupt is a virtual one",
        run: own_interrupt,
    },
    Attack {
        number: 49,
        title: "sends SGI 8 to all vCPUs, in all groups",
        expected: "the VM's own vCPUs alone",
        run: send_interrupts,
    },
];

/// The SGI of OP-TEE's notifications, at EL2 and in the VM.
const SGI: u32 = 8;
const INVALID: &str = "INVALID_PARAMETERS";
const UNSUPPORTED: &str = "NOT_SUPPORTED";

fn bind(function: Function, sender: u16, receiver: u16, flags: u64, bits: u64) -> Answer {
    let w1 = u64::from(sender) << 16 | u64::from(receiver);
    call(
        function,
        [w1, flags, bits & 0xffff_ffff, bits >> 32, 0, 0, 0],
    )
}

fn bind_own(kit: &FfaKit, function: Function, bits: u64) -> Answer {
    bind(function, OPTEE, kit.endpoint.id, 0, bits)
}

fn enable_value(kit: &FfaKit, number: u32) -> Result<u32, String> {
    let answer = kit.endpoint.direct([5, number, 0, 0, 0]);
    let words = answer.direct().ok_or_else(|| format!("ENABLE: {answer}"))?;
    Ok(words[0])
}

fn bitmaps(kit: &FfaKit) -> Verdict {
    let attempt = || {
        for vm in [kit.endpoint.id, kit.neighbour(), 0, 3, 9, 0xffff] {
            for function in [
                Function::NotificationBitmapCreate,
                Function::NotificationBitmapDestroy,
            ] {
                for vcpus in [0, 1, 4] {
                    let answer = call(function, [vm.into(), vcpus, 0, 0, 0, 0, 0]);
                    answers(&format!("{} of {vm}", function.name()), answer, UNSUPPORTED)?;
                }
            }
        }
        Ok::<(), String>(())
    };
    attempt()?;
    let bound = bind_own(kit, Function::NotificationBind, 1).to_string();
    let enabled = enable_value(kit, 0)?;
    attempt()?;
    // OP-TEE's test watchdog rings each second while the VM calls.
    for _ in 0..20 {
        kit.alive()?;
        timer::sleep(Duration::from_millis(100));
    }
    // What was bound is unbound again, if it was.
    let _ = bind_own(kit, Function::NotificationUnbind, 1);
    kit.alive()?;
    Ok(Observation::new(format!(
        "BIND: {bound}, ENABLE: {enabled:#x}"
    )))
}

fn others(kit: &FfaKit) -> Verdict {
    let wanted = if kit.notifies() { INVALID } else { UNSUPPORTED };
    let own = kit.endpoint.id;
    let mut count = 0;
    for function in [Function::NotificationBind, Function::NotificationUnbind] {
        let mut refused = |what: &str, answer: Answer| {
            count += 1;
            answers(&format!("{} {what}", function.name()), answer, wanted)
        };
        for vm in [kit.neighbour(), 0, 9, 0x7fff, OPTEE] {
            refused("for another VM", bind(function, OPTEE, vm, 0, 1 << 9))?;
        }
        for sender in [0, own, kit.neighbour(), 0x8000, 0x8002, 0xffff] {
            refused("of another sender", bind(function, sender, own, 0, 1 << 9))?;
        }
        for flags in [1, 2, 0x8000_0000, 0xffff_ffff] {
            refused("with flags", bind(function, OPTEE, own, flags, 1 << 9))?;
        }
        refused("of no bit", bind(function, OPTEE, own, 0, 0))?;
    }
    for vm in [kit.neighbour(), 0, 9, 0x7fff, OPTEE] {
        let answer = call(Function::NotificationGet, [vm.into(), 1, 0, 0, 0, 0, 0]);
        answers("GET of another VM", answer, wanted)?;
        count += 1;
    }
    // A vCPU that there is not.
    let none = u64::from(own) | 0xffff << 16;
    let answer = call(Function::NotificationGet, [none, 1, 0, 0, 0, 0, 0]);
    one_of(
        "GET of vCPU 0xffff",
        &answer.to_string().as_str(),
        &[INVALID, UNSUPPORTED, "SUCCESS"],
    )?;
    let set = call(
        Function::NotificationSet,
        [
            u64::from(own) << 16 | u64::from(kit.neighbour()),
            0,
            1,
            0,
            0,
            0,
            0,
        ],
    );
    answers("SET", set, UNSUPPORTED)?;
    kit.alive()?;
    Ok(Observation::new(format!(
        "{count} calls: {wanted}; vCPU 0xffff: {answer}"
    )))
}

fn enable(kit: &FfaKit) -> Verdict {
    // Bits that no other attack binds.
    let numbers = [
        5,
        17,
        31,
        32,
        63,
        64,
        65,
        0x7fff_ffff,
        0x8000_0000,
        u32::MAX,
    ];
    for number in numbers {
        let got = enable_value(kit, number)?;
        same(&format!("ENABLE of {number:#x}"), &got, &0xffff_0006)?;
    }
    kit.alive()?;
    Ok(Observation::new(format!("{} numbers", numbers.len())))
}

fn info_storm(kit: &FfaKit) -> Verdict {
    let wanted = if kit.notifies() {
        "NO_DATA"
    } else {
        UNSUPPORTED
    };
    let strange = AtomicU64::new(0);
    parallel(guest_bare::cpu::count(), &|cpu| {
        for round in 0..20_000_u64 {
            let function = Function::NotificationInfoGet;
            let id = if (round + cpu as u64).is_multiple_of(2) {
                ffa::id(function)
            } else {
                id64(function)
            };
            let answer = call_by(ffa::smc, id, [0; 7]);
            if answer.to_string() != wanted {
                strange.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    same("other answers", &strange.into_inner(), &0)?;
    kit.alive()?;
    Ok(Observation::new(format!(
        "20000 times on each vCPU: {wanted}"
    )))
}

/// Takes SGI 8 as often as it comes in this time.
fn taken(within: Duration) -> u64 {
    let mut count = 0;
    Deadline::after(within).wait(|| {
        if let Some(intid) = gic::take_as(gic::own_group()) {
            gic::end_as(gic::own_group(), intid);
            count += u64::from(intid == SGI);
        }
        false
    });
    count
}

fn own_interrupt(kit: &FfaKit) -> Verdict {
    gic::enable_private(1 << SGI);
    for _ in 0..1000 {
        gic::set(gic::Property::Pending, SGI, true);
        gic::set(gic::Property::Pending, SGI, false);
    }
    gic::set(gic::Property::Pending, SGI, true);
    let came = taken(Duration::from_millis(50));
    holds(came > 0, "the VM's own SGI does not come")?;
    gic::disable_private(1 << SGI);
    gic::set(gic::Property::Pending, SGI, true);
    kit.alive()?;
    gic::set(gic::Property::Pending, SGI, false);
    Ok(Observation::new(format!("taken {came} times")))
}

fn send_interrupts(kit: &FfaKit) -> Verdict {
    gic::enable_private(1 << SGI);
    let mut came = 0;
    for _ in 0..200 {
        gic::send(SGI, 0xffff);
        gic::send(SGI, 1);
        gic::send_as(gic::Group::Zero, SGI, 0xffff);
        came += taken(Duration::from_micros(200));
    }
    holds(came > 0, "the SGI does not come")?;
    gic::disable_private(1 << SGI);
    gic::drain();
    kit.alive()?;
    Ok(Observation::new(format!("taken {came} times")))
}

/// Enables notifications, and leaves one unfetched, where the VM is offered any.
pub fn leave_enabled(kit: &FfaKit) -> Result<(), String> {
    let bound = bind_own(kit, Function::NotificationBind, 1).to_string();
    let enabled = enable_value(kit, 0)?;
    kit.alive()?;
    timer::sleep(Duration::from_secs(2));
    let good = enabled == 0 || !kit.notifies();
    holds(good, &format!("BIND: {bound}, ENABLE: {enabled:#x}"))
}
