// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The virtual interrupt controller of one VM, a GICv3 or a GICv2: its distributor, redistributors,
//! and the list registers of its vCPUs.
//!
//! Either version has one security state, 288 INTIDs and up to [`MAX_VCPUS`] vCPUs.
//! - The GICv3 (IHI 0069H) has affinity routing that is always enabled. The affinity of a vCPU is
//!   its index in Aff0. It has no LPIs, no ITS and no message-based interrupts.
//! - The GICv2 (IHI 0048B.b) has no Security Extensions. The number of a CPU interface is the index
//!   of its vCPU. An SGI is one interrupt per source.
//!
//! The versions differ in the registers of the distributor, in the routes of SPIs, in SGIs and in
//! the format of list registers ([`Lr::to_gich`]). All else is the same code.
//!
//! # How a caller uses it
//!
//! - Before each entry to the guest, the caller checks [`Vgic::needs_flush`], which is one load.
//!   If it returns true, and after each maintenance interrupt, the caller calls [`Vgic::resync`]
//!   with the hardware's list registers, and then writes ICH_HCR_EL2. Otherwise the list registers
//!   stay as they are, across any number of exits.
//! - When a vCPU leaves its pCPU, the caller calls [`Vgic::sync`]. When the vCPU is loaded again,
//!   on any pCPU, the caller calls [`Vgic::flush`]. In between, only this crate holds the state of
//!   the vCPU's list registers.
//! - For a trapped access, the caller calls [`Vgic::sync`] for the vCPU that makes it, then
//!   [`Vgic::access`] (or [`Vgic::deactivate`]), then [`Vgic::flush`]. Where [`Vgic::needs_sync`]
//!   returns false, [`Vgic::access`] alone is enough.
//! - Before the guest waits for an interrupt, the caller calls [`Vgic::sync`], then
//!   [`Vgic::has_deliverable`].
//! - A GICv2 guest's access to the page of GICC_DIR traps always, as the caller does not map it. Its
//!   other CPU interface registers are the hardware's, GICV.
//! - Every method that returns a [`VcpuSet`] has set the flags of these vCPUs. The caller
//!   interrupts or wakes them.
//!
//! # The virtual timer
//!
//! INTID 27 is linked to the physical interrupt 27 of the pCPU on which the vCPU runs. The
//! hypervisor takes the physical interrupt, drops its priority, leaves it active and calls
//! [`Vgic::timer_fired`]. The guest's deactivation of the virtual interrupt deactivates the
//! physical interrupt, which fires again if the timer still asserts it. If `hw_active` is set when
//! a vCPU leaves its pCPU, the active state moves with the vCPU: the caller clears it on the old
//! pCPU and sets it on the new one.
//!
//! # Linked SPIs
//!
//! An SPI of a device that the VM has for itself is linked to the physical SPI of the same number
//! ([`Vgic::link_spis`]), with [`PhysicalSpis`] as the hardware. It is enabled while the guest has
//! enabled the virtual one. Any pCPU takes it and calls [`Vgic::spi_fired`]. Its active state is the
//! machine's and not a pCPU's, so it does not move with a vCPU.
//!
//! # Writes to interrupts in another vCPU's list registers
//!
//! Such a write completes at once: the vGIC records it and kicks the other vCPU. It takes effect
//! when that vCPU is synchronised; reads return the new value in the meantime. A guest may poll
//! RWP after it disabled an interrupt, so RWP stays set until then; a GICv2 has no RWP. A read of
//! state that only the other vCPU's list registers hold returns [`MmioOutcome::Retry`].
//!
//! # Locking
//!
//! Each VM has one spin lock. Each method except [`Vgic::needs_flush`] takes and releases it. While
//! it is held, only the caller's [`ListRegisters`] and [`PhysicalSpis`] are called, and no other lock is taken. VMs do
//! not share it. Callers run with physical interrupts masked.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod bank;
mod bits;
mod distributor_v2;
mod gic_registers;
mod interface;
mod intid;
mod linked;
mod list_registers;
mod lr;
mod sgi;
mod sgi_sources;
mod spis;
mod state;
#[cfg(test)]
mod tests;

pub use distributor_v2::GICV2_DISTRIBUTOR_SIZE;
pub use gic_registers::{DISTRIBUTOR_SIZE, MmioOutcome, REDISTRIBUTOR_SIZE, Window};
pub use interface::{CpuInterface, InterfaceRegister};
pub use intid::{INTIDS, IntId, IrqLine, VcpuSet};
pub use linked::PhysicalSpis;
pub use list_registers::FlushResult;
pub use lr::{Hcr, ListRegisters, Lr, MAX_LRS, PRIORITY_MASK, Vmcr};
pub use sgi::SgiRegister;

use core::sync::atomic::{AtomicBool, Ordering};
use postern_base::gic::GicVersion;
use postern_base::ids::{MAX_VCPUS, VcpuIndex};
use postern_base::lock::{Class, Lock};
use postern_base::mmio::Access;
use state::VgicState;

/// The state of a vCPU's virtual interface in the hardware, without its list registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceState {
    /// EOIcount of ICH_HCR_EL2 or GICH_HCR; see [`Hcr::eoi_count`].
    pub eoi_count: u8,
    /// ICH_VMCR_EL2 or GICH_VMCR.
    pub vmcr: Vmcr,
}

/// The result of [`Vgic::sync`].
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncResult {
    /// The vCPUs whose list registers are now out of date.
    pub kick: VcpuSet,
    /// Whether the physical timer interrupt is active on behalf of this vCPU. A caller that
    /// unloads the vCPU from the pCPU deactivates the interrupt there.
    pub hw_active: bool,
}

/// The interrupt controller of one VM.
pub struct Vgic {
    /// One flag per vCPU: its list registers are out of date. Written with the lock held.
    stale: [AtomicBool; MAX_VCPUS],
    state: Lock<VgicState>,
    /// The machine's SPIs, if any interrupt is linked to one.
    physical: Option<&'static dyn PhysicalSpis>,
}

impl Vgic {
    /// Returns a controller of this version for `vcpus` vCPUs, which are all off. The number is
    /// clamped to 1 to [`MAX_VCPUS`].
    pub const fn new(vcpus: usize, version: GicVersion) -> Self {
        let vcpus = match vcpus {
            0 => 1,
            1..=MAX_VCPUS => vcpus,
            _ => MAX_VCPUS,
        };
        Self {
            stale: [const { AtomicBool::new(false) }; MAX_VCPUS],
            state: Lock::new(Class::Vgic, VgicState::new(vcpus, version)),
            physical: None,
        }
    }

    /// Links SPIs to the physical ones of the same numbers, which are disabled and inactive.
    pub fn link_spis(
        &mut self,
        spis: impl Iterator<Item = IntId>,
        physical: &'static dyn PhysicalSpis,
    ) {
        self.physical = Some(physical);
        let linked = &mut self.state.lock().linked;
        spis.for_each(|spi| linked.link(spi));
    }

    /// Returns whether the list registers of `vcpu` must be brought up to date before the vCPU
    /// enters the guest.
    #[inline]
    pub fn needs_flush(&self, vcpu: VcpuIndex) -> bool {
        self.stale[vcpu.get()].load(Ordering::Acquire)
    }

    /// Reads back the list registers of `vcpu` that its last flush used. Has no effect on list
    /// registers that were read back already.
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

    /// Loads list registers for `vcpu`, which was synchronised or never flushed.
    pub fn flush<L: ListRegisters + ?Sized>(
        &self,
        vcpu: VcpuIndex,
        vmcr: Vmcr,
        lrs: &mut L,
    ) -> FlushResult {
        let mut state = self.state.lock();
        self.stale[vcpu.get()].store(false, Ordering::Relaxed);
        let flushed = state.flush(vcpu, vmcr, lrs);
        state.settle_linked(self.physical);
        flushed
    }

    /// Does [`Vgic::sync`] and [`Vgic::flush`] in one step.
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
        state.settle_linked(self.physical);
        let kick = self.flag(&mut state);
        (SyncResult { kick, hw_active }, flushed)
    }

    /// Returns whether the list registers must be read back for an access: for each write, and for
    /// reads of pending and active states. It may also return true for reads of rare registers. Other
    /// reads do not depend on the list registers.
    pub const fn needs_sync(access: &Access) -> bool {
        // Offsets 0x200 to 0x3ff, which are the same in the distributor and in a redistributor's
        // SGI_base frame, and 0xf00 to 0xfff, with a GICv2's GICD_CPENDSGIR and GICD_SPENDSGIR. The
        // same offsets in other blocks of 4 KiB belong to registers that are rarely read.
        const STATE: u32 = 1 << 0x2 | 1 << 0x3 | 1 << 0xf;
        access.write.is_some() || STATE >> (access.offset >> 8 & 0xf) & 1 != 0
    }

    /// Does an access by `vcpu` to the register at an offset in `window`. `vcpu` is synchronised if
    /// [`Vgic::needs_sync`] returns true for the access.
    pub fn access(&self, vcpu: VcpuIndex, window: Window, access: &Access) -> MmioOutcome {
        match self.with(|state| state.access(vcpu, window, access)) {
            (Ok(value), kick) => MmioOutcome::Done { value, kick },
            (Err(sync), _) => MmioOutcome::Retry { sync },
        }
    }

    /// Does the guest's write of `value` to a system register that generates SGIs. Has no effect in a
    /// GICv2, whose GICD_SGIR is a register of the distributor.
    pub fn send_sgi(&self, from: VcpuIndex, register: SgiRegister, value: u64) -> VcpuSet {
        let sgi = sgi::SgiRequest::decode(register, value);
        self.with(|state| state.send_sgi(from, sgi)).1
    }

    /// Makes an SGI pending at a vCPU, as if the vCPU had sent it to itself. A number above 15 is no SGI and has no effect.
    pub fn raise_sgi(&self, vcpu: VcpuIndex, number: u32) -> VcpuSet {
        let sgi = IntId::new(number).filter(|sgi| sgi.is_sgi());
        self.with(|state| sgi.into_iter().for_each(|sgi| state.raise_sgi(vcpu, sgi)))
            .1
    }

    /// Does the guest's write of `value` to ICC_DIR_EL1, which [`Hcr::TDIR`] trapped, or to
    /// GICC_DIR. `vcpu` is synchronised. Ignores the write if the guest's EOImode is 0.
    pub fn deactivate(&self, vcpu: VcpuIndex, vmcr: Vmcr, value: u64) -> VcpuSet {
        if !vmcr.splits_eoi() {
            return VcpuSet::EMPTY;
        }
        self.with(|state| state.deactivate(vcpu, value)).1
    }

    /// Sets the level of an input that a device drives.
    pub fn set_line(&self, line: IrqLine, level: bool) -> VcpuSet {
        self.with(|state| state.set_line(line, level)).1
    }

    /// Raises an input and lowers it at once. This is an edge; it has no effect if the guest
    /// configured the interrupt as level-sensitive.
    pub fn pulse(&self, line: IrqLine) -> VcpuSet {
        self.with(|state| state.pulse(line)).1
    }

    /// Makes the virtual timer's interrupt pending: the hypervisor took the physical interrupt
    /// while `vcpu` ran, and left it active.
    pub fn timer_fired(&self, vcpu: VcpuIndex) -> VcpuSet {
        self.with(|state| state.timer_fired(vcpu)).1
    }

    /// Makes a linked SPI pending: the hypervisor took the physical interrupt, and left it active. Has no effect if the
    /// SPI is not linked.
    pub fn spi_fired(&self, spi: IntId) -> VcpuSet {
        self.with(|state| state.spi_fired(spi)).1
    }

    /// Withdraws the virtual timer's interrupt, which the guest has not acknowledged yet: the timer
    /// of `vcpu` no longer asserts it (CNTV_CTL_EL0.ISTATUS is 0, or IMASK is 1).
    pub fn timer_withdrawn(&self, vcpu: VcpuIndex) -> VcpuSet {
        self.with(|state| state.timer_withdrawn(vcpu)).1
    }

    /// Returns whether an interrupt is pending for `vcpu`, which is synchronised, regardless of the
    /// state of its CPU interface.
    pub fn has_deliverable(&self, vcpu: VcpuIndex) -> bool {
        self.state.lock().has_deliverable(vcpu, None)
    }

    /// Returns whether an interrupt is pending for `vcpu`, which is synchronised, that its CPU
    /// interface can signal: the interface enables its group, and its priority is higher than the
    /// priority mask. Ignores the running priority.
    pub fn has_deliverable_through(&self, vcpu: VcpuIndex, vmcr: Vmcr) -> bool {
        self.state.lock().has_deliverable(vcpu, Some(vmcr))
    }

    /// Turns a vCPU on (the first one at boot, others by PSCI CPU_ON) and resets its private
    /// interrupts. The caller resets its ICH_VMCR_EL2 and active priorities.
    pub fn vcpu_on(&self, vcpu: VcpuIndex) -> VcpuSet {
        self.with(|state| state.turn_on(vcpu)).1
    }

    /// Turns a vCPU off (PSCI CPU_OFF), which was synchronised. Shared interrupts that are routed
    /// to any vCPU go to another; those that are routed to this vCPU stay pending.
    pub fn vcpu_off(&self, vcpu: VcpuIndex) -> VcpuSet {
        self.with(|state| state.turn_off(vcpu)).1
    }

    /// Resets the controller: all vCPUs are off, all inputs low, all linked physical SPIs disabled,
    /// inactive and not pending. No vCPU is running, and those that ran were synchronised.
    pub fn reset(&self) {
        let mut state = self.state.lock();
        let linked = self.physical.map(|physical| state.linked.reset(physical));
        *state = VgicState::new(state.vcpus, state.version);
        if let Some(linked) = linked {
            state.linked = linked;
        }
        for stale in &self.stale {
            stale.store(false, Ordering::Relaxed);
        }
    }

    /// Runs `act` under the lock, and sets the flags of the vCPUs that it marked as stale.
    fn with<R>(&self, act: impl FnOnce(&mut VgicState) -> R) -> (R, VcpuSet) {
        let mut state = self.state.lock();
        let result = act(&mut state);
        state.settle_linked(self.physical);
        let kick = self.flag(&mut state);
        (result, kick)
    }

    /// Sets the flags of the vCPUs whose list registers went out of date, and returns those that
    /// are on. A vCPU that is off keeps the flag and needs no kick.
    fn flag(&self, state: &mut VgicState) -> VcpuSet {
        let stale = core::mem::take(&mut state.stale);
        for vcpu in stale.iter() {
            self.stale[vcpu.get()].store(true, Ordering::Release);
        }
        stale.intersection(state.online)
    }
}
