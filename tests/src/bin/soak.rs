//! `make test-soak`: starts and ends a VM so many times, in all states that it can be in.

use anyhow::{Context, Result, ensure};
use postern_qemu::selection::Selection;
use postern_tests::Lab;
use postern_tests::soak::{Options, play};
use std::time::{Duration, SystemTime};

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let mut number = |what, otherwise| match words.next() {
        Some(word) => word.parse().with_context(|| format!("{what}: {word:?}")),
        None => Ok(otherwise),
    };
    let cycles = number("how many cycles", 100)?;
    let now = SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |time: Duration| time.as_secs());
    // Behind the suite's name are those of the cases.
    let cases = Selection::Default.arguments().split_off(2);
    let options = Options {
        cycles: cycles.try_into()?,
        seed: number("the seed", now)?,
        neighbours: 2,
        states: words.collect(),
        cases,
        warm_up: 6,
        disturb: (20, 50),
    };
    let lab = Lab::new("soak-whole")?;
    ensure!(play(&lab, &options)?, "FAIL: not all is as it was");
    println!("PASS");
    Ok(())
}
