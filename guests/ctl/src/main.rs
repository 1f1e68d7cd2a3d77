// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `postern-ctl`: the hypervisor's monitor in a privileged guest.

use std::process::ExitCode;

fn main() -> ExitCode {
    postern_ctl::program(std::env::args().skip(1))
}
