// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The monitor with a fake machine.

mod answers;
mod lines;
mod ports;
mod terminal;

use super::system::{
    Counts, CpuFigures, MemoryFigures, SharedPages, System, TeeFigures, VcpuState, VmControlError,
    VmDetails, VmSummary,
};
use mediator::{RpcKind, Stats};
use postern_base::ids::{PcpuIndex, PcpuSet, VmIndex};
use postern_monitor::lifecycle::{LifecycleError, LifecycleRequest, Phase, SetMemoryError};
use std::sync::Mutex;

/// A machine with three VMs, which records requests.
struct Fake<'f> {
    names: [&'static str; 3],
    orders: Mutex<Vec<String>>,
    log: Vec<&'static str>,
    /// Called while a request is carried out.
    on_order: Option<&'f dyn Fn()>,
    /// Called between two pieces of an answer.
    on_breath: Option<&'f dyn Fn()>,
}

const EXITS: [&str; 3] = ["smc", "mmio", "irq"];
const REFUSED: [&str; 2] = ["abort", "call"];

impl Fake<'_> {
    fn new() -> Self {
        Self {
            names: ["a", "builder", "blue-2"],
            orders: Mutex::new(Vec::new()),
            log: vec!["[    0.000001] info: first", "say \"hi\\\" ä", "", "last"],
            on_order: None,
            on_breath: None,
        }
    }

    fn stats() -> Stats {
        let mut rpc = [0; RpcKind::ALL.len()];
        rpc[RpcKind::Fs as usize] = 12;
        rpc[RpcKind::ShmAlloc as usize] = 3;
        Stats {
            fast: 1,
            yielding: 2,
            rpc,
            foreign_intr: 4,
            denied: 5,
            withheld: 6,
            poisoned: 7,
            leaked: 8,
            kept: 9,
            smcs: 10,
            pages_pinned: 11,
            pages_pinned_max: 12,
            buffers: 13,
            buffers_max: 14,
            rpc_buffers: 15,
            sessions: 16,
            calls: 17,
            mapped_pages: 18,
        }
    }
}

impl System for Fake<'_> {
    fn breathe(&self) {
        if let Some(happens) = self.on_breath {
            happens();
        }
    }

    fn name(&self, vm: VmIndex) -> Option<&str> {
        self.names.get(vm.get()).copied()
    }

    fn summary(&self, vm: VmIndex) -> Option<VmSummary<'_>> {
        let name = self.name(vm)?;
        Some(match vm.get() {
            0 => VmSummary {
                name,
                phase: "running",
                vcpus: 2,
                memory_kib: 512 * 1024,
                tee: true,
                privileged: true,
                starts: 1,
                up_ms: 93_784_999,
            },
            _ => VmSummary {
                name,
                phase: "off",
                vcpus: 1,
                memory_kib: 10 * 1024,
                tee: false,
                privileged: false,
                starts: 0,
                up_ms: 0,
            },
        })
    }

    fn details(&self, _: VmIndex) -> Option<VmDetails<'_>> {
        let vcpus = [
            VcpuState {
                on: true,
                pcpu: Some(3),
            },
            VcpuState {
                on: true,
                pcpu: None,
            },
            VcpuState {
                on: false,
                pcpu: None,
            },
        ];
        Some(VmDetails {
            channel: 1,
            vcpus: vcpus.into_iter().collect(),
            affinity: [0, 3]
                .into_iter()
                .filter_map(PcpuIndex::new)
                .fold(PcpuSet::EMPTY, PcpuSet::with),
            pages_held: 7,
            next_memory_kib: 1024,
            watchdog_resets: 2,
            exits: Counts::new(&EXITS, &[5, 0, 6]),
            refused: Counts::new(&REFUSED, &[]),
            frames: Counts::new(&["sent", "received", "dropped"], &[4, 3, 0]),
            bytes: Counts::new(&["sent", "received", "dropped"], &[70, 0, 5]),
        })
    }

    fn tee(&self, vm: VmIndex) -> Option<TeeFigures<'_>> {
        Some(TeeFigures {
            vm: self.name(vm)?,
            stats: if vm.get() == 0 {
                Self::stats()
            } else {
                Stats::default()
            },
            pages_held: 7,
            exits: Counts::new(&EXITS, &[5, 0, 6]),
            refused: Counts::new(&REFUSED, &[0, 1]),
        })
    }

    fn order(&self, vm: VmIndex, order: LifecycleRequest) -> Result<(), VmControlError> {
        if vm.get() == 2 {
            return Err(LifecycleError::Off.into());
        }
        let order = format!("{} {}", order.name(), vm.get());
        self.orders.lock().unwrap().push(order);
        if let Some(happens) = self.on_order {
            happens();
        }
        Ok(())
    }

    fn set_memory(&self, vm: VmIndex, bytes: u64) -> Result<(), VmControlError> {
        if vm.get() == 2 {
            return Err(VmControlError::Memory(SetMemoryError::NotOff(
                Phase::Running,
            )));
        }
        let order = format!("memory {} {bytes}", vm.get());
        self.orders.lock().unwrap().push(order);
        Ok(())
    }

    fn shared_pages(&self) -> SharedPages {
        SharedPages {
            used: 3,
            total: 512,
        }
    }

    fn cpu(&self, pcpu: PcpuIndex) -> Option<CpuFigures<'_>> {
        match pcpu.get() {
            0 => Some(CpuFigures {
                runs: Some(("a", 1)),
                secure: true,
                idle_percent: 3,
                idle_ms: 61_500,
                masked_ns: 123_456,
                masked_by: "unpin",
            }),
            1 => Some(CpuFigures {
                runs: None,
                secure: false,
                idle_percent: 100,
                idle_ms: 12_345_678,
                masked_ns: 0,
                masked_by: "other",
            }),
            _ => None,
        }
    }

    fn memory(&self) -> MemoryFigures {
        MemoryFigures {
            total_kib: 3 * 1024 * 1024,
            hypervisor_kib: 1_048_577,
            guests_kib: 1024 * 1024,
            free_kib: 1_048_575,
            heap_used_bytes: 123,
            heap_total_bytes: 456,
        }
    }

    fn log(&self, lines: usize, each: &mut dyn FnMut(&str)) {
        let skip = self.log.len().saturating_sub(lines);
        self.log[skip..].iter().for_each(|line| each(line));
    }
}
