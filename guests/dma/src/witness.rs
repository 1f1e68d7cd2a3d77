// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A neighbour whose RAM nobody else writes.

use core::time::Duration;
use guest_bare::event::Event;
use guest_bare::machine::machine;
use guest_bare::pages::Pages;
use guest_bare::{PAGE_SIZE, pages, timer};

/// What its RAM holds.
const OWN: u64 = 0x7769_746e_6573_7321;

/// Fills half of its RAM, and looks at it twice a second.
pub fn run(seconds: u64) {
    let count = pages::free() / 2;
    let own = Pages::take(count);
    own.fill(OWN);
    let mut changed = 0;
    for _ in 0..seconds * 2 {
        timer::sleep(Duration::from_millis(500));
        for offset in (0..own.bytes() as usize).step_by(64) {
            changed += u64::from(own.read_u64(offset) != OWN);
        }
    }
    Event::new("witness-end")
        .number("pages", own.bytes() / PAGE_SIZE)
        .number("changed", changed)
        .number("start", machine().ram.start)
        .send();
}
