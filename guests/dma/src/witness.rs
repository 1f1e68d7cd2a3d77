// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A neighbour whose RAM nobody else writes.

use core::time::Duration;
use guest_bare::event::Event;
use guest_bare::machine::machine;
use guest_bare::pages::Pages;
use guest_bare::{PAGE_SIZE, pages, timer};

/// What its RAM holds.
const OWN: u64 = 0x7769_746e_6573_7321;

/// Half of the VM's RAM, which is filled and watched.
pub struct WatchedRam {
    own: Pages,
    /// The number of words so far that were found changed.
    changed: u64,
}

impl WatchedRam {
    /// Fills half of the RAM.
    pub fn fill() -> Self {
        let own = Pages::take(pages::free() / 2);
        own.fill(OWN);
        Self { own, changed: 0 }
    }

    /// Looks at a word of each cache line.
    pub fn look(&mut self) {
        let words = (0..self.own.bytes() as usize).step_by(64);
        let changed = words.filter(|offset| self.own.read_u64(*offset) != OWN);
        self.changed += changed.count() as u64;
    }

    /// Adds what was seen to an event.
    pub fn add_to(&self, event: Event) -> Event {
        event
            .number("pages", self.own.bytes() / PAGE_SIZE)
            .number("changed", self.changed)
    }
}

/// Fills half of its RAM, and looks at it twice a second.
pub fn run(seconds: u64) {
    let mut ram = WatchedRam::fill();
    for _ in 0..seconds * 2 {
        timer::sleep(Duration::from_millis(500));
        ram.look();
    }
    ram.add_to(Event::new("witness-end"))
        .number("start", machine().ram.start)
        .send();
}
