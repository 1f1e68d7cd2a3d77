// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Two VMs access every system register, and neither sees what the other leaves there. Two Linux
//! guests run some xtest. Each scenario has two CPU models; `make test-cpus` has all.

use anyhow::{Result, ensure};
use postern_tests::Lab;
use postern_tests::scan::{play, with_tee};

#[test]
fn system_registers_do_not_leak_between_vms() -> Result<()> {
    let lab = Lab::new("scan")?;
    ensure!(
        play(&lab, false, |model| model.quick)?,
        "see the lines above"
    );
    Ok(())
}

#[test]
fn xtest_passes_on_two_more_cpu_models() -> Result<()> {
    let lab = Lab::new("scan-xtest")?;
    let wanted = ["cortex-a53", "max"];
    ensure!(
        with_tee(&lab, |model| wanted.contains(&model.cpu))?,
        "see the lines above"
    );
    Ok(())
}
