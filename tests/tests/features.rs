//! The optional parts of OP-TEE's ABI: with them a guest gets notifications, and makes fewer SMCs for
//! the same work.

use anyhow::{Result, ensure};
use postern_qemu::monitor::Stats;
use postern_qemu::prepare::Flavour;
use postern_qemu::session::Session;
use postern_tests::{BOOT, Lab, power_off, stats, xtest};

/// Sessions, invocations with and without memory, loading, and storage.
const WORK: &str = "-t regression 1004 6001";
const WORK_CASES: u32 = 2;

/// The same work in one guest: its counters before and after.
fn work(session: &mut Session, vm: &str) -> Result<(Stats, Stats)> {
    let guest = session.vm(vm)?;
    // Once before that, since the first use of a TA or of storage does more.
    xtest(session, guest, WORK, WORK_CASES)?;
    let before = stats(session, vm)?;
    xtest(session, guest, WORK, WORK_CASES)?;
    Ok((before, stats(session, vm)?))
}

#[test]
fn rpc_arg_saves_smcs_and_notifications_arrive() -> Result<()> {
    let lab = Lab::new("features")?;
    let mut system = lab.system("two.toml")?;
    system.vms[1].tee_policy.features = Some(Vec::new());
    let machine = lab.machine(&system, Flavour::Shared)?;
    let mut session = Session::boot(&machine, &lab.folder)?;
    for vm in ["a", "b"] {
        let guest = session.vm(vm)?;
        session.expect(guest, BOOT).ready()?;
    }
    let (a_before, a) = work(&mut session, "a")?;
    let (b_before, b) = work(&mut session, "b")?;
    let rpcs = |stats: &Stats, kind: &str| stats.rpc.get(kind).copied().unwrap_or(0);
    let traps = |stats: &Stats| stats.exits.get("smc").copied().unwrap_or(0);

    // Without RPC_ARG OP-TEE asks for memory for its messages in each call that has any.
    ensure!(rpcs(&a, "alloc") == 0, "{a:?}");
    ensure!(rpcs(&b, "alloc") > rpcs(&b_before, "alloc"), "{b:?}");
    let [calls_a, calls_b] = [
        a.smc_yielding - a_before.smc_yielding,
        b.smc_yielding - b_before.smc_yielding,
    ];
    // An interrupt that takes a call out of OP-TEE may cost a trap, which is nobody's doing.
    let done = |after: &Stats, before: &Stats| {
        traps(after) - traps(before) - (after.foreign_intr - before.foreign_intr)
    };
    // So may a notification: a fast call that asks what it is, and often a call for its bottom half.
    // How many there are depends on how long the work takes; b, which did the same, has none.
    let notified = (a.smc_fast - a_before.smc_fast) + calls_a.saturating_sub(calls_b);
    let [traps_a, traps_b] = [done(&a, &a_before) - notified, done(&b, &b_before)];
    println!(
        "xtest {WORK}: with RPC_ARG {calls_a} calls, {traps_a} SMCs besides {notified} of notifications; \
         without {calls_b} calls, {traps_b} SMCs"
    );
    ensure!(traps_a < traps_b, "{traps_a} SMCs with, {traps_b} without");

    // OP-TEE's test watchdog has notified both for some time; only one heard of it, and asked.
    ensure!(
        a.smc_fast > b.smc_fast + 10,
        "{} fast calls with notifications, {} without",
        a.smc_fast,
        b.smc_fast
    );
    power_off(session, &["a", "b"])
}
