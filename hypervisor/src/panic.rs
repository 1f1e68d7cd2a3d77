// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A bug in EL2: say where and why, and power off. A guest cannot get here.

use crate::arch::power;
use crate::console::output;
use core::panic::PanicInfo;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    output::panic(format_args!("{info}"));
    power::off()
}
