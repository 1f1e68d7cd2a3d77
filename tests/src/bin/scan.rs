// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `make test-cpus`: runs the scan, and a case of xtest in two guests, on all CPU models or on the
//! named ones.

use anyhow::{Result, ensure};
use postern_tests::Lab;
use postern_tests::scan::{Model, play, with_tee};

fn main() -> Result<()> {
    let named: Vec<String> = std::env::args().skip(1).collect();
    let lab = Lab::new("scan-whole")?;
    let wanted = |model: &Model| named.is_empty() || named.iter().any(|name| name == model.cpu);
    let scanned = play(&lab, true, wanted)?;
    let worked = with_tee(&lab, wanted)?;
    ensure!(
        scanned,
        "registers leak, or have the machine's values: see the lines above"
    );
    ensure!(worked, "xtest fails on a model: see the lines above");
    println!("PASS");
    Ok(())
}
