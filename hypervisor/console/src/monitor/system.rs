// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The monitor's interface to the machine: figures as plain data, and the few operations.

use mediator::Stats;
use postern_base::ids::{MAX_VCPUS, PcpuIndex, PcpuSet, VmIndex};
use postern_monitor::lifecycle::{LifecycleError, LifecycleRequest, SetMemoryError};
use thiserror::Error;

/// The reason why a request is refused, and what to do instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum VmControlError {
    /// The VM's state does not permit the lifecycle request.
    #[error("{0}")]
    LifecycleRequest(#[from] LifecycleError),
    /// The VM cannot have this memory size.
    #[error("{0}")]
    Memory(#[from] SetMemoryError),
    /// There is no such VM.
    #[error("there is no such virtual machine")]
    NoVm,
}

/// The line about one VM in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmSummary<'a> {
    /// The VM's name.
    pub name: &'a str,
    /// The VM's phase, in one lower-case word.
    pub phase: &'a str,
    /// The number of vCPUs.
    pub vcpus: usize,
    /// The VM's RAM.
    pub memory_kib: u64,
    /// Whether the VM exists in OP-TEE now.
    pub tee: bool,
    /// Whether the VM may use the monitor.
    pub privileged: bool,
    /// The number of starts, including resets.
    pub starts: u64,
    /// The time since the start; zero if the VM is not running.
    pub up_ms: u64,
}

/// Counters with their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts<'a> {
    /// The names.
    pub names: &'a [&'static str],
    /// The value of each counter.
    pub values: [u64; MAX_COUNTS],
}

/// The most counters in [`Counts`].
pub const MAX_COUNTS: usize = 16;

impl<'a> Counts<'a> {
    /// Creates counters from names and values. Those beyond [`MAX_COUNTS`] are left out.
    pub fn new(names: &'a [&'static str], counts: &[u64]) -> Self {
        let mut values = [0; MAX_COUNTS];
        for (value, count) in values.iter_mut().zip(counts) {
            *value = *count;
        }
        Self { names, values }
    }

    /// Returns each name with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.names.iter().copied().zip(self.values)
    }
}

/// The state of one vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VcpuState {
    /// Whether the vCPU is on in the sense of PSCI.
    pub on: bool,
    /// The pCPU on which the vCPU is loaded.
    pub pcpu: Option<usize>,
}

/// The figures of a VM that are not in its [`VmSummary`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmDetails<'a> {
    /// The channel of the VM's console.
    pub channel: u8,
    /// The VM's vCPUs.
    pub vcpus: heapless::Vec<VcpuState, MAX_VCPUS>,
    /// The pCPUs that the VM may use.
    pub affinity: PcpuSet,
    /// Guest pages that are pinned now. A page with several pins counts once.
    pub pages_held: u64,
    /// The VM's RAM from its next start on.
    pub next_memory_kib: u64,
    /// The number of times that the VM's watchdog has reset it.
    pub watchdog_resets: u64,
    /// Exits to EL2, by reason.
    pub exits: Counts<'a>,
    /// Operations of the guest that EL2 refused.
    pub refused: Counts<'a>,
    /// Frames at the VM's ends of networks.
    pub frames: Counts<'a>,
    /// Bytes at the VM's ends of consoles.
    pub bytes: Counts<'a>,
}

/// The TEE figures of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TeeFigures<'a> {
    /// The VM's name.
    pub vm: &'a str,
    /// The mediator's counters; all zero where the VM has no mediator.
    pub stats: Stats,
    /// Guest pages that are pinned now. A page with several pins counts once.
    pub pages_held: u64,
    /// Exits to EL2, by reason.
    pub exits: Counts<'a>,
    /// Operations of the guest that EL2 refused.
    pub refused: Counts<'a>,
}

/// The activity of a pCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuFigures<'a> {
    /// The vCPU that is loaded: the name of its VM, and its index.
    pub runs: Option<(&'a str, usize)>,
    /// Whether the pCPU is in the secure world.
    pub secure: bool,
    /// The idle share of the last one to two seconds, 0 to 100.
    pub idle_percent: u64,
    /// The total idle time.
    pub idle_ms: u64,
    /// The longest time for which EL2 took no interrupts.
    pub masked_ns: u64,
    /// The activity during that time.
    pub masked_by: &'static str,
}

/// The use of RAM. The first figure is the sum of the next three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryFigures {
    /// The normal world's RAM.
    pub total_kib: u64,
    /// RAM that is neither a guest's nor free: the hypervisor with its heap, the guests' images,
    /// and firmware's reservations.
    pub hypervisor_kib: u64,
    /// RAM that guests have.
    pub guests_kib: u64,
    /// RAM that guests can get.
    pub free_kib: u64,
    /// The part of EL2's heap that is in use.
    pub heap_used_bytes: u64,
    /// The size of EL2's heap.
    pub heap_total_bytes: u64,
}

/// Pages that the hypervisor shares with OP-TEE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SharedPages {
    /// The number of pages in use.
    pub used: u64,
    /// The number of all pages.
    pub total: u64,
}

/// The machine. Each answer is a snapshot, and no answer waits for a guest.
pub trait System {
    /// Takes the pending interrupts between two pieces of an answer. The caller holds no lock.
    fn breathe(&self);

    /// Returns the name of a VM, or `None` beyond the last one. Takes no lock.
    fn name(&self, vm: VmIndex) -> Option<&str>;

    /// Returns the summary of a VM.
    fn summary(&self, vm: VmIndex) -> Option<VmSummary<'_>>;

    /// Returns the details of a VM.
    fn details(&self, vm: VmIndex) -> Option<VmDetails<'_>>;

    /// Returns the TEE figures of a VM.
    fn tee(&self, vm: VmIndex) -> Option<TeeFigures<'_>>;

    /// Requests a lifecycle change. Events report its outcome.
    ///
    /// # Errors
    /// The VM's state does not permit the request.
    fn order(&self, vm: VmIndex, order: LifecycleRequest) -> Result<(), VmControlError>;

    /// Sets the RAM that a VM has from its next start on: in bytes, a multiple of 2 MiB above zero.
    ///
    /// # Errors
    /// The VM cannot have this size.
    fn set_memory(&self, vm: VmIndex, bytes: u64) -> Result<(), VmControlError>;

    /// Returns the use of the pages that are shared with OP-TEE.
    fn shared_pages(&self) -> SharedPages;

    /// Returns the figures of a pCPU, or `None` beyond the last one.
    fn cpu(&self, pcpu: PcpuIndex) -> Option<CpuFigures<'_>>;

    /// Returns the use of RAM.
    fn memory(&self) -> MemoryFigures;

    /// Passes to `each` the last `lines` lines of the log, oldest first. `each` must not log.
    fn log(&self, lines: usize, each: &mut dyn FnMut(&str));
}
