// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The atomics that pCPUs share without a lock: those of `core`, or, for the models of concurrency
//! (`--cfg loom`), stand-ins that try what the memory model allows. Loom knows no sequential
//! consistency; what needs it is tried by shuttle (`--cfg shuttle`).

#[cfg(not(all(test, any(loom, shuttle))))]
pub(crate) use core::sync::atomic;
#[cfg(all(test, loom))]
pub(crate) use loom::sync::atomic;
#[cfg(all(test, shuttle))]
pub(crate) use shuttle::sync::atomic;

/// Something that is not atomic, such as a page or a vCPU's registers: a model fails where two
/// accesses, one of them a write, are not ordered.
#[cfg(all(test, loom))]
#[derive(Default)]
pub(crate) struct Plain(loom::cell::UnsafeCell<()>);

// SAFETY: there is nothing in it, and nobody gets a reference; loom reports what would be a race.
#[cfg(all(test, loom))]
unsafe impl Sync for Plain {}

#[cfg(all(test, loom))]
impl Plain {
    /// A read.
    pub(crate) fn read(&self) {
        self.0.with(|_| ());
    }

    /// A write.
    pub(crate) fn write(&self) {
        self.0.with_mut(|_| ());
    }
}
