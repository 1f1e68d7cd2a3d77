// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Models of pins, withdrawals and restores of one page by several pCPUs. `loom` tries them in
//! every order and with every delay that the memory model allows: `make test-models`.

use super::*;
use crate::sync::Plain;
use loom::sync::Arc;
use loom::thread;

/// RAM, and the content of its first page. `loom` reports unordered uses of the content as races.
struct Ram {
    memory: GuestMemory,
    content: Plain,
}

const PAGE: Ipa = layout::RAM;

const RANGE: IpaRange = IpaRange {
    start: PAGE,
    bytes: PAGE_SIZE,
};

impl Ram {
    fn new() -> Arc<Self> {
        let chunk = PaRange::new(Pa::new(0x9000_0000), BLOCK_SIZE).expect("does not wrap");
        let chunks = Chunks::from_slice(&[chunk]).expect("fits");
        Arc::new(Self {
            memory: GuestMemory::new(&chunks).expect("there is a heap"),
            content: Plain::default(),
        })
    }

    /// Pins the page, uses it as the secure world does, and unpins it. Returns whether it was
    /// pinned.
    fn pin_and_use(&self) -> bool {
        let pinned = self.memory.pin(PAGE);
        if let Ok(pa) = pinned {
            assert_eq!(pa.get(), 0x9000_0000);
            self.content.read();
            assert!(self.memory.is_pinned(PAGE));
            self.memory.unpin(PAGE);
        }
        pinned.is_ok()
    }

    /// Withdraws the page and scrubs it. Returns whether it was withdrawn.
    fn withdraw_and_scrub(&self) -> bool {
        let withdrawn = self.memory.withdraw(RANGE).is_ok();
        if withdrawn {
            self.content.write();
        }
        withdrawn
    }
}

fn threads<const N: usize>(run: [fn(&Ram); N]) -> Arc<Ram> {
    let ram = Ram::new();
    let threads = run.map(|run| {
        let ram = Arc::clone(&ram);
        thread::spawn(move || run(&ram))
    });
    for thread in threads {
        thread.join().expect("no pCPU fails");
    }
    ram
}

#[test]
fn a_page_is_pinned_or_withdrawn() {
    loom::model(|| {
        let ram = threads([
            |ram| _ = ram.pin_and_use(),
            |ram| _ = ram.withdraw_and_scrub(),
        ]);
        assert_eq!(ram.memory.pinned_pages(), 0);
    });
}

#[test]
fn one_withdrawal_wins_and_the_page_comes_back_whole() {
    loom::model(|| {
        let ram = threads([
            |ram| {
                if ram.withdraw_and_scrub() {
                    assert!(ram.memory.translate(PAGE, 8).is_none());
                    ram.memory.restore(RANGE);
                }
            },
            |ram| _ = ram.pin_and_use(),
        ]);
        assert!(ram.memory.translate(PAGE, 8).is_some());
        assert!(ram.pin_and_use());
    });
}

#[test]
fn pins_are_counted() {
    loom::model(|| {
        let ram = threads([
            |ram| assert!(ram.pin_and_use()),
            |ram| assert!(ram.pin_and_use()),
        ]);
        assert_eq!(ram.memory.pinned_pages(), 0);
        assert!((1..=2).contains(&ram.memory.pinned_pages_max()));
        assert!(ram.withdraw_and_scrub());
    });
}
