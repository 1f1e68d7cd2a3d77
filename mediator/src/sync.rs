// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The lock and the atomics that vCPUs share: those of `spin` and `core`, or stand-ins for the models of
//! concurrency (`--cfg shuttle`), which try one interleaving after the other.

#[cfg(not(all(test, shuttle)))]
pub(crate) use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
#[cfg(not(all(test, shuttle)))]
pub(crate) use spin::mutex::TicketMutex;

#[cfg(all(test, shuttle))]
pub(crate) use model::{AtomicBool, AtomicU32, Ordering, TicketMutex};

#[cfg(all(test, shuttle))]
mod model {
    pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use shuttle::sync::{Mutex, MutexGuard};

    /// A lock with the interface of `spin`'s.
    #[derive(Debug)]
    pub(crate) struct TicketMutex<T>(Mutex<T>);

    impl<T> TicketMutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect("no thread panics with the lock held")
        }
    }
}
