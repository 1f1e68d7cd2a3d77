// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The ends of the machine: powered off, a boot that is impossible, and a panic.

use crate::console::output;
use core::fmt;
use core::panic::PanicInfo;
use postern_arch::{barrier, psci};

/// Powers the machine off. Where firmware does not, says so and stands still.
pub fn power_off() -> ! {
    let code = psci::system_off();
    output::last_words(format_args!(
        "PSCI SYSTEM_OFF came back with {code}: switch the machine off by hand"
    ));
    loop {
        barrier::wait_for_interrupt();
    }
}

/// Says in one line why there will be no guests, and powers off.
pub fn fail(why: fmt::Arguments<'_>) -> ! {
    output::boot_error(why);
    output::flush();
    power_off()
}

/// Says where and why EL2 has a bug, and powers off. A guest cannot get here.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    output::panic(format_args!("{info}"));
    power_off()
}
