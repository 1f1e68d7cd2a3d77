// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest that resets or powers off does not disturb the other, and restarts with a working TEE.

use anyhow::{Result, ensure};
use postern_tests::{BOOT, Lab, in_case, power_off, stopped, xtest, xtest_end};

/// The other guest's work meanwhile: a minute or more of loading, storing and waiting.
const WORK: &str = "-t regression 1004 1006 1008 1009 1021 6001 6009";
const WORK_CASES: u32 = 7;

#[test]
fn reset_and_power_off_leave_neighbour_working() -> Result<()> {
    let lab = Lab::new("power")?;
    let mut session = lab.up("two.toml")?;
    let (a, b) = (session.vm("a")?, session.vm("b")?);

    session.send(a, &format!("xtest {WORK}"))?;
    in_case(&mut session, a, "regression_1004")?;
    // Once while idle, and once in the middle of calls to the TEE.
    session.send(b, "reboot")?;
    stopped(&mut session, "b", "reset")?;
    session.expect(b, BOOT).ready()?;
    session.send(b, "xtest -t regression 1006")?;
    in_case(&mut session, b, "regression_1006")?;
    session.send(b, "reboot")?;
    stopped(&mut session, "b", "reset")?;
    session.expect(b, BOOT).ready()?;
    let end = xtest(&mut session, b, "-t regression 1004 6001", 2)?;
    ensure!(end.subtests > 0, "{end:?}");
    xtest_end(&mut session, a, WORK_CASES)?;

    // The same with power-off.
    session.send(a, &format!("xtest {WORK}"))?;
    in_case(&mut session, a, "regression_1004")?;
    session.send(b, "xtest -t regression 1006")?;
    in_case(&mut session, b, "regression_1006")?;
    session.send(b, "poweroff")?;
    stopped(&mut session, "b", "off")?;
    xtest_end(&mut session, a, WORK_CASES)?;
    power_off(session, &["a"])
}
