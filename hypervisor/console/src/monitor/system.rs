// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the monitor knows of the machine, as plain data, and the little that it can do to it.

use mediator::Stats;
use postern_base::ids::{MAX_VCPUS, PcpuIndex, PcpuSet, VmIndex};
use postern_monitor::lifecycle::{LifecycleError, LifecycleRequest, SetMemoryError};
use thiserror::Error;

/// Why something is not done, and what to do instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum VmControlError {
    /// An order.
    #[error("{0}")]
    LifecycleRequest(#[from] LifecycleError),
    /// A size for its memory.
    #[error("{0}")]
    Memory(#[from] SetMemoryError),
    /// There is no such VM.
    #[error("there is no such virtual machine")]
    NoVm,
}

/// One VM, in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmSummary<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it is doing, in one lower-case word.
    pub phase: &'a str,
    /// Its vCPUs.
    pub vcpus: usize,
    /// Its RAM.
    pub memory_kib: u64,
    /// Whether OP-TEE knows it now.
    pub tee: bool,
    /// Whether it may use the monitor.
    pub privileged: bool,
    /// How often it has started, resets included.
    pub starts: u64,
    /// How long it has been running; zero where it is not.
    pub up_ms: u64,
}

/// Counts by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts<'a> {
    /// The names.
    pub names: &'a [&'static str],
    /// A count for each.
    pub values: [u64; MAX_COUNTS],
}

/// The most names of a [`Counts`].
pub const MAX_COUNTS: usize = 16;

impl<'a> Counts<'a> {
    /// Names and their counts; beyond [`MAX_COUNTS`] they are left out.
    pub fn new(names: &'a [&'static str], counts: &[u64]) -> Self {
        let mut values = [0; MAX_COUNTS];
        for (value, count) in values.iter_mut().zip(counts) {
            *value = *count;
        }
        Self { names, values }
    }

    /// Each name with its count.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.names.iter().copied().zip(self.values)
    }
}

/// One vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VcpuState {
    /// On, as PSCI sees it.
    pub on: bool,
    /// The pCPU whose registers it has now.
    pub pcpu: Option<usize>,
}

/// What there is to know of a VM beside its [`VmSummary`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmDetails<'a> {
    /// Its console's channel.
    pub channel: u8,
    /// Its vCPUs.
    pub vcpus: heapless::Vec<VcpuState, MAX_VCPUS>,
    /// The pCPUs that it may use.
    pub affinity: PcpuSet,
    /// Pages that OP-TEE may use, counted once a page.
    pub pages_held: u64,
    /// Its RAM from the next start on.
    pub next_memory_kib: u64,
    /// Exits to EL2.
    pub exits: Counts<'a>,
    /// What it did that it should not.
    pub refused: Counts<'a>,
}

/// What is counted of a VM and the TEE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TeeFigures<'a> {
    /// The VM's name.
    pub vm: &'a str,
    /// The mediator's counters; all zero where the VM has no mediator.
    pub stats: Stats,
    /// Guest pages that are pinned now, counted once a page.
    pub pages_held: u64,
    /// Exits to EL2.
    pub exits: Counts<'a>,
    /// What it did that it should not.
    pub refused: Counts<'a>,
}

/// What a pCPU does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuFigures<'a> {
    /// The vCPU on it: its VM's name, and its index.
    pub runs: Option<(&'a str, usize)>,
    /// It is in the secure world.
    pub secure: bool,
    /// The share of the last second or two that it had nothing to do, 0 to 100.
    pub idle_percent: u64,
    /// For how long it has had nothing to do, in all.
    pub idle_ms: u64,
    /// The longest time that it was busy at EL2 and took no interrupts, and with what.
    pub masked_ns: u64,
    /// The latter.
    pub masked_by: &'static str,
}

/// Where RAM has gone. The first is the sum of the next three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryFigures {
    /// The normal world's RAM.
    pub total_kib: u64,
    /// What is neither a guest's nor free: the hypervisor with its heap, the guests' images, what
    /// firmware reserves.
    pub hypervisor_kib: u64,
    /// Guests' RAM.
    pub guests_kib: u64,
    /// What guests can have.
    pub free_kib: u64,
    /// EL2's heap, in use.
    pub heap_used_bytes: u64,
    /// EL2's heap.
    pub heap_total_bytes: u64,
}

/// Pages that the hypervisor shares with OP-TEE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SharedPages {
    /// In use.
    pub used: u64,
    /// In all.
    pub total: u64,
}

/// The machine. Each answer is a snapshot; none waits for a guest.
pub trait System {
    /// An answer is interrupted for a moment, between two pieces of it: the machine takes the interrupts that are
    /// pending. Nobody holds a lock.
    fn breathe(&self);

    /// The name of a VM; `None` behind the last one. Takes no lock.
    fn name(&self, vm: VmIndex) -> Option<&str>;

    /// A VM in a line.
    fn summary(&self, vm: VmIndex) -> Option<VmSummary<'_>>;

    /// A VM in whole.
    fn details(&self, vm: VmIndex) -> Option<VmDetails<'_>>;

    /// What was done for a VM.
    fn tee(&self, vm: VmIndex) -> Option<TeeFigures<'_>>;

    /// Gives an order. What comes of it is told by events.
    ///
    /// # Errors
    /// When the VM is in no state for it.
    fn order(&self, vm: VmIndex, order: LifecycleRequest) -> Result<(), VmControlError>;

    /// Sets the RAM that a VM has from its next start on, in bytes, a multiple of 2 MiB above zero.
    ///
    /// # Errors
    /// When the VM cannot have it.
    fn set_memory(&self, vm: VmIndex, bytes: u64) -> Result<(), VmControlError>;

    /// The pages that are shared with OP-TEE.
    fn shared_pages(&self) -> SharedPages;

    /// A pCPU; `None` behind the last one.
    fn cpu(&self, pcpu: PcpuIndex) -> Option<CpuFigures<'_>>;

    /// RAM.
    fn memory(&self) -> MemoryFigures;

    /// Gives `each` the last `lines` lines of the log, oldest first. It may log nothing itself.
    fn log(&self, lines: usize, each: &mut dyn FnMut(&str));
}
