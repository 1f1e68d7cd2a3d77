// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The Rust functions that the entry code and the exception vectors (`hypervisor/arch/src/entry.S`,
//! `vectors.S`) call.

use hypervisor::boot::start;
use hypervisor::exit::{handler, run};
use hypervisor::tee::host;

postern_arch::entry! {
    primary: primary,
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

/// Starts the machine on the boot pCPU; see [`start::primary`].
fn primary(tree: u64, image: u64) -> ! {
    // The closure's code is compiled here, with what `handler::smc` uses of the mediator.
    host::continue_ending_calls_by(|mediator, host, call| call.step(mediator, host));
    start::primary(tree, image)
}
