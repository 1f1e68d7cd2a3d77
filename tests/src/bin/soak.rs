//! `make test-soak`: starts and ends a VM so many times, in all states that it can be in. With
//! `OPTEE_SRC=` there are two neighbours, else one.

use anyhow::{Context, Result, ensure};
use postern_qemu::optee::SOURCE_VARIABLE;
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
    let cycles: u32 = number("how many cycles", 100)?.try_into()?;
    let now = SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |time: Duration| time.as_secs());
    // Behind the suite's name are those of the cases.
    let cases = Selection::Default.arguments().split_off(2);
    let options = Options {
        cycles,
        seed: number("the seed", now)?,
        // The packaged OP-TEE has room for two VMs. Debian's newest source has room for as many as one
        // likes, but forgets some pages with each VM that ends, and stops after fifty.
        neighbours: if std::env::var_os(SOURCE_VARIABLE).is_some_and(|folder| !folder.is_empty()) {
            2
        } else {
            1
        },
        states: words.collect(),
        cases,
        warm_up: 6,
        disturb: (20, (cycles / 8).max(50)),
    };
    let lab = Lab::new("soak-whole")?;
    ensure!(play(&lab, &options)?, "FAIL: not all is as it was");
    println!("PASS");
    Ok(())
}
