// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One guest, from its first instruction to its last.

use anyhow::{Result, ensure};
use guest_agent::event::Event;
use postern_tests::{Lab, SOON, power_off, stats, xtest};

#[test]
fn guest_uses_tee_and_powers_off() -> Result<()> {
    let lab = Lab::new("one-guest")?;
    let mut session = lab.up("one.toml")?;
    let a = session.vm("a")?;
    // The guest's clock gave it the time of day.
    let log = std::fs::read_to_string(lab.folder.join("vm-a.log"))?;
    ensure!(
        log.contains("pl031: setting system clock to 20"),
        "Linux did not set its time by the clock"
    );
    // A pseudo TA, a user TA that the supplicant loads, secure storage, the client API.
    xtest(&mut session, a, "-t regression 1001 1004 5006 6001", 4)?;
    session.send(a, "latency here 50")?;
    let measured = session
        .expect(a, SOON)
        .event("a measurement", |event| match event {
            Event::Latency(latency) => Some(latency.clone()),
            _ => None,
        })?;
    ensure!(
        measured.samples == 50 && measured.min_ns > 0,
        "{measured:?}"
    );

    let counted = stats(&mut session, "a")?;
    ensure!(counted.smc_yielding > 100, "{counted:?}");
    ensure!(counted.rpc.values().sum::<u64>() > 0, "{counted:?}");
    ensure!(counted.denied == 0, "{counted:?}");
    // 5006 registers memory and unregisters it.
    ensure!(
        counted.pages_pinned_max > counted.pages_pinned,
        "{counted:?}"
    );
    power_off(session, &["a"])
}
