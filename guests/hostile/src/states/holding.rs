// SPDX-License-Identifier: Apache-2.0 OR MIT
//! States in which OP-TEE keeps something without a call in progress.

use super::{State, state};
use crate::attack::{holds, same};
use crate::kit::{Got, Kit, of_client};
use crate::parked::Parked;
use alloc::format;
use alloc::string::String;
use guest_bare::tee::{Message, apps};
use optee_proto::msg::{Attr, Param};
use optee_proto::{Return, TeeResult, Uuid, smc};

/// The states of this kind.
pub const STATES: &[State] = &[
    state("idle", |_| Ok(())),
    state("sessions", |kit| open(kit, apps::TESTS, 16)),
    state("sessions-applications", |kit| {
        open(kit, apps::SMALL, 3)?;
        open(kit, apps::SIMS, 3)
    }),
    state("panicked", panicked),
    state("cache", cache),
    state("notifications", |kit| {
        let [code, ..] = kit.client.fast(smc::ENABLE_ASYNC_NOTIF, 0);
        same("ENABLE_ASYNC_NOTIF", &Return::from_x0(code), &Return::OK)
    }),
];

/// Opens sessions and leaves them open.
fn open(kit: &Kit, app: Uuid, count: usize) -> Result<(), String> {
    for _ in 0..count {
        let opened = kit.client.open(&kit.supplicant, app);
        of_client(&format!("open {app}"), opened)?;
    }
    Ok(())
}

/// Returns a session to an application that has panicked stays open.
fn panicked(kit: &Kit) -> Result<(), String> {
    let opened = kit.client.open(&kit.supplicant, apps::SIMS);
    let session = of_client("open an application", opened)?;
    let nothing = Param::new(Attr::TMEM_INPUT, 0, 0, 0);
    let got = kit.send(&Message::invoke(session, apps::SIMS_PANIC, &[nothing]));
    let dead = matches!(got, Got::Result(TeeResult::TARGET_DEAD, _));
    holds(dead, &format!("an application that panics: {got:?}"))
}

/// OP-TEE keeps the memory for its requests from one call to the next.
fn cache(kit: &Kit) -> Result<(), String> {
    let [code, ..] = kit.client.fast(smc::ENABLE_SHM_CACHE, 0);
    same("ENABLE_SHM_CACHE", &Return::from_x0(code), &Return::OK)?;
    let opened = kit.client.open(&kit.supplicant, apps::STATS);
    let session = of_client("open stats.pta", opened)?;
    let got = Parked::at_get_time(kit, session)?.finish(kit);
    holds(got.is_success(), &format!("ask for the time: {got:?}"))
}
