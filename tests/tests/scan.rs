// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Two VMs look behind every name of a system register, and neither sees what the other leaves there. Two CPU models;
//! `make test-cpus` has all.

use anyhow::{Result, ensure};
use postern_tests::Lab;
use postern_tests::scan::play;

#[test]
fn no_register_leaks() -> Result<()> {
    let lab = Lab::new("scan")?;
    ensure!(
        play(&lab, false, |model| model.quick)?,
        "see the lines above"
    );
    Ok(())
}
