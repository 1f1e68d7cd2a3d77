// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The Rust functions that the entry code and the exception vectors (`hypervisor/arch/src/entry.S`,
//! `vectors.S`) call.

use hypervisor::boot::start;
use hypervisor::exit::{handler, run};

postern_arch::entry! {
    primary: start::primary,
    check: start::check,
    secondary: start::secondary,
}

postern_arch::vectors! {
    smc: handler::smc,
    hvc: handler::hvc,
    after_call: run::before_return,
    synchronous: handler::synchronous,
    interrupt: handler::interrupt,
    system_error: handler::system_error,
    first: run::first,
}
