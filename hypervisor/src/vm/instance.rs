// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A virtual machine and its vCPUs: what they are made of.

use super::devices::Devices;
use super::guest_image::{Images, Loader};
use super::guest_memory::GuestMemory;
use super::lifecycle::Lifecycle;
use super::mapping::Mapping;
use super::run_permission::RunPermission;
use super::work::VmWork;
use crate::console::output::{self, MachineConsole, UartLink};
use crate::sched::deadlines;
use crate::sched::residency::Residency;
use crate::services::psci::PowerView;
use crate::services::vcpu_power::VcpuPower;
use alloc::boxed::Box;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use mediator::Mediator;
use mediator::addr::Ipa;
use postern_arch::vcpu_context::{Context, Frame, VcpuEl2Regs};
use postern_base::ids::{MAX_VCPUS, PcpuIndex, PcpuSet, VcpuId, VcpuIndex, VmIndex};
use postern_base::lock::{Class, Lock};
use postern_base::ticks::Ticks;
use postern_boot_tree::{Tee, VmConfig};
use postern_console::log::{Level, LogOnce};
use postern_console::mux::Channel;
use postern_devices::debug::DebugUnit;
use postern_devices::physical_timer::PhysicalTimer;
use postern_guest_tree::GuestTee;
use postern_guest_tree::layout;
use postern_vgic::{Vgic, Vmcr};

/// A vCPU and whose it is.
#[derive(Clone, Copy)]
pub struct VcpuRef {
    /// The VM.
    pub vm: &'static Vm,
    /// One of its vCPUs.
    pub vcpu: &'static Vcpu,
}

impl VcpuRef {
    /// Which one of all it is.
    pub fn id(self) -> VcpuId {
        VcpuId {
            vm: self.vm.index,
            vcpu: self.vcpu.index,
        }
    }

    /// Where it may run.
    pub fn affinity(self) -> PcpuSet {
        self.vm.affinity
    }
}

/// Why EL2 was entered from a guest; what is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExitReason {
    /// SMC.
    Smc,
    /// HVC.
    Hvc,
    /// An access to a device.
    Mmio,
    /// A system register.
    Sysreg,
    /// WFI or WFE.
    Wfx,
    /// A physical interrupt.
    Irq,
    /// An access outside the VM's memory.
    Abort,
    /// Anything else.
    Other,
}

/// Names of [`ExitReason`]'s kinds, in their order.
pub const EXIT_NAMES: [&str; 8] = [
    "smc", "hvc", "mmio", "sysreg", "wfx", "irq", "abort", "other",
];

/// What a guest does that is logged once and counted always.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GuestAnomaly {
    /// An access outside its memory.
    Abort,
    /// A system register that it does not have.
    Register,
    /// A call that nobody answers.
    Call,
    /// An instruction that traps for no good reason.
    Instruction,
    /// An SError.
    SystemError,
}

/// Names of [`GuestAnomaly`]'s kinds, in their order.
pub const ANOMALY_NAMES: [&str; 5] = ["abort", "register", "call", "instruction", "serror"];

/// What a vCPU is while it is on no pCPU.
pub struct SavedContext {
    /// General registers.
    pub frame: Frame,
    /// The others.
    pub context: Context,
    /// Its physical timer, which is in no register: it is here while the vCPU runs, too.
    pub physical_timer: PhysicalTimer,
    /// Its debug registers, likewise.
    pub debug: DebugUnit,
}

/// A virtual CPU.
pub struct Vcpu {
    /// Which one of its VM's.
    pub index: VcpuIndex,
    /// On or off, as PSCI sees it.
    pub power: VcpuPower,
    /// Its registers, while it is on no pCPU.
    pub saved: Lock<SavedContext>,
    /// The pCPU that it is on.
    pub residency: Residency,
    /// Written by the pCPU that it is on only.
    exits: [AtomicU64; EXIT_NAMES.len()],
}

impl Vcpu {
    fn new(index: VcpuIndex) -> Self {
        Self {
            index,
            power: VcpuPower::off(),
            saved: Lock::new(
                Class::Saved,
                SavedContext {
                    frame: Frame::start(0, 0),
                    context: Context::new(),
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

    /// Where it runs.
    pub fn pcpu(&self) -> Option<PcpuIndex> {
        self.residency.pcpu()
    }

    /// What it sees of the machine.
    pub fn el2_registers(&self, vm: &Vm) -> VcpuEl2Regs {
        VcpuEl2Regs {
            mpidr: 1 << 31 | self.index.get() as u64,
            vttbr: vm.vttbr.load(Ordering::Relaxed),
            counter_offset: vm.counter_offset.load(Ordering::Relaxed),
        }
    }

    /// When the first of its timers fires, while it is on no pCPU.
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

    /// Whether it has an interrupt to take, while it is on no pCPU.
    pub fn has_deliverable(&self, vm: &Vm) -> bool {
        let vmcr = Vmcr::from_bits(self.saved.lock().context.interface.vmcr);
        vm.vgic.has_deliverable_through(self.index, vmcr)
    }
}

/// A virtual machine.
pub struct Vm {
    /// Its place in the tree.
    pub index: VmIndex,
    /// Its name.
    pub name: &'static str,
    /// Its RAM and pins.
    pub memory: GuestMemory,
    /// How its RAM is mapped.
    pub mapping: Mapping,
    /// Its interrupt controller.
    pub vgic: Vgic,
    /// Its vCPUs.
    pub vcpus: Box<[Vcpu]>,
    /// Its console.
    pub console: MachineConsole,
    /// Its other devices.
    pub devices: Devices,
    /// It starts with the machine.
    pub autostart: bool,
    /// It may give the monitor orders.
    pub privileged: bool,
    affinity: PcpuSet,
    mediator: Option<Mediator>,
    needs_tee: bool,
    /// Whether OP-TEE knows it now.
    pub has_tee: AtomicBool,
    /// What it boots from.
    pub images: Images,
    /// VTTBR_EL2 of its vCPUs. Set before its first vCPU starts.
    pub vttbr: AtomicU64,
    /// What its counter lags behind the physical one, in ticks.
    pub counter_offset: AtomicU64,
    /// Which phase it is in.
    pub lifecycle: Lock<Lifecycle>,
    /// Whether its vCPUs may be on pCPUs. Follows [`Vm::lifecycle`], changed under its lock, and read without it.
    pub run_permission: RunPermission,
    /// How many of its vCPUs are on.
    pub vcpus_on: AtomicUsize,
    anomalies: [LogOnce; ANOMALY_NAMES.len()],
    /// What it waits for.
    pub work: Lock<VmWork<Loader>>,
    /// What is to become of [`Vm::work`]; zero: nothing new.
    pub requested: AtomicU8,
    /// Whether [`Vm::work`] is something.
    pub busy: AtomicBool,
    /// Bytes of RAM at its next start.
    pub next_bytes: AtomicU64,
    /// How often it was started, resets included.
    pub starts: AtomicU64,
    /// When its first vCPU started, in ticks.
    pub started_at: AtomicU64,
    /// When the last of its vCPUs was seen to run before it was paused, in ticks.
    pub paused_at: AtomicU64,
    /// Whether it was said that it is paused.
    pub pause_reported: AtomicBool,
}

/// What [`Vm::new`] is made of.
pub struct VmParts {
    /// What the tree says.
    pub config: VmConfig<'static>,
    /// Its place in the tree.
    pub index: VmIndex,
    /// Its RAM.
    pub memory: GuestMemory,
    /// How its RAM is mapped.
    pub mapping: Mapping,
    /// The TEE, where it has it.
    pub mediator: Option<Mediator>,
}

impl Vm {
    /// A VM that is off.
    pub fn new(parts: VmParts) -> Self {
        let config = parts.config;
        let count = config.vcpus.min(MAX_VCPUS);
        let vcpus = (0..count).filter_map(VcpuIndex::new).map(Vcpu::new);
        Self {
            index: parts.index,
            name: config.name,
            memory: parts.memory,
            mapping: parts.mapping,
            vgic: Vgic::new(count),
            vcpus: vcpus.collect(),
            console: MachineConsole::new(Channel::of_vm(parts.index), UartLink),
            devices: Devices::new(config.privileged),
            autostart: config.autostart,
            privileged: config.privileged,
            affinity: config.affinity,
            images: Images {
                kernel: config.kernel,
                ramdisk: config.ramdisk,
                bootargs: config.bootargs,
                vcpus: count,
                privileged: config.privileged,
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
            work: Lock::new(Class::Work, VmWork::Nothing),
            requested: AtomicU8::new(0),
            busy: AtomicBool::new(false),
            next_bytes: AtomicU64::new(config.memory),
            starts: AtomicU64::new(0),
            started_at: AtomicU64::new(0),
            paused_at: AtomicU64::new(0),
            pause_reported: AtomicBool::new(false),
        }
    }

    /// Its counter when the physical one, CNTPCT_EL0, is at `time`.
    #[inline]
    pub fn count_at(&self, time: Ticks) -> Ticks {
        // A look at the counter may be a few ticks older than one that another pCPU had before it.
        time.since(Ticks::new(self.counter_offset.load(Ordering::Relaxed)))
    }

    /// Where the physical counter is when its own is at `count`; the end of time where it never is.
    pub fn time_of(&self, count: Ticks) -> Ticks {
        count.saturating_add(Ticks::new(self.counter_offset.load(Ordering::Relaxed)))
    }

    /// The pCPUs that it may use.
    pub fn affinity(&self) -> PcpuSet {
        self.affinity
    }

    /// The way to its TEE, if it has one.
    #[inline]
    pub fn mediator(&self) -> Option<&Mediator> {
        self.mediator.as_ref()
    }

    /// Whether it must not start without a TEE.
    pub fn needs_tee(&self) -> bool {
        self.needs_tee
    }

    /// Whether OP-TEE knows the VM now.
    pub fn has_tee(&self) -> bool {
        self.has_tee.load(Ordering::Acquire)
    }

    /// What its device tree says of the TEE.
    pub fn guest_tee(&self) -> Option<GuestTee> {
        let mediator = self.mediator.as_ref().filter(|_| self.has_tee())?;
        let notification = mediator.offers_notifications().then_some(layout::TEE_SPI);
        Some(GuestTee { notification })
    }

    /// Logs a line that it is the cause of, with its name.
    pub fn log(&self, level: Level, text: fmt::Arguments<'_>) {
        output::log_of(
            Some(self.index),
            level,
            format_args!("vm {}: {text}", self.name),
        );
    }

    /// Counts something that the guest should not do; `true` the first time.
    pub fn log_once(&self, anomaly: GuestAnomaly) -> bool {
        self.anomalies[anomaly as usize].record()
    }

    /// How often the guest did what it should not, in the order of [`ANOMALY_NAMES`].
    pub fn anomalies(&self) -> [u64; ANOMALY_NAMES.len()] {
        core::array::from_fn(|index| self.anomalies[index].count())
    }

    /// Exits of all vCPUs, in the order of [`EXIT_NAMES`].
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
