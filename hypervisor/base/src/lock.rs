// SPDX-License-Identifier: Apache-2.0 OR MIT
//! EL2's locks, and the order that they are taken in.
//!
//! A [`Lock`] is a spin lock of a [`Class`] at which no pCPU starves. A pCPU that finds it free takes it. After
//! `PATIENCE` vain looks a pCPU has the right of way before all that come later. A guest can make its pCPUs take
//! nearly every class without end; they keep another pCPU from it for a bounded time. Why it is not a ticket lock is
//! in `docs/decisions/0028-starvation-free-locks.md`.
//!
//! Where debug assertions are on, in tests and in a hypervisor that is built with them, each pCPU
//! remembers the classes that it holds, and taking one out of order panics, whether or not another pCPU is in the way
//! just then. A release build has none of it.
//!
//! [`ORDER`] is the order. `docs/architecture.md` has it as well, and a test compares the two.

use core::hint::spin_loop;
use core::ops::{Deref, DerefMut};
use spin::mutex::{FairMutex, fair::FairMutexGuard};

/// The number of vain looks before a pCPU has the right of way. A look takes about as long as an ISB, all of them about
/// 100 µs. Eight pCPUs that hold a lock one after the other take less, so a pCPU that held it and waits again is behind
/// all that have the right of way.
const PATIENCE: u32 = 8192;

/// The class of a lock: what it guards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// `Vm::work`: what a VM waits for.
    Work,
    /// `WATCHDOG`: what pCPUs saw of each other.
    Watchdog,
    /// `DECODER`: the machine's input.
    Decoder,
    /// `Vm::lifecycle`: which phase a VM is in.
    Lifecycle,
    /// `Mapping::tables`: a VM's stage 2.
    Tables,
    /// `GuestConsole::line`: a VM's PL011.
    Console,
    /// `MonitorUart::device`: a privileged VM's second one.
    MonitorUart,
    /// `Devices::gpio`: a VM's PL061.
    Gpio,
    /// `Devices::rtc`: a VM's PL031.
    Rtc,
    /// `Devices::watchdog`: a VM's watchdog.
    GuestWatchdog,
    /// `OwnDevice::state`: a virtio device of one VM.
    Virtio,
    /// `MachineLink::state`: a link between VMs.
    Link,
    /// `MonitorPort::session`: a session of the monitor.
    Session,
    /// `MonitorPort::input`: its input.
    Input,
    /// `FRAMES`: RAM that VMs can have.
    Frames,
    /// `SMMUS`: an SMMU.
    Smmu,
    /// `OUTPUT`: the UART.
    Output,
    /// `ReplyQueue::bytes`: a guest's unread answers.
    Replies,
    /// `RECENT`: the end of the log.
    LogRing,
    /// `Vgic::state`: a VM's interrupt controller.
    Vgic,
    /// `Vcpu::saved`: registers of a vCPU.
    Saved,
    /// `SCHEDULER`: the run queues.
    Scheduler,
    /// `IDLE`: how long a pCPU was idle.
    Idle,
    /// `SEEDS`: random bytes for guests.
    Seeds,
    /// `HEAP`: EL2's heap.
    Heap,
}

/// The order, outer first: inside a lock, only locks of later lines are taken, so never two of one line.
pub const ORDER: &[&[Class]] = &[
    &[Class::Work],
    &[Class::Watchdog, Class::Decoder],
    &[Class::Lifecycle, Class::Tables],
    &[
        Class::Console,
        Class::MonitorUart,
        Class::Gpio,
        Class::Rtc,
        Class::GuestWatchdog,
        Class::Virtio,
        Class::Session,
    ],
    &[Class::Input, Class::Frames, Class::Smmu, Class::Link],
    &[Class::Output, Class::Replies],
    &[
        Class::LogRing,
        Class::Vgic,
        Class::Saved,
        Class::Scheduler,
        Class::Idle,
        Class::Seeds,
    ],
    &[Class::Heap],
];

impl Class {
    /// Returns the class's name in the code.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Work => "Vm::work",
            Self::Watchdog => "WATCHDOG",
            Self::Decoder => "DECODER",
            Self::Lifecycle => "Vm::lifecycle",
            Self::Tables => "Mapping::tables",
            Self::Console => "GuestConsole::line",
            Self::MonitorUart => "MonitorUart::device",
            Self::Gpio => "Devices::gpio",
            Self::Rtc => "Devices::rtc",
            Self::GuestWatchdog => "Devices::watchdog",
            Self::Virtio => "OwnDevice::state",
            Self::Link => "MachineLink::state",
            Self::Session => "MonitorPort::session",
            Self::Input => "MonitorPort::input",
            Self::Frames => "FRAMES",
            Self::Smmu => "SMMUS",
            Self::Output => "OUTPUT",
            Self::Replies => "ReplyQueue::bytes",
            Self::LogRing => "RECENT",
            Self::Vgic => "Vgic::state",
            Self::Saved => "Vcpu::saved",
            Self::Scheduler => "SCHEDULER",
            Self::Idle => "IDLE",
            Self::Seeds => "SEEDS",
            Self::Heap => "HEAP",
        }
    }
}

/// A lock that knows its place in [`ORDER`].
#[derive(Debug)]
pub struct Lock<T> {
    #[cfg(debug_assertions)]
    class: Class,
    inner: FairMutex<T>,
}

/// The value that a [`Lock`] guards, while the lock is held.
#[derive(Debug)]
pub struct Guard<'a, T> {
    inner: FairMutexGuard<'a, T>,
    /// Dropped after `inner`: until then the lock is held.
    #[cfg(debug_assertions)]
    _held: held::Held,
}

impl<T> Lock<T> {
    /// Makes a lock, which is free.
    pub const fn new(class: Class, value: T) -> Self {
        #[cfg(not(debug_assertions))]
        let _ = class;
        Self {
            #[cfg(debug_assertions)]
            class,
            inner: FairMutex::new(value),
        }
    }

    /// Takes the lock, and waits while it is held.
    ///
    /// # Panics
    /// With debug assertions: it is taken out of order.
    #[inline]
    pub fn lock(&self) -> Guard<'_, T> {
        #[cfg(debug_assertions)]
        held::check(self.class);
        let inner = match self.inner.try_lock() {
            Some(inner) => inner,
            None => self.wait(),
        };
        self.held(inner)
    }

    /// Waits for the lock.
    #[cold]
    fn wait(&self) -> FairMutexGuard<'_, T> {
        for _ in 0..PATIENCE {
            spin_loop();
            if !self.inner.is_locked()
                && let Some(inner) = self.inner.try_lock()
            {
                return inner;
            }
        }
        self.inner.starve().lock()
    }

    /// Takes the lock unless it is held or a pCPU has the right of way. Without a wait the order does not matter.
    #[inline]
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        self.inner.try_lock().map(|inner| self.held(inner))
    }

    #[inline]
    fn held<'a>(&self, inner: FairMutexGuard<'a, T>) -> Guard<'a, T> {
        Guard {
            inner,
            #[cfg(debug_assertions)]
            _held: held::Held::new(self.class),
        }
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

/// Returns the index of this pCPU, once it is known.
#[cfg(all(debug_assertions, target_os = "none"))]
static THIS_PCPU: spin::Once<fn() -> Option<crate::ids::PcpuIndex>> = spin::Once::new();

/// Sets the function that returns the index of this pCPU. Until then held locks are not noted.
#[cfg(all(debug_assertions, target_os = "none"))]
pub fn check_order_by(this_pcpu: fn() -> Option<crate::ids::PcpuIndex>) {
    THIS_PCPU.call_once(|| this_pcpu);
}

/// The classes that this pCPU holds, or this thread of a test.
#[cfg(debug_assertions)]
mod held {
    use super::{Class, ORDER};
    use core::sync::atomic::{AtomicU32, Ordering};

    const fn bit(class: Class) -> u32 {
        1 << class as u8
    }

    /// Calls `act` with the classes that this pCPU holds, once its index is known.
    #[cfg(target_os = "none")]
    fn with(act: impl FnOnce(&AtomicU32)) {
        use crate::ids::MAX_PCPUS;
        static HELD: [AtomicU32; MAX_PCPUS] = [const { AtomicU32::new(0) }; MAX_PCPUS];
        if let Some(pcpu) = super::THIS_PCPU.get().and_then(|this| this()) {
            act(&HELD[pcpu.get()]);
        }
    }

    #[cfg(not(target_os = "none"))]
    fn with(act: impl FnOnce(&AtomicU32)) {
        std::thread_local! {
            static HELD: AtomicU32 = const { AtomicU32::new(0) };
        }
        HELD.with(act);
    }

    /// Returns the line of [`ORDER`] that a class is in.
    fn line(class: Class) -> Option<usize> {
        ORDER.iter().position(|line| line.contains(&class))
    }

    /// Panics unless a lock of this class may be taken now.
    pub(super) fn check(class: Class) {
        let mut wrong = None;
        with(|held| {
            let bits = held.load(Ordering::Relaxed);
            let mut outer = ORDER.iter().copied().flatten().copied();
            wrong = outer.find(|&outer| bits & bit(outer) != 0 && line(outer) >= line(class));
            if wrong.is_some() {
                // The report takes locks as well.
                held.store(0, Ordering::Relaxed);
            }
        });
        if let Some(outer) = wrong {
            panic!(
                "lock order: {} is taken while {} is held",
                class.name(),
                outer.name()
            );
        }
    }

    /// A class that is held.
    #[derive(Debug)]
    pub(super) struct Held(Class);

    impl Held {
        pub(super) fn new(class: Class) -> Self {
            with(|held| {
                held.fetch_or(bit(class), Ordering::Relaxed);
            });
            Self(class)
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            with(|held| {
                held.fetch_and(!bit(self.0), Ordering::Relaxed);
            });
        }
    }
}

#[cfg(test)]
mod tests;
