// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Guests to which the description gives a part of the TEE: the rest is denied with the error that
//! a client expects, and the other guest does not notice.

use anyhow::{Result, ensure};
use postern_ctl::messages::Stats;
use postern_qemu::console::Channel;
use postern_qemu::session::{Session, What};
use postern_tests::cases::{check, end};
use postern_tests::{Lab, SOON, power_off};

/// Returns the counters of both guests, from one command.
fn counters(session: &mut Session) -> Result<[Stats; 2]> {
    let mut first = None;
    session.send(Channel::Hypervisor, "stats")?;
    session
        .expect(Channel::Hypervisor, SOON)
        .find("the counters", |what| match what {
            What::Stats(stats) if stats.vm == "a" => {
                first = Some((**stats).clone());
                None
            }
            What::Stats(stats) => Some([first.take()?, (**stats).clone()]),
            _ => None,
        })
}

#[test]
fn policy_limits_each_guest_as_described() -> Result<()> {
    let lab = Lab::new("policy")?;
    let mut session = lab.up("policy.toml")?;
    let (a, b) = (session.vm("a")?, session.vm("b")?);
    // The kernels have asked for pseudo TAs during boot.
    let [before_a, before_b] = counters(&mut session)?;

    // Both run at once, since the second guest's limits must not affect the first guest, which
    // opens the same TAs. 1004 opens the crypt TA, which has 93 pages, 1005 three sessions of the
    // concurrent TA, 1007 os_test.
    for guest in [a, b] {
        session.send(guest, "xtest -t regression 1004 1005 1007")?;
    }
    let (cases_a, cases_b) = (end(&mut session, a)?, end(&mut session, b)?);
    check(&cases_a, "regression_1004", None)?;
    check(
        &cases_a,
        "regression_1005",
        Some("TEEC_ERROR_ACCESS_DENIED"),
    )?;
    check(&cases_a, "regression_1007", None)?;
    check(
        &cases_b,
        "regression_1004",
        Some("TEEC_ERROR_OUT_OF_MEMORY"),
    )?;
    check(
        &cases_b,
        "regression_1005",
        Some("TEEC_ERROR_OUT_OF_MEMORY"),
    )?;
    check(&cases_b, "regression_1007", None)?;

    let [after_a, after_b] = counters(&mut session)?;
    ensure!(after_a.denied > before_a.denied, "{after_a:?}");
    ensure!(after_b.denied > before_b.denied, "{after_b:?}");
    ensure!(after_b.pages_pinned_max <= 80, "{after_b:?}");

    // The failed cases have left nothing behind.
    ensure!(after_b.pages_pinned == before_b.pages_pinned, "{after_b:?}");
    ensure!(after_a.pages_pinned == before_a.pages_pinned, "{after_a:?}");
    power_off(session, &["a", "b"])
}
