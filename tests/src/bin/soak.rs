// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `make test-soak`: starts and ends a VM N times, in all states that it can be in. There are two
//! neighbours where an OP-TEE with room for them can be built, otherwise one. Over FF-A there is one, and N is at
//! most the number of lives that OP-TEE bears.

use anyhow::{Context, Result, ensure};
use postern_qemu::config::TeeAbi;
use postern_qemu::optee::SOURCE_VARIABLE;
use postern_qemu::parts::optee_source;
use postern_qemu::paths::Paths;
use postern_qemu::prepare::Suite;
use postern_qemu::progress::Progress;
use postern_qemu::selection::Selection;
use postern_tests::soak::{SoakOptions, most_cycles, play};
use postern_tests::{Lab, abi};
use std::time::{Duration, SystemTime};

/// The case of xtest's default selection whose application stays in OP-TEE (`sims_keepalive`). The
/// case ends the application by a panic; a VM that ends before that leaves it in OP-TEE until the
/// machine restarts.
const KEEPING: &str = "regression_1021";
/// The version of OP-TEE whose source works with three VMs. Newer ones leak some pages with each VM
/// that ends, and stop after fifty.
const GOOD: &str = "4.5.";

fn main() -> Result<()> {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let given = words.len();
    words.retain(|word| word != "counted");
    let counted = words.len() < given;
    let mut words = words.into_iter();
    let mut number = |what, otherwise: u64| match words.next() {
        Some(word) if word != "default" => {
            word.parse().with_context(|| format!("{what}: {word:?}"))
        }
        _ => Ok(otherwise),
    };
    let abi = abi()?.unwrap_or_default();
    let most = most_cycles(abi, 1);
    let cycles: u32 = number("how many cycles", most.unwrap_or(100).into())?.try_into()?;
    ensure!(cycles > 0, "N=0: ask for one cycle or more");
    if let Some(most) = most {
        ensure!(
            cycles <= most,
            "N={cycles}: over FF-A there are starts of the VM for {most} cycles, because OP-TEE leaks with each: ask for \
             N={most} or less, and run the test again for more"
        );
    }
    let now = SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |time: Duration| time.as_secs());
    // The suite's name is followed by those of the cases.
    let cases = Selection::Default.arguments().split_off(2);
    let lab = Lab::new(if counted {
        "soak-counted"
    } else {
        "soak-whole"
    })?;
    let over_smc = abi == TeeAbi::Smc;
    let options = SoakOptions {
        abi,
        cycles,
        seed: number("the seed", now)?,
        neighbours: if over_smc { neighbours(&lab.paths) } else { 1 },
        states: words.collect(),
        cases,
        keeping: vec![KEEPING.into()],
        warm_up: 6,
        // A neighbour that is reset would use up lives.
        disturb: if over_smc {
            (20, (cycles / 8).max(50))
        } else {
            (3, 0)
        },
        devices: over_smc
            && lab
                .system("soak.toml")?
                .machine
                .board
                .board()
                .iommu
                .is_some(),
        counted,
    };
    ensure!(
        play(&lab, &options)?,
        "FAIL: something is not as it was at the beginning"
    );
    println!("PASS");
    Ok(())
}

/// Returns the number of neighbours. The packaged OP-TEE has room for one beside the VM that ends.
fn neighbours(paths: &Paths) -> usize {
    if std::env::var_os(SOURCE_VARIABLE).is_some_and(|folder| !folder.is_empty()) {
        return 2;
    }
    let why = match optee_source(paths, Suite::Trixie, false, &Progress::on_stderr()) {
        Ok(source) if source.orig.version.starts_with(GOOD) => return 2,
        Ok(source) => format!("Debian's mirror has the source of {}", source.orig.version),
        Err(why) => format!("{why:#}"),
    };
    println!(
        "one neighbour, on the packaged OP-TEE: two need the source of OP-TEE {GOOD}0, and {why}"
    );
    1
}
