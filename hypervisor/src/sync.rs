// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The atomics that pCPUs share without a lock: those of `core`, or stand-ins that model the memory
//! order (`--cfg loom`). Loom does not model sequential consistency; shuttle (`--cfg shuttle`)
//! tests the code that needs it.

#[cfg(not(all(test, any(loom, shuttle))))]
pub(crate) use core::sync::atomic;
#[cfg(all(test, loom))]
pub(crate) use loom::sync::atomic;
#[cfg(all(test, shuttle))]
pub(crate) use shuttle::sync::atomic;

/// A stand-in for something that is not atomic, such as a page or a vCPU's registers. A model fails
/// if two accesses, one of them a write, are not ordered.
#[cfg(all(test, loom))]
#[derive(Default)]
pub(crate) struct Plain(loom::cell::UnsafeCell<()>);

// SAFETY: the type is empty and gives out no reference; loom reports what would be a data race.
#[cfg(all(test, loom))]
unsafe impl Sync for Plain {}

#[cfg(all(test, loom))]
impl Plain {
    /// Records a read.
    pub(crate) fn read(&self) {
        self.0.with(|_| ());
    }

    /// Records a write.
    pub(crate) fn write(&self) {
        self.0.with_mut(|_| ());
    }
}
