// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest's attacks fail, and its neighbour does not notice. This scenario plays the important
//! attacks; `make test-hostile` plays all of them.

use anyhow::{Result, ensure};
use postern_tests::Lab;
use postern_tests::hostile::play;

#[test]
fn quick_attacks_give_expected_results() -> Result<()> {
    let lab = Lab::new("hostile")?;
    let system = lab.system("hostile.toml")?;
    ensure!(
        play(&lab, system, false, |row| row.quick)?,
        "see the lines above"
    );
    Ok(())
}
