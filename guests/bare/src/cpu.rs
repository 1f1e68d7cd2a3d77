// SPDX-License-Identifier: Apache-2.0 OR MIT
//! vCPUs: starting them, and having several do something at once.

use crate::machine::machine;
use crate::stack;
use crate::timer::Deadline;
use crate::{MAX_CPUS, mmu, psci};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;

pub use crate::machine::cpu_index as index;

/// How long another vCPU may take to start, end, or do its part of some work.
const PATIENCE: Duration = Duration::from_secs(300);

unsafe extern "C" {
    /// In `entry.S`: where PSCI has a vCPU begin.
    fn secondary_entry();
}

/// What a starting vCPU reads. The first two fields are `entry.S`'s.
#[repr(C, align(64))]
struct Start {
    root_table: u64,
    stack_top: u64,
    cpu: usize,
    run: fn(u64),
    argument: u64,
}

struct Starts([UnsafeCell<Start>; MAX_CPUS]);

// SAFETY: the slot of a vCPU is written while that vCPU is off, by the one who holds its `CLAIMED`
// flag, and read by it once it is on.
unsafe impl Sync for Starts {}

static STARTS: Starts = Starts(
    [const {
        UnsafeCell::new(Start {
            root_table: 0,
            stack_top: 0,
            cpu: 0,
            run: |_| {},
            argument: 0,
        })
    }; MAX_CPUS],
);

/// Whether a vCPU has something to run: from its start to the end of its function.
static CLAIMED: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];

/// How many vCPUs there are.
pub fn count() -> usize {
    machine().cpus
}

/// Has another vCPU run a function and turn itself off. The vCPU may still be on its way off from
/// earlier work.
///
/// # Panics
/// There is no such vCPU, it is at work, or it does not start.
pub fn spawn(cpu: usize, run: fn(u64), argument: u64) {
    assert!(cpu < count() && cpu != index(), "no other vCPU {cpu}");
    assert!(
        !CLAIMED[cpu].swap(true, Ordering::Acquire),
        "vCPU {cpu} is at work"
    );
    let deadline = Deadline::after(PATIENCE);
    assert!(
        deadline.wait(|| psci::is_off(cpu as u64)),
        "vCPU {cpu} does not end"
    );
    let slot = STARTS.0[cpu].get();
    // SAFETY: the vCPU is off and the claim is ours, so nobody else reaches the slot.
    unsafe {
        slot.write(Start {
            root_table: mmu::root(),
            stack_top: stack::top(cpu),
            cpu,
            run,
            argument,
        });
    }
    mmu::clean(slot as u64, size_of::<Start>() as u64);
    psci::cpu_on(cpu as u64, secondary_entry as *const () as u64, slot as u64)
        .expect("a vCPU that is off starts");
}

/// Whether a vCPU runs what [`spawn`] gave it.
pub fn is_busy(cpu: usize) -> bool {
    CLAIMED[cpu].load(Ordering::Acquire)
}

/// Waits until a vCPU has done what [`spawn`] gave it; whether it was in time.
pub fn join(cpu: usize, within: Duration) -> bool {
    Deadline::after(within).wait(|| !is_busy(cpu))
}

/// What a started vCPU runs.
pub fn run_started(start: u64) -> ! {
    // SAFETY: the address of this vCPU's slot in `STARTS`, which stays as it is while `CLAIMED`.
    let (cpu, run, argument) = unsafe {
        let start = &*(start as *const Start);
        (start.cpu, start.run, start.argument)
    };
    run(argument);
    CLAIMED[cpu].store(false, Ordering::Release);
    psci::cpu_off()
}

/// Runs `work` on the vCPUs 0 to `count - 1` at once, on this one (0) too, each with its number.
/// They begin together, and this returns when all have ended.
///
/// # Panics
/// This is not vCPU 0, or another one does not start or end in time.
pub fn parallel(count: usize, work: &(dyn Fn(usize) + Sync)) {
    assert_eq!(index(), 0, "the boot vCPU begins parallel work");
    let barrier = Barrier::new(count);
    let all = |cpu: usize| {
        barrier.wait();
        work(cpu);
    };
    let job: &(dyn Fn(usize) + Sync) = &all;
    // A reference to a reference is one word; the other vCPUs get that.
    let argument = (&raw const job) as u64;
    for cpu in 1..count {
        spawn(cpu, run_job, argument);
    }
    all(0);
    for cpu in 1..count {
        // `job` must outlive its use: a vCPU that does not end is the program's end.
        assert!(join(cpu, PATIENCE), "vCPU {cpu} does not end its part");
    }
}

fn run_job(argument: u64) {
    // SAFETY: `parallel` waits for this vCPU before its reference goes, or ends the program.
    let job = unsafe { *(argument as *const &(dyn Fn(usize) + Sync)) };
    job(index());
}

/// A place where vCPUs wait for each other, again and again.
pub struct Barrier {
    count: usize,
    arrived: core::sync::atomic::AtomicUsize,
}

impl Barrier {
    /// For so many vCPUs.
    pub const fn new(count: usize) -> Self {
        Self {
            count,
            arrived: core::sync::atomic::AtomicUsize::new(0),
        }
    }

    /// Waits, busily, until all are here.
    pub fn wait(&self) {
        let ticket = self.arrived.fetch_add(1, Ordering::AcqRel);
        let full = (ticket / self.count + 1) * self.count;
        while self.arrived.load(Ordering::Acquire) < full {
            core::hint::spin_loop();
        }
    }
}
