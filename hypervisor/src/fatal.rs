// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The ends of the machine: power-off, an impossible boot, and a panic.

use crate::console::output;
use core::fmt;
use core::panic::PanicInfo;
use postern_arch::{barrier, psci};

/// Powers the machine off. If firmware does not, reports that and halts.
pub fn power_off() -> ! {
    let code = psci::system_off();
    output::last_words(format_args!(
        "PSCI SYSTEM_OFF returned {code}: switch the machine off by hand"
    ));
    loop {
        barrier::wait_for_interrupt();
    }
}

/// Reports in one line why no guest can run, and powers off.
pub fn fail(why: fmt::Arguments<'_>) -> ! {
    output::boot_error(why);
    output::flush();
    power_off()
}

/// Reports where and why EL2 has a bug, and powers off. No guest can cause this.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    output::panic(format_args!("{info}"));
    power_off()
}
