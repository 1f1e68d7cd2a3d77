// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Holds buffers while the host measures the hypervisor's memory for them.
//!
//! An input line `pages N` registers a buffer of N pages; the event `held` follows.

use crate::tee::text;
use alloc::vec::Vec;
use guest_bare::console::read_line;
use guest_bare::event::Event;
use guest_bare::pages::Pages;
use guest_bare::smccc;
use guest_bare::tee::{Client, PageList, Supplicant, cpio};

/// The cookie of the first buffer.
const COOKIE: u64 = 0x00be_0000_0002_0000;

fn smc(registers: [u64; 8]) -> [u64; 8] {
    let [x0, x1, x2, x3, x4, x5, x6, x7, ..] = smccc::smc(registers);
    [x0, x1, x2, x3, x4, x5, x6, x7]
}

/// Executes the host's commands; never returns.
pub fn run() -> ! {
    let client = Client::new(smc, 0);
    let supplicant = Supplicant::new(cpio::initrd());
    let mut held: Vec<(Pages, PageList)> = Vec::new();
    loop {
        let line = read_line();
        let pages = line.strip_prefix("pages ").and_then(|n| n.parse().ok());
        let Some(buffer) = pages.and_then(Pages::try_take) else {
            Event::new("error").text("text", &line).send();
            continue;
        };
        let list = PageList::of(&buffer);
        let cookie = COOKIE + held.len() as u64;
        match text(client.register(&supplicant, cookie, &list)) {
            Ok(()) => Event::new("held").send(),
            Err(text) => Event::new("error").text("text", &text).send(),
        }
        held.push((buffer, list));
    }
}
