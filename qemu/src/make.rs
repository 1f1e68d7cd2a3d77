// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs `make` in other projects' sources.

use std::path::Path;
use std::process::Command;

/// Returns `make` in the folder `source`, with one job per CPU and a clean environment.
///
/// TF-A reads variables such as DEBUG and E from the environment, and OP-TEE every CFG_ variable.
/// They get neither those nor what a surrounding make left there.
pub fn command(source: &Path) -> Command {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let mut make = Command::new("make");
    make.env_clear()
        .envs(
            ["PATH", "HOME", "TMPDIR"]
                .iter()
                .filter_map(|name| Some((name, std::env::var_os(name)?))),
        )
        .env("LC_ALL", "C.UTF-8")
        .arg("-C")
        .arg(source)
        .arg(format!("-j{jobs}"));
    make
}
