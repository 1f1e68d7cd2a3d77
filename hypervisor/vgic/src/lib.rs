// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The virtual GICv3 of one VM: distributor, redistributors, and the list registers of its vCPUs.
//!
//! One security state (GICD_CTLR.DS is 1), affinity routing always on, 288 INTIDs, up to
//! [`MAX_VCPUS`] vCPUs whose affinity is their index in Aff0; no LPIs, no ITS, no messages
//! (IHI 0069).
//!
//! # How a caller drives it
//!
//! - Before each entry to the guest: [`Vgic::needs_flush`], one load. Where it is set, and after
//!   each maintenance interrupt, [`Vgic::resync`] with the list registers in use as they are in
//!   the hardware; then write them back, and ICH_HCR_EL2. Otherwise the list registers stay as
//!   they are, across any number of exits.
//! - A vCPU leaves its pCPU: [`Vgic::sync`]. It comes back, here or elsewhere: [`Vgic::flush`].
//!   In between its list registers are nowhere but in here.
//! - A trapped access: [`Vgic::sync`] for the vCPU that makes it, then [`Vgic::access`] (or
//!   [`Vgic::deactivate`]), then [`Vgic::flush`]. An access that [`Vgic::needs_sync`] says no to needs
//!   the access only.
//! - Before the guest waits for an interrupt: [`Vgic::sync`], then [`Vgic::has_deliverable`].
//! - Every method that gives a [`VcpuSet`] has flagged these vCPUs; the caller interrupts or wakes
//!   them.
//!
//! # The virtual timer
//!
//! INTID 27 is linked to the physical interrupt 27 of the pCPU where the vCPU runs. The hypervisor
//! takes the physical interrupt, drops its priority, leaves it active and calls
//! [`Vgic::timer_fired`]; the guest's end of the virtual interrupt deactivates the physical one,
//! which fires again if the timer still asserts it. A vCPU that leaves with `hw_active` takes the
//! active state with it: the caller clears it on the old pCPU and sets it on the new one.
//!
//! # Writes to what another vCPU has in list registers
//!
//! They are noted, complete at once, and take effect when that vCPU, which is kicked, is
//! synchronised; reads see them in the meantime. What a guest may poll for, the end of a disabled
//! interrupt (RWP), is only said to be over then. Reads of what only the other's list registers
//! know are [`MmioOutcome::Retry`].
//!
//! # Locking
//!
//! One spin lock for each VM, taken and released within each method but [`Vgic::needs_flush`]:
//! nothing is called with it held, it is not shared between VMs, and no other lock is taken
//! inside. Callers run with physical interrupts masked.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod bank;
mod bits;
mod gic_registers;
mod interface;
mod intid;
mod list_registers;
mod lr;
mod sgi;
mod state;
#[cfg(test)]
mod tests;

pub use gic_registers::{DISTRIBUTOR_SIZE, MmioOutcome, REDISTRIBUTOR_SIZE, Window};
pub use interface::{CpuInterface, InterfaceRegister};
pub use intid::{INTIDS, IntId, IrqLine, VcpuSet};
pub use list_registers::FlushResult;
pub use lr::{Hcr, ListRegisters, Lr, MAX_LRS, PRIORITY_MASK, Vmcr};
pub use sgi::SgiRegister;

use core::sync::atomic::{AtomicBool, Ordering};
use postern_base::ids::{MAX_VCPUS, VcpuIndex};
use postern_base::lock::{Class, Lock};
use postern_base::mmio::Access;
use state::VgicState;

/// What the hardware says of a vCPU's virtual interface besides its list registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceState {
    /// ICH_HCR_EL2.EOIcount, see [`Hcr::eoi_count`].
    pub eoi_count: u8,
    /// ICH_VMCR_EL2.
    pub vmcr: Vmcr,
}

/// What is known after [`Vgic::sync`].
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncResult {
    /// Other vCPUs that interrupts went to.
    pub kick: VcpuSet,
    /// The physical timer interrupt is active on behalf of this vCPU: a caller that takes it off
    /// the pCPU deactivates it there.
    pub hw_active: bool,
}

/// The interrupt controller of one VM.
pub struct Vgic {
    /// One flag a vCPU: its list registers are out of date. Written with the lock held.
    stale: [AtomicBool; MAX_VCPUS],
    state: Lock<VgicState>,
}

impl Vgic {
    /// A controller for `vcpus` vCPUs, which are all off; from 1 to [`MAX_VCPUS`], values outside
    /// are moved to the nearest of these.
    pub const fn new(vcpus: usize) -> Self {
        let vcpus = match vcpus {
            0 => 1,
            1..=MAX_VCPUS => vcpus,
            _ => MAX_VCPUS,
        };
        Self {
            stale: [const { AtomicBool::new(false) }; MAX_VCPUS],
            state: Lock::new(Class::Vgic, VgicState::new(vcpus)),
        }
    }

    /// Whether the list registers of `vcpu` must be brought up to date before it goes on.
    #[inline]
    pub fn needs_flush(&self, vcpu: VcpuIndex) -> bool {
        self.stale[vcpu.get()].load(Ordering::Acquire)
    }

    /// Reads back the list registers of `vcpu`, as many as its last fill used. Does no harm where
    /// they were read back already.
    pub fn sync<L: ListRegisters + ?Sized>(
        &self,
        vcpu: VcpuIndex,
        lrs: &L,
        interface: InterfaceState,
    ) -> SyncResult {
        let (hw_active, kick) = self.with(|state| {
            state.sync(vcpu, lrs, interface.eoi_count, interface.vmcr);
            state.cpus[vcpu.get()].timer_active
        });
        SyncResult { kick, hw_active }
    }

    /// Fills list registers for `vcpu`, which was synchronised or never flushed.
    pub fn flush<L: ListRegisters + ?Sized>(
        &self,
        vcpu: VcpuIndex,
        vmcr: Vmcr,
        lrs: &mut L,
    ) -> FlushResult {
        let mut state = self.state.lock();
        self.stale[vcpu.get()].store(false, Ordering::Relaxed);
        state.flush(vcpu, vmcr, lrs)
    }

    /// [`Vgic::sync`] and [`Vgic::flush`] in one.
    pub fn resync<L: ListRegisters + ?Sized>(
        &self,
        vcpu: VcpuIndex,
        interface: InterfaceState,
        lrs: &mut L,
    ) -> (SyncResult, FlushResult) {
        let mut state = self.state.lock();
        state.sync(vcpu, lrs, interface.eoi_count, interface.vmcr);
        let hw_active = state.cpus[vcpu.get()].timer_active;
        self.stale[vcpu.get()].store(false, Ordering::Relaxed);
        let flushed = state.flush(vcpu, interface.vmcr, lrs);
        let kick = self.flag(&mut state);
        (SyncResult { kick, hw_active }, flushed)
    }

    /// Whether the list registers have to be read back for an access: not for a read of what is in the books
    /// whatever they hold, which is all but pending and active states.
    pub const fn needs_sync(access: &Access) -> bool {
        // The same offsets in the distributor and in a redistributor's frame for SGIs.
        access.write.is_some() || matches!(access.offset & 0xffff, 0x0200..0x0400)
    }

    /// An access by `vcpu`, which is synchronised where [`Vgic::needs_sync`], to a register; the offset is
    /// in `window`.
    pub fn access(&self, vcpu: VcpuIndex, window: Window, access: &Access) -> MmioOutcome {
        match self.with(|state| state.access(vcpu, window, access)) {
            (Ok(value), kick) => MmioOutcome::Done { value, kick },
            (Err(sync), _) => MmioOutcome::Retry { sync },
        }
    }

    /// The guest's write of `value` to a register that generates SGIs.
    pub fn send_sgi(&self, from: VcpuIndex, register: SgiRegister, value: u64) -> VcpuSet {
        let sgi = sgi::SgiRequest::decode(register, value);
        self.with(|state| state.send_sgi(from, sgi)).1
    }

    /// The guest's write of `value` to ICC_DIR_EL1, which [`Hcr::TDIR`] trapped; `vcpu` is
    /// synchronised. Ignored where the guest's ICC_CTLR_EL1.EOImode is 0.
    pub fn deactivate(&self, vcpu: VcpuIndex, vmcr: Vmcr, value: u64) -> VcpuSet {
        let intid = IntId::new(value as u32 & 0xff_ffff);
        match intid.filter(|_| vmcr.splits_eoi()) {
            Some(intid) => self.with(|state| state.deactivate(vcpu, intid)).1,
            None => VcpuSet::EMPTY,
        }
    }

    /// A device drives an input.
    pub fn set_line(&self, line: IrqLine, level: bool) -> VcpuSet {
        self.with(|state| state.set_line(line, level)).1
    }

    /// A device raises an input and lowers it at once: an edge, and nothing where the guest
    /// configured the interrupt as level-triggered.
    pub fn pulse(&self, line: IrqLine) -> VcpuSet {
        self.with(|state| state.pulse(line)).1
    }

    /// The physical virtual-timer interrupt was taken while `vcpu` ran, and left active.
    pub fn timer_fired(&self, vcpu: VcpuIndex) -> VcpuSet {
        self.with(|state| state.timer_fired(vcpu)).1
    }

    /// The virtual timer of `vcpu` no longer asserts its interrupt (CNTV_CTL_EL0.ISTATUS is 0, or
    /// IMASK is 1), which was not taken yet.
    pub fn timer_withdrawn(&self, vcpu: VcpuIndex) -> VcpuSet {
        self.with(|state| state.timer_withdrawn(vcpu)).1
    }

    /// Whether there is an interrupt for `vcpu`, which is synchronised, whatever its CPU interface
    /// says.
    pub fn has_deliverable(&self, vcpu: VcpuIndex) -> bool {
        self.state.lock().has_deliverable(vcpu, None)
    }

    /// Whether there is an interrupt for `vcpu`, which is synchronised, that its CPU interface
    /// lets in: of a group that it enables, and above its priority mask. The running priority
    /// is not looked at.
    pub fn has_deliverable_through(&self, vcpu: VcpuIndex, vmcr: Vmcr) -> bool {
        self.state.lock().has_deliverable(vcpu, Some(vmcr))
    }

    /// A vCPU is turned on (the first one at boot, PSCI CPU_ON). Its private interrupts are as
    /// after reset; the caller does the same to its ICH_VMCR_EL2 and active priorities.
    pub fn vcpu_on(&self, vcpu: VcpuIndex) -> VcpuSet {
        self.with(|state| state.turn_on(vcpu)).1
    }

    /// A vCPU is turned off (PSCI CPU_OFF); it was synchronised. Shared interrupts that any vCPU
    /// may take go to another, those routed to this one wait.
    pub fn vcpu_off(&self, vcpu: VcpuIndex) -> VcpuSet {
        self.with(|state| state.turn_off(vcpu)).1
    }

    /// The whole VM is reset: all vCPUs are off, all inputs low. No vCPU is running, and those
    /// that ran were synchronised.
    pub fn reset(&self) {
        let mut state = self.state.lock();
        *state = VgicState::new(state.vcpus);
        for stale in &self.stale {
            stale.store(false, Ordering::Relaxed);
        }
    }

    /// Runs `act` under the lock, and flags whom it concerned.
    fn with<R>(&self, act: impl FnOnce(&mut VgicState) -> R) -> (R, VcpuSet) {
        let mut state = self.state.lock();
        let result = act(&mut state);
        let kick = self.flag(&mut state);
        (result, kick)
    }

    /// Flags those whose list registers went out of date. Those that are off keep the flag and need no kick.
    fn flag(&self, state: &mut VgicState) -> VcpuSet {
        let stale = core::mem::take(&mut state.stale);
        for vcpu in stale.iter() {
            self.stale[vcpu.get()].store(true, Ordering::Release);
        }
        stale.intersection(state.online)
    }
}
