// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Measures calls that need no TEE.

use crate::meter::{self, Meter};
use alloc::format;
use alloc::string::String;
use guest_bare::machine::at_el2;
use postern_smccc::call::SmcReturn;
use postern_smccc::{arch, psci};

/// The rounds of each measurement.
const ROUNDS: usize = 8;

/// An unassigned function ID of the vendor-specific hypervisor services (SMCCC owner 6, fast, 64
/// bits).
const UNKNOWN: u64 = 0xc600_fe77;

type Call = fn([u64; 8]) -> [u64; 8];

fn sample(call: Call, id: u64, good: fn(u64) -> bool) -> Result<(), String> {
    match call([id, 0, 0, 0, 0, 0, 0, 0])[0] {
        x0 if good(x0) => Ok(()),
        x0 => Err(format!("the answer is {x0:#x}")),
    }
}

/// Measures all of them.
pub fn measure(meter: &Meter) {
    // At EL2 an HVC would be an exception of the program itself.
    if !at_el2() {
        meter.measure("hvc-unknown", ROUNDS, || {
            sample(meter::hvc, UNKNOWN, |x0| {
                x0 == SmcReturn::NOT_SUPPORTED.words()[0]
            })
        });
    }
    for (name, id) in [
        ("psci-version", psci::VERSION.into()),
        ("smccc-version", arch::VERSION.into()),
    ] {
        meter.measure(name, ROUNDS, || {
            sample(meter::smc, id, |x0| (0x1_0000..0x10_0000).contains(&x0))
        });
    }
}
