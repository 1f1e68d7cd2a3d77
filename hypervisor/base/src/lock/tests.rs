// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The order is kept, and told.

use super::*;
use std::panic::{AssertUnwindSafe, catch_unwind};

fn text_of(panic: &(dyn std::any::Any + Send)) -> &str {
    panic.downcast_ref::<String>().map_or("", String::as_str)
}

/// Every class has a line, and one only.
#[test]
fn every_class_has_its_place() {
    let mut all: Vec<_> = ORDER.iter().copied().flatten().copied().collect();
    all.sort_by_key(|class| *class as u8);
    let numbers: Vec<_> = all.iter().map(|class| *class as u8).collect();
    assert_eq!(numbers, (0..=Class::Heap as u8).collect::<Vec<_>>());
}

/// Any two classes, one inside the other: allowed where the inner one is in a later line, and only there.
#[test]
fn a_lock_is_taken_in_order_or_not_at_all() {
    let classes = || {
        let lines = ORDER.iter().enumerate();
        lines.flat_map(|(line, classes)| classes.iter().map(move |&class| (line, class)))
    };
    for (outer_line, outer) in classes() {
        for (inner_line, inner) in classes() {
            let (a, b) = (Lock::new(outer, 1), Lock::new(inner, 2));
            let both = catch_unwind(AssertUnwindSafe(|| {
                let (a, b) = (a.lock(), b.lock());
                *a + *b
            }));
            match both {
                Ok(sum) => {
                    assert_eq!(sum, 3);
                    assert!(inner_line > outer_line, "{outer:?} {inner:?}");
                }
                Err(panic) => {
                    assert!(inner_line <= outer_line, "{outer:?} {inner:?}");
                    let text = text_of(&*panic);
                    let names = text.contains(outer.name()) && text.contains(inner.name());
                    assert!(names, "{text}");
                }
            }
            // What was held is not held any more, whichever way it ended.
            assert_eq!(*b.lock(), 2);
            assert_eq!(*a.lock(), 1);
        }
    }
}

#[test]
fn try_lock_needs_no_order_but_is_recorded() {
    let (work, recent) = (Lock::new(Class::Work, ()), Lock::new(Class::LogRing, ()));
    let inner = recent.lock();
    let outer = work.try_lock().expect("nobody holds it");
    drop(inner);
    let again = catch_unwind(AssertUnwindSafe(|| drop(work.lock())));
    let text = again.map_err(|panic| text_of(&*panic).to_owned());
    assert!(text.is_err_and(|text| text.contains("Vm::work is taken while Vm::work is held")));
    drop(outer);
}

/// What is not in the table is not known to who reads it.
#[test]
fn the_order_in_the_documentation_is_this_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/architecture.md");
    let text = std::fs::read_to_string(path).expect("the documentation is beside the code");
    let lines = ORDER.iter().map(|line| {
        let names: Vec<_> = line.iter().map(|class| class.name()).collect();
        names.join(" | ") + "\n"
    });
    let order = format!("```text\n{}```", lines.collect::<String>());
    assert!(
        text.contains(&order),
        "docs/architecture.md lacks:\n{order}"
    );
    for class in ORDER.iter().copied().flatten() {
        let row = text
            .lines()
            .any(|line| line.starts_with('|') && line.contains(&format!("`{}`", class.name())));
        assert!(row, "the table of locks lacks {}", class.name());
    }
}

/// Who has waited for long has the lock before anybody who comes later, however quick that one is.
#[test]
fn a_waiter_is_not_overtaken_after_a_long_wait() {
    use spin::mutex::fair::LockRejectReason;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};
    for _ in 0..20 {
        let lock = Lock::new(Class::LogRing, 0);
        let had = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let guard = lock.lock();
            scope.spawn(|| {
                let mut guard = lock.lock();
                *guard += 1;
                had.store(true, Ordering::Release);
            });
            let start = Instant::now();
            let has_right = || {
                let reason = lock.inner.try_lock_starver().err();
                matches!(reason, Some(LockRejectReason::Starved))
            };
            while !has_right() {
                assert!(
                    start.elapsed() < Duration::from_secs(20),
                    "it waits for ever"
                );
                std::thread::yield_now();
            }
            drop(guard);
            // It takes it as soon as it runs, and until then nobody else does.
            while !had.load(Ordering::Acquire) {
                let overtaken = lock
                    .try_lock()
                    .is_some_and(|_| !had.load(Ordering::Acquire));
                assert!(!overtaken, "somebody else had it");
            }
        });
        assert_eq!(*lock.lock(), 1);
    }
}
