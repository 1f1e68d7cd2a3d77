// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest's attacks fail, and its neighbour does not notice. These scenarios play the important
//! attacks; `make test-hostile` plays all of them.

use anyhow::{Error, Result, ensure};
use postern_qemu::board::BoardName;
use postern_qemu::config::TeeAbi;
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

#[test]
fn quick_attacks_over_ffa_give_expected_results() -> Result<()> {
    let lab = Lab::new("hostile-ffa")?;
    let system = lab.system("hostile.toml")?;
    let system = system.with_abi(TeeAbi::Ffa).map_err(Error::msg)?;
    ensure!(
        play(&lab, system, false, |row| row.quick)?,
        "see the lines above"
    );
    Ok(())
}

/// The attacks that depend on the interrupt controller most: all causes of its maintenance interrupt,
/// storms, and its registers.
const INTERRUPTS: [u8; 14] = [36, 56, 57, 58, 59, 60, 63, 69, 70, 71, 72, 73, 74, 75];

#[test]
fn interrupt_attacks_give_expected_results_with_gicv2() -> Result<()> {
    let lab = Lab::new("hostile-gicv2")?;
    let system = lab.system("hostile.toml")?;
    let system = system.on_board(BoardName::VirtGicv2).map_err(Error::msg)?;
    ensure!(
        play(&lab, system, false, |row| INTERRUPTS.contains(&row.number))?,
        "see the lines above"
    );
    Ok(())
}
