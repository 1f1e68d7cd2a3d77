// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The machine as the monitor sees it, and the monitor's session on the hypervisor's channel.

use crate::console::output;
use crate::irq::sections;
use crate::lifecycle::transitions;
use crate::platform::machine;
use crate::sched::masked::{self, Cause};
use crate::sched::run_queues::PcpuRequests;
use crate::services::vcpu_power::PowerState;
use crate::tee::{host::SHARED_PAGES, secure_entries};
use crate::vm::frames::SharedPool;
use crate::vm::instance::{ANOMALY_NAMES, EXIT_NAMES, Vm};
use crate::vm::{idle, links, ram_pool, registry, scheduler};
use core::sync::atomic::Ordering;
use mediator::Mediator;
use postern_arch::{heap, timer};
use postern_base::ids::{PcpuIndex, VmIndex};
use postern_base::ticks::Ticks;
use postern_console::monitor::system::{
    Counts, CpuFigures, MemoryFigures, SharedPages, System, TeeFigures, VcpuState, VmControlError,
    VmDetails, VmSummary,
};
use postern_console::monitor::{MonitorPort, ReplySink, WriteReply};
use postern_monitor::LifecycleRequest;

/// The session on the hypervisor's channel.
static CONSOLE: MonitorPort = MonitorPort::new();

/// The most lines that are executed before the pCPU does something else.
const COMMANDS_AT_ONCE: usize = 16;

/// Receives a byte on the hypervisor's channel. The caller may hold any lock: the byte is processed
/// later.
pub fn receive(byte: u8) {
    // A byte for a full queue is dropped: its user has typed more than a thousand bytes ahead.
    let _ = CONSOLE.receive(byte);
    scheduler::request(PcpuRequests::MONITOR);
}

/// Resumes the monitor, because there is room for answers again.
pub fn resume() {
    scheduler::request(PcpuRequests::MONITOR);
}

/// Processes the monitor's input. The caller holds no lock, and a guest on this pCPU is between two
/// instructions.
pub fn work() {
    let more = (0..COMMANDS_AT_ONCE).all(|_| CONSOLE.work(&El2System, &HypervisorChannel));
    if more {
        scheduler::request(PcpuRequests::MONITOR);
    }
}

/// The reply sink of the hypervisor's channel.
struct HypervisorChannel;

impl ReplySink for HypervisorChannel {
    fn has_room(&self) -> bool {
        output::has_room_for_answer()
    }

    fn send(&self, _: bool, between: &dyn Fn(), write: WriteReply<'_>) {
        output::monitor(between, write);
    }
}

/// The machine that Postern runs on.
pub struct El2System;

fn find(vm: VmIndex) -> Option<&'static Vm> {
    registry::all().get(vm.get())
}

fn milliseconds(time: Ticks) -> u64 {
    time.milliseconds(timer::frequency())
}

fn nanoseconds(time: Ticks) -> u64 {
    time.nanoseconds(timer::frequency())
}

/// The names of what [`links::counts`] returns, for each kind of link.
const LINK_NAMES: [&str; 3] = ["sent", "received", "dropped"];

fn exits(vm: &Vm) -> Counts<'static> {
    Counts::new(&EXIT_NAMES, &vm.exits())
}

fn refused(vm: &Vm) -> Counts<'static> {
    Counts::new(&ANOMALY_NAMES, &vm.anomalies())
}

impl System for El2System {
    fn breathe(&self) {
        sections::breathe(Cause::Monitor);
    }

    fn name(&self, vm: VmIndex) -> Option<&str> {
        find(vm).map(|vm| vm.name)
    }

    fn summary(&self, vm: VmIndex) -> Option<VmSummary<'_>> {
        find(vm).map(|vm| VmSummary {
            name: vm.name,
            phase: vm.phase().name(),
            vcpus: vm.vcpus.len(),
            memory_kib: vm.memory_bytes() / 1024,
            tee: vm.has_tee(),
            privileged: vm.privileged,
            starts: vm.starts(),
            up_ms: milliseconds(vm.uptime()),
        })
    }

    fn details(&self, index: VmIndex) -> Option<VmDetails<'_>> {
        let vm = find(index)?;
        let [frames, bytes] = links::counts(vm);
        let vcpus = vm.vcpus.iter().map(|vcpu| VcpuState {
            on: vcpu.power.state() != PowerState::Off,
            pcpu: vcpu.pcpu().map(PcpuIndex::get),
        });
        Some(VmDetails {
            channel: vm.console.channel().get(),
            vcpus: vcpus.collect(),
            affinity: vm.affinity(),
            pages_held: vm.memory.pinned_pages() as u64,
            next_memory_kib: vm.next_memory_bytes() / 1024,
            watchdog_resets: vm.watchdog_resets.load(Ordering::Relaxed),
            exits: exits(vm),
            refused: refused(vm),
            frames: Counts::new(&LINK_NAMES, &frames),
            bytes: Counts::new(&LINK_NAMES, &bytes),
        })
    }

    fn tee(&self, vm: VmIndex) -> Option<TeeFigures<'_>> {
        find(vm).map(|vm| TeeFigures {
            vm: vm.name,
            stats: vm.mediator().map(Mediator::stats).unwrap_or_default(),
            pages_held: vm.memory.pinned_pages() as u64,
            exits: exits(vm),
            refused: refused(vm),
        })
    }

    fn order(&self, vm: VmIndex, order: LifecycleRequest) -> Result<(), VmControlError> {
        Ok(transitions::request(
            find(vm).ok_or(VmControlError::NoVm)?,
            order,
        )?)
    }

    fn set_memory(&self, vm: VmIndex, bytes: u64) -> Result<(), VmControlError> {
        Ok(find(vm).ok_or(VmControlError::NoVm)?.set_memory(bytes)?)
    }

    fn shared_pages(&self) -> SharedPages {
        SHARED_PAGES
            .get()
            .map_or(SharedPages::default(), |pool: &SharedPool| SharedPages {
                used: pool.in_use() as u64,
                total: pool.len() as u64,
            })
    }

    fn cpu(&self, cpu: PcpuIndex) -> Option<CpuFigures<'_>> {
        if cpu.get() >= machine().cpus.list().len() {
            return None;
        }
        let clock = idle::clock_of(cpu);
        let now = timer::now();
        let (masked, masked_by) = masked::longest(cpu).get();
        let mut vcpus = registry::all()
            .iter()
            .flat_map(|vm| vm.vcpus.iter().map(move |vcpu| (vm, vcpu)));
        let on_it = vcpus.find(|(_, vcpu)| vcpu.pcpu() == Some(cpu));
        Some(CpuFigures {
            runs: on_it.map(|(vm, vcpu)| (vm.name, vcpu.index.get())),
            secure: secure_entries::is_inside(cpu),
            idle_percent: clock.percent(now),
            idle_ms: milliseconds(clock.total(now)),
            masked_ns: nanoseconds(masked),
            masked_by: masked_by.name(),
        })
    }

    fn memory(&self) -> MemoryFigures {
        let total_kib = machine().ram.bytes_in_units(1024) / 1024;
        let guests_kib = registry::all()
            .iter()
            .map(|vm| vm.memory.bytes() / 1024)
            .sum();
        let free_kib = ram_pool::free_bytes() / 1024;
        let (used, total) = heap::usage();
        MemoryFigures {
            total_kib,
            hypervisor_kib: total_kib.saturating_sub(guests_kib + free_kib),
            guests_kib,
            free_kib,
            heap_used_bytes: used as u64,
            heap_total_bytes: total as u64,
        }
    }

    fn log(&self, lines: usize, each: &mut dyn FnMut(&str)) {
        output::recent(lines, each);
    }
}
