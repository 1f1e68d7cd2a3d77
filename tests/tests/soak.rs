// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A VM that is ended in the middle of its work leaves nothing behind, and its neighbour does not
//! notice. This is the short form of `make test-soak`.

use anyhow::{Result, ensure};
use postern_qemu::config::TeeAbi;
use postern_tests::Lab;
use postern_tests::soak::{SoakOptions, play};

#[test]
fn vm_ended_in_any_state_leaves_nothing() -> Result<()> {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
    let options = SoakOptions {
        abi: TeeAbi::Smc,
        cycles: 40,
        seed: 4,
        neighbours: 1,
        states: words(
            "running-both interrupted restless free load-rpc-arg load-registered shm-alloc shm-free \
             shm-free-reused files-write get-time suspend notification-send all-calls registering \
             unregistering buffers sessions-applications cache notifications dma-write dma-read dma-refused \
             dma-cut-off dma-shared disk-reading interrupt-pending interrupt-active interrupt-storm link-sending link-full link-waiting \
             link-and-dma",
        ),
        cases: words(
            "regression_1001 regression_1004 regression_1005 regression_4001 regression_6001",
        ),
        keeping: Vec::new(),
        warm_up: 2,
        disturb: (10, 0),
        devices: true,
        counted: false,
    };
    let lab = Lab::new("soak")?;
    ensure!(play(&lab, &options)?, "see the table above");
    Ok(())
}

#[test]
fn vm_ended_over_ffa_leaves_nothing_and_has_as_many_lives_as_it_may() -> Result<()> {
    let cases = ["regression_1001", "regression_1004", "regression_4001"];
    let options = SoakOptions {
        abi: TeeAbi::Ffa,
        // Each state once.
        cycles: 7,
        seed: 7,
        neighbours: 1,
        states: Vec::new(),
        cases: cases.map(str::to_owned).to_vec(),
        keeping: Vec::new(),
        warm_up: 2,
        disturb: (3, 0),
        devices: false,
        counted: false,
    };
    let lab = Lab::new("soak-ffa")?;
    ensure!(play(&lab, &options)?, "see the table above");
    Ok(())
}
