// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The state of a virtual machine and of its vCPUs.

use super::devices::Devices;
use super::guest_image::{Images, Loader};
use super::guest_memory::GuestMemory;
use super::lifecycle::Lifecycle;
use super::mapping::Mapping;
use super::own_virtio::OwnVirtio;
use super::run_permission::RunPermission;
use super::work::VmWork;
use crate::console::output::{self, MachineConsole, UartLink};
use crate::sched::deadlines;
use crate::sched::residency::Residency;
use crate::services::psci::PowerView;
use crate::services::vcpu_power::VcpuPower;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use mediator::Mediator;
use mediator::addr::{Ipa, Pa};
use postern_arch::vcpu_context::{Context, Frame, VcpuEl2Regs};
use postern_base::gic::GicVersion;
use postern_base::ids::{MAX_VCPUS, PcpuIndex, PcpuSet, VcpuId, VcpuIndex, VmIndex};
use postern_base::lock::{Class, Lock};
use postern_base::range::PaRange;
use postern_base::sve::VectorLength;
use postern_base::ticks::Ticks;
use postern_boot_tree::{AssignedDevice, Tee, VmConfig};
use postern_console::log::{Level, LogOnce};
use postern_console::mux::Channel;
use postern_devices::debug::DebugUnit;
use postern_devices::physical_timer::PhysicalTimer;
use postern_guest_tree::GuestTee;
use postern_guest_tree::layout::{SpiSource, Spis};
use postern_vgic::{Vgic, Vmcr};

/// A vCPU and its VM.
#[derive(Clone, Copy)]
pub struct VcpuRef {
    /// The VM.
    pub vm: &'static Vm,
    /// One of the VM's vCPUs.
    pub vcpu: &'static Vcpu,
}

impl VcpuRef {
    /// Returns the vCPU's number among those of all VMs.
    pub fn id(self) -> VcpuId {
        VcpuId {
            vm: self.vm.index,
            vcpu: self.vcpu.index,
        }
    }

    /// Returns the pCPUs that the vCPU may run on.
    pub fn affinity(self) -> PcpuSet {
        self.vm.affinity
    }
}

/// The reason of an exit, by which exits are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExitReason {
    /// An SMC instruction.
    Smc,
    /// An HVC instruction.
    Hvc,
    /// An access to a device.
    Mmio,
    /// An access to a system register.
    Sysreg,
    /// A WFI or WFE instruction.
    Wfx,
    /// A physical interrupt.
    Irq,
    /// An access outside the VM's memory.
    Abort,
    /// Anything else.
    Other,
}

/// The names of [`ExitReason`]'s variants, in their order.
pub const EXIT_NAMES: [&str; 8] = [
    "smc", "hvc", "mmio", "sysreg", "wfx", "irq", "abort", "other",
];

/// A guest's anomalous behaviour that is logged once and counted always.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GuestAnomaly {
    /// An access outside the guest's memory.
    Abort,
    /// An access to a system register that the guest does not have.
    Register,
    /// A call that no service answers.
    Call,
    /// An instruction that traps for no good reason.
    Instruction,
    /// An SError.
    SystemError,
    /// An access by a device of its that an SMMU has refused.
    Dma,
}

/// The names of [`GuestAnomaly`]'s variants, in their order.
pub const ANOMALY_NAMES: [&str; 6] = ["abort", "register", "call", "instruction", "serror", "dma"];

/// The state of a vCPU that is on no pCPU.
pub struct SavedContext {
    /// The general registers.
    pub frame: Frame,
    /// The other registers.
    pub context: Context,
    /// The vCPU's physical timer. It occupies no register, so this is its state while the vCPU
    /// runs, too.
    pub physical_timer: PhysicalTimer,
    /// The vCPU's debug registers. This is their state while the vCPU runs, too.
    pub debug: DebugUnit,
}

impl SavedContext {
    /// Sets the state of a vCPU that is turned on with these general registers. Allocates nothing.
    pub fn reset(&mut self, frame: Frame) {
        self.frame = frame;
        self.context.reset();
        self.physical_timer = PhysicalTimer::new();
        self.debug = DebugUnit::new();
    }
}

/// A virtual CPU.
pub struct Vcpu {
    /// The vCPU's number in its VM.
    pub index: VcpuIndex,
    /// The vCPU's power state, as PSCI sees it.
    pub power: VcpuPower,
    /// The vCPU's registers, while it is on no pCPU.
    pub saved: Lock<SavedContext>,
    /// The pCPU that the vCPU is on, if any.
    pub residency: Residency,
    /// The exit counters. Only the pCPU that the vCPU is on writes them.
    exits: [AtomicU64; EXIT_NAMES.len()],
}

impl Vcpu {
    fn new(index: VcpuIndex, sve: Option<VectorLength>) -> Self {
        Self {
            index,
            power: VcpuPower::off(),
            saved: Lock::new(
                Class::Saved,
                SavedContext {
                    frame: Frame::start(0, 0),
                    context: Context::new(sve),
                    physical_timer: PhysicalTimer::new(),
                    debug: DebugUnit::new(),
                },
            ),
            residency: Residency::none(),
            exits: [const { AtomicU64::new(0) }; EXIT_NAMES.len()],
        }
    }

    /// Counts an exit.
    #[inline]
    pub fn count(&self, exit: ExitReason) {
        let counter = &self.exits[exit as usize];
        // Only this pCPU writes it, so no exclusive access is needed.
        counter.store(
            counter.load(Ordering::Relaxed).wrapping_add(1),
            Ordering::Relaxed,
        );
    }

    /// Returns the pCPU that the vCPU is on.
    pub fn pcpu(&self) -> Option<PcpuIndex> {
        self.residency.pcpu()
    }

    /// Returns the EL2 registers that determine what the vCPU sees of the machine.
    pub fn el2_registers(&self, vm: &Vm) -> VcpuEl2Regs {
        VcpuEl2Regs {
            mpidr: 1 << 31 | self.index.get() as u64,
            vttbr: vm.vttbr.load(Ordering::Relaxed),
            counter_offset: vm.counter_offset.load(Ordering::Relaxed),
        }
    }

    /// Returns when the first of the vCPU's timers fires, while the vCPU is on no pCPU.
    pub fn timer_deadline(&self, vm: &Vm) -> Option<Ticks> {
        let saved = self.saved.lock();
        let physical = saved.physical_timer.deadline().map(|at| vm.time_of(at));
        let context = &saved.context;
        let offset = vm.counter_offset.load(Ordering::Relaxed);
        let at = deadlines::due_at(
            context.timer_control,
            Ticks::new(context.timer_compare),
            Ticks::new(offset),
        );
        at.into_iter().chain(physical).min()
    }

    /// Returns whether the vCPU has an interrupt to take, while it is on no pCPU.
    pub fn has_deliverable(&self, vm: &Vm) -> bool {
        let vmcr = Vmcr::from_bits(self.saved.lock().context.interface.vmcr);
        vm.vgic.has_deliverable_through(self.index, vmcr)
    }
}

/// A virtual machine.
pub struct Vm {
    /// The VM's place in the tree.
    pub index: VmIndex,
    /// The VM's name.
    pub name: &'static str,
    /// The VM's RAM and its pins.
    pub memory: GuestMemory,
    /// The VM's stage-2 tables.
    pub mapping: Mapping,
    /// The VM's interrupt controller.
    pub vgic: Vgic,
    /// The version of the VM's interrupt controller.
    pub gic: GicVersion,
    /// The VM's vCPUs.
    pub vcpus: Box<[Vcpu]>,
    /// The VM's console.
    pub console: MachineConsole,
    /// The VM's other emulated devices.
    pub devices: Devices,
    /// The numbers of the SPIs that EL2 drives.
    pub spis: Spis,
    /// Whether the VM starts with the machine.
    pub autostart: bool,
    /// Whether the VM may send requests to the monitor.
    pub privileged: bool,
    /// The length of SVE's vectors, if the VM has SVE.
    pub sve: Option<VectorLength>,
    affinity: PcpuSet,
    mediator: Option<Mediator>,
    needs_tee: bool,
    /// Whether the VM exists in OP-TEE now.
    pub has_tee: AtomicBool,
    /// The images from which the VM boots.
    pub images: Images,
    /// VTTBR_EL2 of the VM's vCPUs. Set before the first vCPU starts.
    pub vttbr: AtomicU64,
    /// The number of ticks by which the VM's counter lags behind the physical one.
    pub counter_offset: AtomicU64,
    /// The VM's lifecycle state.
    pub lifecycle: Lock<Lifecycle>,
    /// The permission of the VM's vCPUs to be on pCPUs. Follows [`Vm::lifecycle`]: it is changed
    /// under that lock, and read without it.
    pub run_permission: RunPermission,
    /// The number of the VM's vCPUs that are on.
    pub vcpus_on: AtomicUsize,
    anomalies: [LogOnce; ANOMALY_NAMES.len()],
    /// The configuration space of each PCI host that the VM has: that of its root bus.
    pub root_buses: Vec<Pa>,
    /// Whether what is behind them was reset since the machine started.
    pub functions_reset: AtomicBool,
    /// The next piece of the VM's start or teardown.
    pub work: Lock<VmWork<Loader>>,
    /// The work that was requested and has not reached [`Vm::work`] yet: `START` or `TEARDOWN`, or
    /// zero for none.
    pub requested: AtomicU8,
    /// Whether [`Vm::work`] may hold a piece to do.
    pub busy: AtomicBool,
    /// The VM's RAM at its next start, in bytes.
    pub next_bytes: AtomicU64,
    /// The number of the VM's starts, resets included.
    pub starts: AtomicU64,
    /// The number of times that the VM's watchdog has reset it.
    pub watchdog_resets: AtomicU64,
    /// The time at which the VM's first vCPU started, in ticks.
    pub started_at: AtomicU64,
    /// The time at which the last of the VM's vCPUs was seen to run before the VM was paused, in
    /// ticks.
    pub paused_at: AtomicU64,
    /// Whether the pause has been reported.
    pub pause_reported: AtomicBool,
}

/// The arguments of [`Vm::new`].
pub struct VmParts {
    /// The VM's configuration in the tree.
    pub config: &'static VmConfig<'static>,
    /// The VM's place in the tree.
    pub index: VmIndex,
    /// The pCPUs that the VM may use.
    pub affinity: PcpuSet,
    /// The VM's RAM.
    pub memory: GuestMemory,
    /// The VM's stage-2 tables.
    pub mapping: Mapping,
    /// The version of the VM's interrupt controller: the machine's.
    pub gic: GicVersion,
    /// The number of the VM's ends of links.
    pub links: usize,
    /// The VM's mediator, if it has a TEE.
    pub mediator: Option<Mediator>,
}

impl Vm {
    /// Returns a VM that is off.
    pub fn new(parts: VmParts) -> Self {
        let config = parts.config;
        let count = config.vcpus.min(MAX_VCPUS);
        let vcpus = (0..count).filter_map(VcpuIndex::new);
        let vcpus = vcpus.map(|index| Vcpu::new(index, config.sve));
        let is_taken = |spi| config.devices.iter().any(|device| device.has_spi(spi));
        let spis = Spis::beside(is_taken);
        let virtio = OwnVirtio::new(parts.links, config.rng, config.disk);
        let virtio_slots = virtio.end();
        Self {
            index: parts.index,
            name: config.name,
            memory: parts.memory,
            mapping: parts.mapping,
            vgic: Vgic::new(count, parts.gic),
            gic: parts.gic,
            vcpus: vcpus.collect(),
            console: MachineConsole::new(Channel::of_vm(parts.index), UartLink),
            devices: Devices::new(config.privileged, config.watchdog, virtio),
            spis,
            autostart: config.autostart,
            privileged: config.privileged,
            sve: config.sve,
            affinity: parts.affinity,
            images: Images {
                kernel: config.kernel,
                ramdisk: config.ramdisk,
                bootargs: config.bootargs,
                vcpus: count,
                privileged: config.privileged,
                watchdog: config.watchdog,
                gic: parts.gic,
                spis,
                devices: &config.devices,
                partial_tree: config.partial_tree.as_ref(),
                virtio: virtio_slots,
            },
            needs_tee: config.tee == Tee::Required,
            has_tee: AtomicBool::new(false),
            mediator: parts.mediator,
            vttbr: AtomicU64::new(0),
            counter_offset: AtomicU64::new(0),
            lifecycle: Lock::new(Class::Lifecycle, Lifecycle::new()),
            run_permission: RunPermission::closed(),
            vcpus_on: AtomicUsize::new(0),
            anomalies: [const { LogOnce::new() }; ANOMALY_NAMES.len()],
            root_buses: config
                .devices
                .iter()
                .filter_map(AssignedDevice::root_bus)
                .map(PaRange::start)
                .collect(),
            functions_reset: AtomicBool::new(false),
            work: Lock::new(Class::Work, VmWork::Nothing),
            requested: AtomicU8::new(0),
            busy: AtomicBool::new(false),
            next_bytes: AtomicU64::new(config.memory),
            starts: AtomicU64::new(0),
            watchdog_resets: AtomicU64::new(0),
            started_at: AtomicU64::new(0),
            paused_at: AtomicU64::new(0),
            pause_reported: AtomicBool::new(false),
        }
    }

    /// Returns the value of the VM's counter when the physical one, CNTPCT_EL0, is at `time`.
    #[inline]
    pub fn count_at(&self, time: Ticks) -> Ticks {
        // A reading of the counter may be a few ticks older than an earlier one on another pCPU.
        time.since(Ticks::new(self.counter_offset.load(Ordering::Relaxed)))
    }

    /// Returns the value of the physical counter when the VM's is at `count`; the end of time where
    /// that never happens.
    pub fn time_of(&self, count: Ticks) -> Ticks {
        count.saturating_add(Ticks::new(self.counter_offset.load(Ordering::Relaxed)))
    }

    /// Returns the pCPUs that the VM may use.
    pub fn affinity(&self) -> PcpuSet {
        self.affinity
    }

    /// Returns the VM's mediator, if it has a TEE.
    #[inline]
    pub fn mediator(&self) -> Option<&Mediator> {
        self.mediator.as_ref()
    }

    /// Returns whether the VM must not start without a TEE.
    pub fn needs_tee(&self) -> bool {
        self.needs_tee
    }

    /// Returns whether the VM exists in OP-TEE now.
    pub fn has_tee(&self) -> bool {
        self.has_tee.load(Ordering::Acquire)
    }

    /// Returns the description of the TEE for the guest's device tree. Over FF-A there is none: the guest asks for the
    /// partitions.
    pub fn guest_tee(&self) -> Option<GuestTee> {
        let mediator = self.mediator.as_ref().filter(|_| self.has_tee())?;
        if mediator.speaks_ffa() {
            return None;
        }
        let spi = self.spis.of(SpiSource::Tee);
        let notification = mediator.offers_notifications().then_some(spi);
        Some(GuestTee { notification })
    }

    /// Logs a line that the VM caused, with the VM's name.
    pub fn log(&self, level: Level, text: fmt::Arguments<'_>) {
        output::log_of(
            Some(self.index),
            level,
            format_args!("vm {}: {text}", self.name),
        );
    }

    /// Counts an anomaly of the guest. Returns `true` the first time.
    pub fn log_once(&self, anomaly: GuestAnomaly) -> bool {
        self.anomalies[anomaly as usize].record()
    }

    /// Returns the number of each of the guest's anomalies, in the order of [`ANOMALY_NAMES`].
    pub fn anomalies(&self) -> [u64; ANOMALY_NAMES.len()] {
        core::array::from_fn(|index| self.anomalies[index].count())
    }

    /// Returns the number of exits of all vCPUs, in the order of [`EXIT_NAMES`].
    pub fn exits(&self) -> [u64; EXIT_NAMES.len()] {
        let mut sums = [0; EXIT_NAMES.len()];
        for vcpu in &self.vcpus {
            for (sum, counter) in sums.iter_mut().zip(&vcpu.exits) {
                *sum += counter.load(Ordering::Relaxed);
            }
        }
        sums
    }
}

impl PowerView for Vm {
    fn power(&self, vcpu: VcpuIndex) -> Option<&VcpuPower> {
        self.vcpus.get(vcpu.get()).map(|vcpu| &vcpu.power)
    }

    fn is_ram(&self, entry: Ipa) -> bool {
        self.memory.translate(entry, 4).is_some()
    }
}
