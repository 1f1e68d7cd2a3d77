//! `make test-cpus`: the scan on all CPU models, or on those that are named.

use anyhow::{Result, ensure};
use postern_tests::Lab;
use postern_tests::scan::play;

fn main() -> Result<()> {
    let named: Vec<String> = std::env::args().skip(1).collect();
    let lab = Lab::new("scan-whole")?;
    let good = play(&lab, true, |model| {
        named.is_empty() || named.iter().any(|name| name == model.cpu)
    })?;
    ensure!(
        good,
        "registers leak, or are the machine's: see the lines above"
    );
    println!("PASS");
    Ok(())
}
