// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where the entry code and the exception vectors go on in Rust (`hypervisor/src/arch/entry.S`, `vectors.S`).

use hypervisor::boot::start;
use hypervisor::exit::{handler, run};

hypervisor::entry! {
    primary: start::primary,
    wrong_level: start::wrong_level,
    secondary: start::secondary,
}

hypervisor::vectors! {
    smc: handler::smc,
    hvc: handler::hvc,
    after_call: run::before_return,
    synchronous: handler::synchronous,
    interrupt: handler::interrupt,
    system_error: handler::system_error,
    first: run::first,
}
