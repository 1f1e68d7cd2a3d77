// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest that attacks gets nowhere, and its neighbour does not notice. The important attacks;
//! `make test-hostile` plays all of them.

use anyhow::{Result, ensure};
use postern_tests::Lab;
use postern_tests::hostile::play;

#[test]
fn the_important_attacks_get_nowhere() -> Result<()> {
    let lab = Lab::new("hostile")?;
    ensure!(play(&lab, false, |row| row.quick)?, "see the lines above");
    Ok(())
}
