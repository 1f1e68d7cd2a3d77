// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The end of a program that is wrong: say so, then power off.

use crate::event::Event;
use crate::psci;
use alloc::format;
use core::panic::PanicInfo;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    Event::new("error").text("text", &format!("{info}")).send();
    psci::system_off()
}
