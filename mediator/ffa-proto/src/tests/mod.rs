// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Properties of all registers and descriptors, and a second opinion.

mod arm_ffa;
mod memory;
mod registers;

use proptest::test_runner::Config;

/// Returns the settings of a property: the number of cases, and that under Miri, which has no files to remember
/// failures in.
fn config(cases: u32, under_miri: u32) -> Config {
    Config {
        cases: if cfg!(miri) { under_miri } else { cases },
        failure_persistence: None,
        ..Config::default()
    }
}
