// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The state of a VM's interrupt controller, and the changes that its inputs make to it.

use super::bank::{Banks, SGIS, WORDS, each_bit, place};
use super::intid::{IntId, IrqLine, VcpuSet};
use super::linked::LinkedSpis;
use super::lr::Vmcr;
use super::sgi::{SgiRequest, SgiSources, SgiTargets};
use postern_base::gic::GicVersion;
use postern_base::ids::{MAX_VCPUS, VcpuIndex};

/// The virtual timer's bit in word 0.
pub(super) const TIMER: u32 = IntId::VIRTUAL_TIMER.bit();

/// GICD_IROUTER.Interrupt_Routing_Mode: any vCPU that is on.
pub(super) const ROUTE_ANY: u32 = 1 << 31;
/// The implemented bits of the lower half of GICD_IROUTER: the mode and Aff2 to Aff0. Aff3 is not
/// supported (GICD_TYPER.A3V is 0).
const ROUTE_MASK: u32 = ROUTE_ANY | 0x00ff_ffff;

/// A read that waits for other vCPUs to be synchronised. See [`super::Vgic::access`].
#[derive(Clone, Copy)]
pub(super) struct SyncWait {
    /// The vCPU and the word that it reads. The vCPU matters only for word 0, which is private.
    pub of: (VcpuIndex, usize),
    /// The vCPUs that held the state when the wait began, and were not synchronised since.
    pub unsynced: VcpuSet,
    /// The value of [`VcpuLrState::flushes`] when the wait began.
    pub since: u32,
}

/// A vCPU's state besides its private interrupts.
#[derive(Clone, Copy)]
pub(super) struct VcpuLrState {
    /// Whether the list registers hold state that was not read back.
    pub resident: bool,
    /// The number of list registers that the last flush used.
    pub flushed: usize,
    /// The interrupts that the list registers hold.
    pub loaded: [u32; WORDS],
    /// The interrupts in `loaded` whose pending latch moved into the list register.
    pub moved: [u32; WORDS],
    /// The shared interrupts that are active on this vCPU. All ones for word 0.
    pub owned: [u32; WORDS],
    /// The shared interrupts that are routed to this vCPU. All ones for word 0.
    pub routed: [u32; WORDS],
    /// Whether the physical timer interrupt is active on behalf of this vCPU.
    pub timer_active: bool,
    /// Whether the timer interrupt fired since the list registers were flushed.
    pub timer_again: bool,
    pub wait: Option<SyncWait>,
    /// The number of flushes, which wraps.
    pub flushes: u32,
}

impl VcpuLrState {
    /// Returns a state of zeroes, without the words 0 of `owned` and `routed`.
    const fn zero() -> Self {
        Self {
            resident: false,
            flushed: 0,
            loaded: [0; WORDS],
            moved: [0; WORDS],
            owned: [0; WORDS],
            routed: [0; WORDS],
            timer_active: false,
            timer_again: false,
            wait: None,
            flushes: 0,
        }
    }
}

/// The interrupt controller of one VM, under its lock.
pub(super) struct VgicState {
    pub version: GicVersion,
    pub vcpus: usize,
    /// Whether a vCPU that deactivates separately must trap with each write to ICC_DIR_EL1: the
    /// hardware does not see the deactivation of an interrupt that is active on another vCPU. Each
    /// write to a GICv2's GICC_DIR traps anyway.
    pub traps_dir: bool,
    pub online: VcpuSet,
    /// GICD_CTLR.EnableGrp1 and EnableGrp0.
    pub groups: u32,
    pub banks: Banks,
    pub cpus: [VcpuLrState; MAX_VCPUS],
    /// The sources of each vCPU's SGIs, in a GICv2.
    pub sources: [SgiSources; MAX_VCPUS],
    /// The lower half of GICD_IROUTER of each SPI; in a GICv2, its byte of GICD_ITARGETSR.
    routers: [u32; (WORDS - 1) * 32],
    /// The links to physical SPIs.
    pub linked: LinkedSpis,
    /// The vCPUs that may still present a shared interrupt that was disabled (GICD_CTLR.RWP).
    pub disabling: VcpuSet,
    /// The vCPUs that may still present a private interrupt that another vCPU disabled
    /// (GICR_CTLR.RWP).
    pub disabling_private: VcpuSet,
    /// The vCPUs that have a [`VcpuLrState::wait`].
    pub waiting: VcpuSet,
    /// The vCPUs whose list registers went out of date since the caller last took this set.
    pub stale: VcpuSet,
}

impl VgicState {
    // Not inlined: it is called at the beginning and the end of a VM only, and long.
    #[cold]
    #[inline(never)]
    pub const fn new(vcpus: usize, version: GicVersion) -> Self {
        let mut state = Self {
            version,
            vcpus,
            online: VcpuSet::EMPTY,
            groups: 0,
            banks: Banks::new(match version {
                GicVersion::V2 => SGIS,
                GicVersion::V3 => 0,
            }),
            traps_dir: vcpus > 1 && matches!(version, GicVersion::V3),
            // As for `Banks::new`.
            cpus: [VcpuLrState::zero(); MAX_VCPUS],
            sources: [SgiSources::new(); MAX_VCPUS],
            routers: [0; (WORDS - 1) * 32],
            linked: LinkedSpis::none(),
            disabling: VcpuSet::EMPTY,
            disabling_private: VcpuSet::EMPTY,
            waiting: VcpuSet::EMPTY,
            stale: VcpuSet::EMPTY,
        };
        let mut vcpu = 0;
        while vcpu < MAX_VCPUS {
            state.cpus[vcpu].owned[0] = u32::MAX;
            state.cpus[vcpu].routed[0] = u32::MAX;
            vcpu += 1;
        }
        match version {
            // Each SPI of a GICv2 with several vCPUs has no target at first.
            GicVersion::V2 if vcpus > 1 => {}
            // With one vCPU, that is the target.
            GicVersion::V2 => {
                state.cpus[0].routed = [u32::MAX; WORDS];
                state.routers = [1; (WORDS - 1) * 32];
            }
            // The reset value of each GICD_IROUTER is affinity 0.0.0.0.
            GicVersion::V3 => state.cpus[0].routed = [u32::MAX; WORDS],
        }
        state
    }

    /// Returns the vCPUs that share word `word` as `vcpu` sees it: all for a shared word, `vcpu`
    /// alone for its private word.
    pub fn sharers(&self, vcpu: VcpuIndex, word: usize) -> VcpuSet {
        if word == 0 {
            VcpuSet::only(vcpu)
        } else {
            self.everybody()
        }
    }

    /// Returns all vCPUs of the VM.
    #[inline]
    pub const fn everybody(&self) -> VcpuSet {
        VcpuSet::from_bits((u16::MAX >> (16 - self.vcpus)) as u8)
    }

    /// Marks the vCPUs whose list registers may have to change because `bits` changed.
    pub fn touch(&mut self, vcpu: VcpuIndex, word: usize, bits: u32) {
        self.banks.note(word);
        let bank = self.banks.get(vcpu, word);
        let loaded = bank.loaded & bits;
        let ready = bank.pending() & bank.forwarded(self.groups) & !(bank.active | bank.loaded);
        if loaded | ready & bits == 0 {
            return;
        }
        let ready = ready & bits;
        let is_stale =
            |cpu: &VcpuLrState| cpu.loaded[word] & loaded | cpu.routed[word] & ready != 0;
        if word == 0 {
            if is_stale(&self.cpus[vcpu.get()]) {
                self.stale = self.stale.union(VcpuSet::only(vcpu));
            }
            return;
        }
        let vcpus = self.cpus.iter().take(self.vcpus).enumerate();
        let stale = vcpus.fold(0, |set, (index, cpu)| {
            set | u8::from(is_stale(cpu)) << index
        });
        self.stale = self.stale.union(VcpuSet::from_bits(stale));
    }

    /// Marks every vCPU that is on.
    pub fn touch_all(&mut self) {
        self.stale = self.stale.union(self.online);
    }

    /// Sets or ends the wait of `vcpu` for other vCPUs.
    pub fn set_wait(&mut self, vcpu: VcpuIndex, wait: Option<SyncWait>) {
        self.waiting = if wait.is_some() {
            self.waiting.union(VcpuSet::only(vcpu))
        } else {
            self.waiting.without(vcpu)
        };
        self.cpus[vcpu.get()].wait = wait;
    }

    /// Sets the level of an input. An edge-triggered interrupt becomes pending when its input
    /// rises.
    pub fn set_line(&mut self, line: IrqLine, level: bool) {
        let (word, bit) = place(line.intid);
        let bank = self.banks.get_mut(line.vcpu, word);
        if (bank.line & bit != 0) == level {
            return;
        }
        bank.line ^= bit;
        bank.latch |= bank.line & bank.edge & bit;
        if bank.edge & bit != 0 && !level {
            // Falls, which changes nothing of an edge-triggered interrupt.
            return self.banks.note(word);
        }
        self.touch(line.vcpu, word, bit);
    }

    /// Raises an input and lowers it at once.
    pub fn pulse(&mut self, line: IrqLine) {
        let (word, bit) = place(line.intid);
        let bank = self.banks.get_mut(line.vcpu, word);
        bank.latch |= bank.edge & bit;
        self.touch(line.vcpu, word, bit);
    }

    /// Makes the timer interrupt of `vcpu` pending. The physical interrupt was taken on behalf of
    /// `vcpu`, and is active.
    pub fn timer_fired(&mut self, vcpu: VcpuIndex) {
        let cpu = &mut self.cpus[vcpu.get()];
        cpu.timer_active = true;
        cpu.timer_again = cpu.resident;
        self.banks.get_mut(vcpu, 0).latch |= TIMER;
        self.touch(vcpu, 0, TIMER);
    }

    /// Withdraws the timer interrupt of `vcpu`, which the timer no longer asserts.
    pub fn timer_withdrawn(&mut self, vcpu: VcpuIndex) {
        self.clear_latch(vcpu, 0, TIMER);
        // Also where no list register holds it: the physical interrupt must be deactivated.
        self.stale = self.stale.union(VcpuSet::only(vcpu));
    }

    /// Clears the pending latches of `bits`, including those in list registers.
    pub fn clear_latch(&mut self, vcpu: VcpuIndex, word: usize, bits: u32) {
        self.banks.get_mut(vcpu, word).latch &= !bits;
        for sharer in self.sharers(vcpu, word).iter() {
            self.cpus[sharer.get()].moved[word] &= !bits;
        }
        self.touch(vcpu, word, bits);
    }

    /// Returns the vCPUs that receive an SGI of `from`.
    #[inline]
    pub fn sgi_targets(&self, from: VcpuIndex, targets: SgiTargets) -> VcpuSet {
        match targets {
            SgiTargets::AllButSelf => self.everybody().without(from),
            SgiTargets::Listed(set) => set.intersection(self.everybody()),
        }
    }

    /// Makes an SGI pending at its targets. A GICv2 has no system registers that generate SGIs.
    pub fn send_sgi(&mut self, from: VcpuIndex, sgi: SgiRequest) {
        if self.version == GicVersion::V2 {
            return;
        }
        let bit = sgi.intid.bit() & SGIS;
        for target in self.sgi_targets(from, sgi.targets).iter() {
            let bank = self.banks.get_mut(target, 0);
            if sgi.any_group || bank.group1 & bit == 0 {
                bank.latch |= bit;
                self.touch(target, 0, bit);
            }
        }
    }

    /// Makes an SGI pending at a vCPU. In a GICv2 the vCPU is the source, too.
    // Does not share code with `send_sgi`, which the compiler would then call and not inline.
    #[cold]
    pub fn raise_sgi(&mut self, vcpu: VcpuIndex, sgi: IntId) {
        match self.version {
            GicVersion::V2 => self.add_sources(vcpu, sgi, VcpuSet::only(vcpu)),
            GicVersion::V3 => {
                self.banks.get_mut(vcpu, 0).latch |= sgi.bit();
                self.touch(vcpu, 0, sgi.bit());
            }
        }
    }

    /// Deactivates an interrupt, for the guest's write of `value` to ICC_DIR_EL1 or GICC_DIR.
    ///
    /// An SGI of a GICv2 is active for one source at a time. Whether GICC_DIR.CPUID names it does
    /// not matter: a wrong source is UNPREDICTABLE (IHI 0048B.b 4.4.15).
    pub fn deactivate(&mut self, vcpu: VcpuIndex, value: u64) {
        let number = match self.version {
            GicVersion::V2 => value as u32 & 0x3ff,
            GicVersion::V3 => value as u32 & 0xff_ffff,
        };
        if let Some(intid) = IntId::new(number) {
            let (word, bit) = place(intid);
            self.clear_active(vcpu, word, bit);
        }
    }

    /// Clears the active state of `bits`, including the state in list registers.
    pub fn clear_active(&mut self, vcpu: VcpuIndex, word: usize, bits: u32) {
        let bank = self.banks.get_mut(vcpu, word);
        bank.set_active(bits, false);
        bank.overridden |= bank.loaded & bits;
        let free = bits & !bank.loaded;
        if word > 0 {
            for cpu in &mut self.cpus {
                cpu.owned[word] &= !free;
            }
        } else if bits & TIMER != 0 {
            // The physical interrupt may have to be deactivated; see `flush`.
            self.stale = self.stale.union(VcpuSet::only(vcpu));
        }
        self.touch(vcpu, word, bits);
    }

    /// Makes `bits` active, although no vCPU acknowledged them.
    pub fn set_active(&mut self, vcpu: VcpuIndex, word: usize, bits: u32) {
        let bank = self.banks.get_mut(vcpu, word);
        let loaded = bank.loaded & bits;
        let newly = bits & !loaded & !bank.active;
        bank.overridden |= loaded;
        bank.active |= bits;
        bank.forced |= newly;
        if word > 0 {
            for bit in each_bit(newly) {
                let intid = IntId::at(word, bit);
                let owner = self.target(intid).unwrap_or(vcpu);
                self.cpus[owner.get()].owned[word] |= bit;
            }
        }
        self.touch(vcpu, word, bits);
    }

    /// Returns the lower half of an SPI's GICD_IROUTER, or its byte of GICD_ITARGETSR.
    pub fn router(&self, intid: IntId) -> u32 {
        self.routers[intid.get() as usize - 32]
    }

    /// Writes the lower half of an SPI's GICD_IROUTER, or its byte of GICD_ITARGETSR.
    pub fn set_router(&mut self, intid: IntId, value: u32) {
        self.routers[intid.get() as usize - 32] = value & ROUTE_MASK;
        self.reroute(intid);
    }

    #[cold]
    #[inline(never)]
    fn reroute(&mut self, intid: IntId) {
        let (word, bit) = place(intid);
        // The old target as well: it may have the interrupt in a list register.
        for cpu in &mut self.cpus {
            cpu.routed[word] &= !bit;
        }
        if let Some(target) = self.target(intid) {
            self.cpus[target.get()].routed[word] |= bit;
        }
        self.touch(VcpuIndex::BOOT, word, bit);
    }

    /// Returns the vCPU to which an SPI is routed, if there is one.
    fn target(&self, intid: IntId) -> Option<VcpuIndex> {
        let router = self.router(intid);
        if self.version == GicVersion::V2 {
            let targets = VcpuSet::from_bits(router as u8);
            let on = targets.intersection(self.online);
            return on.iter().next().or(targets.iter().next());
        }
        if router & ROUTE_ANY != 0 {
            return self.online.iter().next();
        }
        VcpuIndex::new(router as usize).filter(|vcpu| vcpu.get() < self.vcpus)
    }

    /// Returns whether the target of an SPI depends on which vCPUs are on.
    fn has_several_targets(&self, intid: IntId) -> bool {
        let router = self.router(intid);
        match self.version {
            GicVersion::V2 => router.count_ones() > 1,
            GicVersion::V3 => router & ROUTE_ANY != 0,
        }
    }

    #[cold]
    #[inline(never)]
    fn reroute_any(&mut self) {
        for word in 1..WORDS {
            for bit in each_bit(u32::MAX) {
                let intid = IntId::at(word, bit);
                if self.has_several_targets(intid) {
                    self.reroute(intid);
                }
            }
        }
    }

    /// Turns a vCPU on, and resets its private interrupts.
    pub fn turn_on(&mut self, vcpu: VcpuIndex) {
        self.abandon(vcpu);
        self.banks.reset_private(vcpu);
        self.sources[vcpu.get()] = SgiSources::new();
        let cpu = &mut self.cpus[vcpu.get()];
        cpu.timer_active = false;
        cpu.timer_again = false;
        self.set_wait(vcpu, None);
        self.online = self.online.union(VcpuSet::only(vcpu));
        self.stale = self.stale.union(VcpuSet::only(vcpu));
        self.reroute_any();
    }

    /// Turns a vCPU off. The shared interrupts that are pending for it stay pending, or go to
    /// another vCPU.
    pub fn turn_off(&mut self, vcpu: VcpuIndex) {
        self.abandon(vcpu);
        let cpu = &mut self.cpus[vcpu.get()];
        cpu.timer_active = false;
        for word in 1..WORDS {
            // The vCPU has no running priority when it is turned on again, so it cannot end these.
            let bank = self.banks.get_mut(vcpu, word);
            bank.forced |= bank.active & cpu.owned[word];
        }
        self.online = self.online.without(vcpu);
        self.reroute_any();
    }

    /// Returns whether an interrupt is pending for `vcpu`. With `vmcr`, counts only interrupts that
    /// its CPU interface can signal.
    pub fn has_deliverable(&self, vcpu: VcpuIndex, vmcr: Option<Vmcr>) -> bool {
        let cpu = &self.cpus[vcpu.get()];
        super::bank::each_word(self.banks.busy_words(vcpu)).any(|word| {
            let bank = self.banks.get(vcpu, word);
            let ready = (bank.pending() | cpu.moved[word])
                & bank.forwarded(self.groups)
                & cpu.routed[word]
                & !bank.active
                & !(bank.loaded & !cpu.loaded[word]);
            match vmcr {
                None => ready != 0,
                Some(vmcr) => each_bit(ready).any(|bit| {
                    bank.priority_of(bit) < vmcr.priority_mask()
                        && vmcr.enables(bank.group1 & bit != 0)
                }),
            }
        })
    }
}
