// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The optional features of OP-TEE's ABI. With `RPC_ARG` a guest is not asked for memory for
//! messages, and notifications reach the guest that enables them. Nothing here depends on
//! durations.

use anyhow::{Result, bail, ensure};
use postern_ctl::messages::Stats;
use postern_qemu::config::Feature;
use postern_qemu::prepare::Flavour;
use postern_qemu::session::Session;
use postern_tests::{BOOT, Lab, power_off, stats, xtest};
use std::time::{Duration, Instant};

/// Sessions, invocations with and without memory, loading, and storage.
const WORK: &str = "-t regression 1004 6001";
const WORK_CASES: u32 = 2;
/// The number of notifications to wait for. OP-TEE's test watchdog makes one from time to time.
const NOTIFICATIONS: u64 = 3;
/// Far more time than they take.
const PATIENCE: Duration = Duration::from_secs(300);

/// A guest's calls and RPCs during a work.
#[derive(Debug)]
struct Done {
    /// Calls that it began.
    calls: u64,
    /// RPCs that asked it for memory for messages, or gave that back.
    messages: u64,
    /// RPCs of a call that waits for another one, which depend on timing.
    waits: u64,
    /// All other RPCs.
    rpcs: u64,
    /// SMCs of its calls, from the beginning of each to its end.
    smcs: u64,
}

impl Done {
    fn between(before: &Stats, after: &Stats) -> Self {
        let rpcs = |kind: &str| {
            let at = |stats: &Stats| stats.rpc.get(kind).copied().unwrap_or(0);
            at(after) - at(before)
        };
        let all: u64 = after.rpc.keys().map(|kind| rpcs(kind)).sum();
        let messages = rpcs("alloc") + rpcs("free");
        let waits = rpcs("notification");
        // The number of interrupts depends on durations, and the guest sees few of them.
        let entries = |stats: &Stats| stats.smcs - stats.foreign_intr - stats.smc_fast;
        Self {
            calls: after.smc_yielding - before.smc_yielding,
            messages,
            waits,
            rpcs: all - messages - waits,
            smcs: entries(after) - entries(before),
        }
    }
}

/// Runs the same work twice in a guest that has done nothing yet.
fn work(session: &mut Session, vm: &str) -> Result<[Done; 2]> {
    let guest = session.vm(vm)?;
    let boot = stats(session, vm)?;
    xtest(session, guest, WORK, WORK_CASES)?;
    let first = stats(session, vm)?;
    xtest(session, guest, WORK, WORK_CASES)?;
    let second = stats(session, vm)?;
    let done = [Done::between(&boot, &first), Done::between(&first, &second)];
    for done in &done {
        println!("{vm}: {done:?}");
        // An RPC is one more SMC, and nothing else is.
        ensure!(
            done.smcs == done.calls + done.rpcs + done.messages + done.waits,
            "{vm}: {done:?}"
        );
    }
    Ok(done)
}

/// Boots two guests, of which only the first has a feature, and no other one.
fn boot(lab: &Lab, feature: Feature) -> Result<Session> {
    let mut system = lab.system("two.toml")?;
    system.vms[0].tee_policy.features = Some(vec![feature]);
    system.vms[1].tee_policy.features = Some(Vec::new());
    let machine = lab.machine(&system, Flavour::Shared)?;
    let mut session = Session::boot(&machine, &lab.folder)?;
    for vm in ["a", "b"] {
        let guest = session.vm(vm)?;
        session.expect(guest, BOOT).ready()?;
    }
    Ok(session)
}

#[test]
fn rpc_arg_saves_memory_rpcs() -> Result<()> {
    let lab = Lab::new("features")?;
    // Neither guest has notifications, which sometimes cost calls.
    let mut session = boot(&lab, Feature::RpcArg)?;
    let with = work(&mut session, "a")?;
    let without = work(&mut session, "b")?;
    // Without RPC_ARG OP-TEE asks for memory for its messages at the first call of each of its
    // threads, and then keeps it, since Linux enables that cache.
    ensure!(with.iter().all(|done| done.messages == 0), "{with:?}");
    ensure!(without[0].messages > 0, "{without:?}");
    // Otherwise it was not the same work. Calls are not compared: after boot Linux begins some at
    // any time.
    for (with, without) in with.iter().zip(&without) {
        ensure!(
            with.rpcs > 0 && with.rpcs == without.rpcs,
            "{with:?}, {without:?}"
        );
    }
    power_off(session, &["a", "b"])
}

#[test]
fn notifications_reach_only_the_subscribed_guest() -> Result<()> {
    let lab = Lab::new("notifications")?;
    let mut session = boot(&lab, Feature::Notifications)?;
    let (a, b) = (stats(&mut session, "a")?, stats(&mut session, "b")?);
    // The guest asks for a notification's value by a fast call, and Linux makes no other once it is
    // up. (It begins yielding calls at any time.)
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = stats(&mut session, "a")?;
        if now.smc_fast >= a.smc_fast + NOTIFICATIONS {
            break;
        }
        if Instant::now() > deadline {
            bail!("after {PATIENCE:?}: {a:?}, {now:?}");
        }
        // The session processes the consoles meanwhile.
        let _ = session.next(Duration::from_secs(1))?;
    }
    let still = stats(&mut session, "b")?;
    ensure!(still.smc_fast == b.smc_fast, "{b:?}, {still:?}");
    power_off(session, &["a", "b"])
}
