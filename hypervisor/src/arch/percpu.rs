// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What each pCPU has of its own, reached through TPIDR_EL2 without a lock.

use crate::sched::masked::{self, Longest, Section};
use crate::sched::turn::Wanted;
use crate::sched::watch::Passages;
use crate::services::stuck;
use crate::vm::Running;
use aarch64_cpu::registers::TPIDR_EL2;
use alloc::boxed::Box;
use core::cell::Cell;
use core::marker::PhantomData;
use mediator::addr::Pa;
use postern_base::ids::{MAX_VMS, PcpuIndex, VcpuIndex};
use postern_exceptions::registers::features::CpuFeatures;
use postern_vgic::Hcr;
use tock_registers::interfaces::{Readable, Writeable};

/// A pCPU's own state. Not `Sync`: only its pCPU ever sees it.
pub struct Pcpu {
    /// Its index, 0 for the boot pCPU.
    pub index: usize,
    id: PcpuIndex,
    /// Its redistributor's first frame.
    pub redistributor: Pa,
    /// The vCPU whose registers it holds.
    pub current: Cell<Option<Running>>,
    /// What must be done before a guest goes on.
    pub wanted: Cell<Wanted>,
    /// When a piece of work for some VM is due next, in ticks; `u64::MAX` while none is known.
    pub work_at: Cell<u64>,
    /// The virtual timer's physical interrupt is active here on behalf of the current vCPU.
    pub timer_is_active: Cell<bool>,
    /// The vCPU of each VM that was here last.
    pub last_vcpu: [Cell<Option<VcpuIndex>>; MAX_VMS],
    /// Whether the list registers hold the current vCPU's interrupts.
    pub list_registers_loaded: Cell<bool>,
    /// The number of list registers that hold something.
    pub list_registers_used: Cell<usize>,
    /// What must not be set in ICH_HCR_EL2 here.
    pub unusable_hcr: Hcr,
    /// Number of list registers that this pCPU has.
    pub list_registers: usize,
    /// Its features with state that a switch of vCPUs must not forget.
    pub switched: CpuFeatures,
    /// Its passages to the secure world.
    pub passages: &'static Passages,
    /// What it is busy with while interrupts wait.
    pub section: Section,
    /// The longest time of that.
    pub longest: &'static Longest,
    /// The debug registers are the current vCPU's, which uses them.
    pub debug_is_loaded: Cell<bool>,
    /// When the physical timer of the current vCPU interrupts it next, in ticks; `u64::MAX`: never.
    pub guest_timer_at: Cell<u64>,
    /// When it looks next whether others are stuck in the secure world, in ticks.
    pub watch_at: Cell<u64>,
    not_sync: PhantomData<*const ()>,
}

impl Pcpu {
    /// Its index as a number of its own kind.
    #[inline]
    pub fn id(&self) -> PcpuIndex {
        self.id
    }
}

/// Makes this pCPU's state, for ever.
pub fn init(index: usize, redistributor: Pa, features: CpuFeatures) {
    let id = PcpuIndex::new(index).expect("there are no more pCPUs than MAX_CPUS");
    let mut unusable_hcr = Hcr::empty();
    unusable_hcr.set(Hcr::LRENPIE, super::ich::lrenpie_storms());
    unusable_hcr.set(Hcr::TDIR, !super::ich::traps_deactivation());
    let pcpu: &'static Pcpu = Box::leak(Box::new(Pcpu {
        index,
        id,
        redistributor,
        current: Cell::new(None),
        wanted: Cell::new(Wanted::NOTHING),
        work_at: Cell::new(u64::MAX),
        timer_is_active: Cell::new(false),
        last_vcpu: [const { Cell::new(None) }; MAX_VMS],
        list_registers_loaded: Cell::new(false),
        list_registers_used: Cell::new(0),
        unusable_hcr,
        list_registers: super::ich::list_registers(),
        switched: features & CpuFeatures::SWITCHED,
        passages: stuck::passages(id),
        section: Section::closed(),
        longest: masked::longest(id),
        debug_is_loaded: Cell::new(false),
        guest_timer_at: Cell::new(u64::MAX),
        watch_at: Cell::new(0),
        not_sync: PhantomData,
    }));
    TPIDR_EL2.set(core::ptr::from_ref(pcpu) as u64);
}

/// This pCPU's state.
#[inline]
pub fn this() -> &'static Pcpu {
    // SAFETY: `init` ran on this pCPU before anything above the boot path, and put the address of
    // a leaked `Pcpu` here; EL2 is never preempted or migrated.
    unsafe { &*(TPIDR_EL2.get() as *const Pcpu) }
}

/// Whether [`init`] has run on this pCPU. A panic before that has no pCPU to name.
pub fn is_ready() -> bool {
    TPIDR_EL2.get() != 0
}
