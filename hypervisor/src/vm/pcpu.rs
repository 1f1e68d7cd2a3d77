// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What each pCPU has of its own about the vCPU whose registers it holds.

use super::instance::VcpuRef;
use crate::sched::run_queues::PcpuRequests;
use core::cell::Cell;
use postern_arch::ich;
use postern_arch::percpu;
use postern_base::ids::{MAX_VMS, PcpuIndex, VcpuIndex};
use postern_base::ticks::Ticks;
use postern_exceptions::registers::features::CpuFeatures;
use postern_vgic::Hcr;

/// A pCPU's own state, which every exit needs.
pub struct Pcpu {
    /// The vCPU whose registers it holds.
    pub current: Cell<Option<VcpuRef>>,
    /// What must be done before a guest goes on.
    pub requests: Cell<PcpuRequests>,
    /// The debug registers are the current vCPU's, which uses them.
    pub debug_is_loaded: Cell<bool>,
    /// The virtual timer's physical interrupt is active here on behalf of the current vCPU.
    pub timer_is_active: Cell<bool>,
    /// Whether the list registers hold the current vCPU's interrupts.
    pub list_registers_loaded: Cell<bool>,
    /// The number of list registers that hold something.
    pub list_registers_used: Cell<usize>,
    /// The number of list registers that it has.
    pub list_registers: Cell<usize>,
    /// What must not be set in ICH_HCR_EL2 here.
    pub unusable_hcr: Cell<Hcr>,
    /// Its features with state that a switch of vCPUs must not forget.
    pub switched: Cell<CpuFeatures>,
    /// When a piece of work for some VM is due next, [`Ticks::NEVER`] while none is known.
    pub work_at: Cell<Ticks>,
    /// When the physical timer of the current vCPU interrupts it next, [`Ticks::NEVER`]: it does not.
    pub guest_timer_at: Cell<Ticks>,
    /// When its tick is due: it looks then whether others are stuck in the secure world.
    pub tick_at: Cell<Ticks>,
    /// The vCPU of each VM that was here last.
    pub last_vcpu: [Cell<Option<VcpuIndex>>; MAX_VMS],
}

postern_arch::percpu_block!(Pcpu, Pcpu::new());

/// Returns this pCPU's state.
#[inline]
pub fn here() -> &'static Pcpu {
    percpu::block()
}

/// Finds out what this pCPU, which has these features, can do. Once, before a vCPU comes.
pub fn init(features: CpuFeatures) {
    let here = here();
    let mut unusable = Hcr::empty();
    unusable.set(Hcr::LRENPIE, ich::lrenpie_storms());
    unusable.set(Hcr::TDIR, !ich::traps_deactivation());
    here.unusable_hcr.set(unusable);
    here.list_registers.set(ich::list_registers());
    here.switched.set(features & CpuFeatures::SWITCHED);
}

impl Pcpu {
    const fn new() -> Self {
        Self {
            current: Cell::new(None),
            requests: Cell::new(PcpuRequests::NONE),
            debug_is_loaded: Cell::new(false),
            timer_is_active: Cell::new(false),
            list_registers_loaded: Cell::new(false),
            list_registers_used: Cell::new(0),
            list_registers: Cell::new(0),
            unusable_hcr: Cell::new(Hcr::empty()),
            switched: Cell::new(CpuFeatures::empty()),
            work_at: Cell::new(Ticks::ZERO),
            guest_timer_at: Cell::new(Ticks::NEVER),
            tick_at: Cell::new(Ticks::ZERO),
            last_vcpu: [const { Cell::new(None) }; MAX_VMS],
        }
    }

    /// Returns which pCPU it is.
    #[inline]
    pub fn id(&self) -> PcpuIndex {
        percpu::id()
    }
}
