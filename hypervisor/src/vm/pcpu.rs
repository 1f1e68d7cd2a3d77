// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The state of each pCPU with regard to the vCPU that is loaded on it.

use super::instance::VcpuRef;
use crate::sched::run_queues::PcpuRequests;
use core::cell::Cell;
use postern_arch::{percpu, virtual_interface};
use postern_base::ids::{MAX_VMS, PcpuIndex, VcpuIndex};
use postern_base::ticks::Ticks;
use postern_exceptions::registers::features::CpuFeatures;
use postern_vgic::Hcr;

bitflags::bitflags! {
    /// State of a vCPU that is on its pCPU only while the vCPU uses it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct LiveState: u8 {
        /// The debug registers.
        const DEBUG = 1 << 0;
        /// The vector state of a VM with SVE.
        const VECTORS = 1 << 1;
    }
}

/// A pCPU's own state, which every exit needs.
pub struct Pcpu {
    /// The vCPU whose registers the pCPU holds.
    pub current: Cell<Option<VcpuRef>>,
    /// The work that must be done before a guest continues.
    pub requests: Cell<PcpuRequests>,
    /// What the pCPU holds of the current vCPU that a call to the secure world must not see.
    pub live: Cell<LiveState>,
    /// Whether the virtual timer's physical interrupt is active here on behalf of the current vCPU.
    pub timer_is_active: Cell<bool>,
    /// Whether the list registers hold the current vCPU's interrupts.
    pub list_registers_loaded: Cell<bool>,
    /// The number of list registers that the last flush used.
    pub list_registers_used: Cell<usize>,
    /// The number of list registers that the pCPU has.
    pub list_registers: Cell<usize>,
    /// The bits that must not be set in ICH_HCR_EL2 on this pCPU.
    pub unusable_hcr: Cell<Hcr>,
    /// The pCPU's features whose state must be switched with the vCPU.
    pub switched: Cell<CpuFeatures>,
    /// When a piece of work for some VM is due next; [`Ticks::NEVER`] while none is known.
    pub work_at: Cell<Ticks>,
    /// When the physical timer of the current vCPU interrupts it next; [`Ticks::NEVER`] where it
    /// does not.
    pub guest_timer_at: Cell<Ticks>,
    /// When the next signal of a VM's watchdog is due, as far as this pCPU knows:
    /// [`Ticks::NEVER`] where it knows of none. It looks again in each tick.
    pub watchdog_at: Cell<Ticks>,
    /// When the pCPU's next tick is due. In a tick it checks whether other pCPUs are stuck in the
    /// secure world.
    pub tick_at: Cell<Ticks>,
    /// The vCPU of each VM that was on this pCPU last.
    pub last_vcpu: [Cell<Option<VcpuIndex>>; MAX_VMS],
}

postern_arch::percpu_block!(Pcpu, Pcpu::new());

/// Returns this pCPU's state.
#[inline]
pub fn here() -> &'static Pcpu {
    percpu::block()
}

/// Determines what this pCPU, which has these features, can do. Called once, before a vCPU is
/// loaded.
pub fn init(features: CpuFeatures) {
    let here = here();
    let mut unusable = Hcr::empty();
    let interface = virtual_interface::this();
    unusable.set(Hcr::LRENPIE, interface.lrenpie_storms());
    unusable.set(Hcr::TDIR, !interface.traps_deactivation());
    here.unusable_hcr.set(unusable);
    here.list_registers.set(interface.list_registers());
    here.switched.set(features & CpuFeatures::SWITCHED);
}

impl Pcpu {
    const fn new() -> Self {
        Self {
            current: Cell::new(None),
            requests: Cell::new(PcpuRequests::NONE),
            live: Cell::new(LiveState::empty()),
            timer_is_active: Cell::new(false),
            list_registers_loaded: Cell::new(false),
            list_registers_used: Cell::new(0),
            list_registers: Cell::new(0),
            unusable_hcr: Cell::new(Hcr::empty()),
            switched: Cell::new(CpuFeatures::empty()),
            work_at: Cell::new(Ticks::ZERO),
            guest_timer_at: Cell::new(Ticks::NEVER),
            watchdog_at: Cell::new(Ticks::NEVER),
            tick_at: Cell::new(Ticks::ZERO),
            last_vcpu: [const { Cell::new(None) }; MAX_VMS],
        }
    }

    /// Returns the pCPU's index.
    #[inline]
    pub fn id(&self) -> PcpuIndex {
        percpu::id()
    }
}
