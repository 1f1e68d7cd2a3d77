// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The example runs to its end, as part of the host tests.
#![cfg(feature = "fakes")]

#[path = "../examples/toy_hypervisor.rs"]
mod toy_hypervisor;

#[test]
fn the_toy_hypervisor_opens_a_session() {
    toy_hypervisor::main();
}
