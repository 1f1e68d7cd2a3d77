// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Moves the software's state into list registers and back.
//!
//! If all pending and active interrupts of a vCPU fit into its list registers, only the end of a
//! level-sensitive interrupt needs the hypervisor. If there are more interrupts than list
//! registers, the best pending interrupt always gets a list register. Active interrupts come next,
//! then the other pending ones. This order has three effects:
//! - The list registers always hold the interrupt that the hardware would signal next.
//! - The no-pending maintenance interrupt (NPIE) is raised when the last pending interrupt was
//!   acknowledged, and never at once. Underflow (UIE) would be raised at once, and permanently,
//!   with one interrupt left.
//! - An active interrupt without a list register is ended by a count (EOIcount, LRENPIE). If the
//!   guest deactivates separately, a trapped write to ICC_DIR_EL1 (TDIR) ends it.

use super::bank::{WORDS, each_bit, each_word, place};
use super::intid::{IntId, VcpuSet};
use super::lr::{Hcr, ListRegisters, Lr, MAX_LRS, Vmcr};
use super::state::{TIMER, VcpuLrState, VgicState};
use postern_base::gic::GicVersion;
use postern_base::ids::VcpuIndex;

/// The result of [`super::Vgic::flush`], which the caller applies to the hardware.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushResult {
    // Small, so that the result is returned in registers.
    /// The number of list registers that are in use, from the first on.
    pub count: u8,
    /// The value for ICH_HCR_EL2, or for GICH_HCR without TDIR and TC; with an EOIcount of zero.
    pub hcr: Hcr,
    /// Whether the physical timer interrupt is active on behalf of this vCPU. A caller that loads
    /// the vCPU on a pCPU sets the physical active state there to this value.
    pub hw_active: bool,
    /// Whether the caller must deactivate the physical timer interrupt (GICR_ICACTIVER0) on this
    /// pCPU, because the virtual interrupt was withdrawn or cleared, and not ended through its
    /// linked list register.
    pub hw_deactivate: bool,
}

impl FlushResult {
    const IDLE: Self = Self {
        count: 0,
        hcr: Hcr::EN,
        hw_active: false,
        hw_deactivate: false,
    };
}

/// An interrupt that needs a list register. Candidates that sort lower are preferred.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    class: SlotClass,
    priority: u8,
    intid: IntId,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum SlotClass {
    Best,
    Active,
    Pending,
    /// Pending, in a group that the guest's CPU interface disables.
    Blocked {
        group1: bool,
    },
}

/// The pending and the active interrupts of a word that need a list register.
#[derive(Clone, Copy)]
struct Candidates {
    pending: u32,
    active: u32,
}

impl Candidates {
    const fn all(self) -> u32 {
        self.pending | self.active
    }
}

impl VgicState {
    #[inline]
    fn candidates(&self, vcpu: VcpuIndex, word: usize) -> Candidates {
        let cpu = &self.cpus[vcpu.get()];
        let bank = self.banks.get(vcpu, word);
        let unclaimed = !bank.active & !bank.loaded;
        Candidates {
            pending: bank.pending() & bank.forwarded(self.groups) & cpu.routed[word] & unclaimed,
            active: bank.active & cpu.owned[word] & !bank.loaded,
        }
    }

    /// Loads list registers. The vCPU is synchronised.
    pub fn flush<L: ListRegisters + ?Sized>(
        &mut self,
        vcpu: VcpuIndex,
        vmcr: Vmcr,
        lrs: &mut L,
    ) -> FlushResult {
        self.abandon(vcpu);
        // This flush covers all changes that made the vCPU stale, including the interrupts that
        // its own synchronisation released.
        self.stale = self.stale.without(vcpu);
        let cpu = &mut self.cpus[vcpu.get()];
        cpu.flushes = cpu.flushes.wrapping_add(1);
        let mut result = FlushResult::IDLE;
        if self.traps_dir && vmcr.splits_eoi() {
            result.hcr |= Hcr::TDIR;
        }
        if self.banks.busy_words(vcpu) != 0 {
            self.flush_busy(vcpu, vmcr, lrs, &mut result);
        }
        let count = usize::from(result.count);
        lrs.clear_from(count);
        let cpu = &mut self.cpus[vcpu.get()];
        cpu.flushed = count;
        cpu.resident = count > 0;
        if cpu.timer_active {
            let bank = self.banks.get(vcpu, 0);
            let in_flight = (bank.latch | bank.active | cpu.moved[0]) & TIMER != 0;
            cpu.timer_active = in_flight;
            result.hw_active = in_flight;
            result.hw_deactivate = !in_flight;
        }
        result
    }

    fn flush_busy<L: ListRegisters + ?Sized>(
        &mut self,
        vcpu: VcpuIndex,
        vmcr: Vmcr,
        lrs: &mut L,
        result: &mut FlushResult,
    ) {
        let room = lrs.count();
        let words = self.banks.busy_words(vcpu);
        if words.is_power_of_two() {
            // The usual case needs one look.
            let word = words.trailing_zeros() as usize;
            let all = self.candidates(vcpu, word).all();
            if all.count_ones() as usize <= room {
                return self.load_all(vcpu, word, all, lrs, result);
            }
        }
        let wanted: u32 = each_word(words)
            .map(|word| self.candidates(vcpu, word).all().count_ones())
            .sum();
        if wanted as usize <= room {
            for word in each_word(words) {
                let all = self.candidates(vcpu, word).all();
                self.load_all(vcpu, word, all, lrs, result);
            }
            return;
        }
        let mut chosen = heapless::Vec::<Candidate, MAX_LRS>::new();
        result.hcr |= self.choose(vcpu, vmcr, room.min(MAX_LRS), &mut chosen);
        for (index, candidate) in chosen.iter().enumerate() {
            let (word, bit) = place(candidate.intid);
            lrs.write(index, self.load(vcpu, word, bit));
        }
        result.count = chosen.len() as u8;
    }

    /// Moves interrupts of a word into the next list registers, which are there.
    #[inline]
    fn load_all<L: ListRegisters + ?Sized>(
        &mut self,
        vcpu: VcpuIndex,
        word: usize,
        bits: u32,
        lrs: &mut L,
        result: &mut FlushResult,
    ) {
        for bit in each_bit(bits) {
            lrs.write(result.count.into(), self.load(vcpu, word, bit));
            result.count += 1;
        }
    }

    /// Chooses `room` of the candidates, and returns the bits of ICH_HCR_EL2 that the other
    /// candidates need.
    fn choose(
        &self,
        vcpu: VcpuIndex,
        vmcr: Vmcr,
        room: usize,
        chosen: &mut heapless::Vec<Candidate, MAX_LRS>,
    ) -> Hcr {
        let mut best: Option<Candidate> = None;
        let mut needs = Hcr::empty();
        let mut pick = |candidate: Candidate| {
            if chosen.len() == room {
                match chosen.last() {
                    Some(last) if candidate < *last => needs |= last.class.needs(vmcr),
                    _ => {
                        needs |= candidate.class.needs(vmcr);
                        return;
                    }
                }
                chosen.pop();
            }
            let at = chosen.partition_point(|other| *other < candidate);
            // `room` is at most the capacity, so the insertion succeeds.
            chosen.insert(at, candidate).ok();
        };
        for word in each_word(self.banks.busy_words(vcpu)) {
            let bank = self.banks.get(vcpu, word);
            let candidates = self.candidates(vcpu, word);
            for bit in each_bit(candidates.all()) {
                let group1 = bank.group1 & bit != 0;
                let class = if candidates.active & bit != 0 {
                    SlotClass::Active
                } else if vmcr.enables(group1) {
                    SlotClass::Pending
                } else {
                    SlotClass::Blocked { group1 }
                };
                let mut candidate = Candidate {
                    class,
                    priority: bank.priority_of(bit),
                    intid: IntId::at(word, bit),
                };
                if class == SlotClass::Pending {
                    // The best candidate so far is kept outside the list. A better one replaces it,
                    // and the former best becomes an ordinary candidate.
                    if best.is_none_or(|best| candidate < best) {
                        match best.replace(candidate) {
                            Some(former) => candidate = former,
                            None => continue,
                        }
                    }
                }
                pick(candidate);
            }
        }
        if let Some(best) = best {
            pick(Candidate {
                class: SlotClass::Best,
                ..best
            });
        }
        match self.version {
            GicVersion::V2 => needs.difference(Hcr::TDIR),
            GicVersion::V3 => needs,
        }
    }

    /// Moves an interrupt's state into a list register.
    fn load(&mut self, vcpu: VcpuIndex, word: usize, bit: u32) -> Lr {
        let cpu = &mut self.cpus[vcpu.get()];
        let bank = self.banks.get_mut(vcpu, word);
        if bank.sourced & bit != 0 {
            return self.load_sgi(vcpu, bit);
        }
        let intid = IntId::at(word, bit);
        let active = bank.active & bit != 0;
        // An active and pending interrupt is pending in the list register only if it is for this
        // vCPU, with the priority and group with which it is active.
        let here = bank.forwarded(self.groups) & cpu.routed[word] & bit != 0
            && !(active && bank.was_changed(bit));
        let pending = bank.pending() & bit != 0;
        let high = bank.line & !bank.edge & bit != 0;
        let lr = Lr::new(intid, bank.priority_of(bit), bank.is_group1(bit))
            .with_active(active)
            .with_pending(pending && here);
        if here {
            cpu.moved[word] |= bank.latch & bit;
            bank.latch &= !bit;
        }
        cpu.loaded[word] |= bit;
        bank.loaded |= bit;
        let is_linked = if word == 0 {
            bit == TIMER
        } else {
            self.linked.active[word] & bit != 0
        };
        if is_linked && !(active && pending) {
            // A linked entry must never be active and pending. An interrupt that is both gets an
            // entry that is not linked, and software handles its end.
            return lr.linked(intid);
        }
        // The end of the interrupt must exit where it may be pending again afterwards: because its
        // level may still be high, or because the list register does not hold its pending state.
        lr.with_eoi(high || pending && !here || is_linked)
    }

    /// Reads list registers back.
    pub fn sync<L: ListRegisters + ?Sized>(
        &mut self,
        vcpu: VcpuIndex,
        lrs: &L,
        eoi_count: u8,
        vmcr: Vmcr,
    ) {
        let cpu = &self.cpus[vcpu.get()];
        if cpu.resident {
            // If the guest deactivates separately, the counted ends are not deactivations.
            if eoi_count > 0 && !vmcr.splits_eoi() {
                self.end_spilled(vcpu, eoi_count);
            }
            let flushed = self.cpus[vcpu.get()].flushed;
            let mut unloaded = 0;
            let mut sgis = 0;
            for index in 0..flushed.min(lrs.count()) {
                let lr = lrs.read(index);
                if let Some(intid) = lr.vintid() {
                    unloaded += usize::from(self.unload(vcpu, intid, lr, &mut sgis));
                }
            }
            if sgis != 0 {
                self.sources[vcpu.get()].put_back(sgis);
            }
            if unloaded == flushed {
                let cpu = &mut self.cpus[vcpu.get()];
                cpu.resident = false;
                cpu.timer_again = false;
            } else {
                self.abandon(vcpu);
            }
        }
        if !self.waiting.is_empty() {
            for waiting in self.waiting.iter() {
                if let Some(wait) = &mut self.cpus[waiting.get()].wait {
                    wait.unsynced = wait.unsynced.without(vcpu);
                }
            }
        }
        self.disabling = self.disabling.without(vcpu);
        self.disabling_private = self.disabling_private.without(vcpu);
    }

    /// Reads the state of an interrupt back from a list register. Returns whether the vCPU had the
    /// interrupt in a list register. Adds an SGI whose source is pending again to `sgis`.
    fn unload(&mut self, vcpu: VcpuIndex, intid: IntId, lr: Lr, sgis: &mut u32) -> bool {
        let (word, bit) = place(intid);
        let cpu = &mut self.cpus[vcpu.get()];
        if cpu.loaded[word] & bit == 0 {
            return false;
        }
        let bank = self.banks.get_mut(vcpu, word);
        if lr.is_pending() {
            let latched = cpu.moved[word] & bit;
            bank.latch |= latched;
            *sgis |= bank.sourced & latched;
        }
        cpu.moved[word] &= !bit;
        cpu.loaded[word] &= !bit;
        bank.loaded &= !bit;
        if lr.is_active() {
            bank.took(bit, lr.priority(), lr.is_group1());
        }
        if bank.overridden & bit == 0 {
            bank.set_active(bit, lr.is_active());
        } else {
            bank.overridden &= !bit;
            if !lr.is_active() {
                bank.forced |= bank.active & bit;
            }
        }
        if word > 0 {
            cpu.owned[word] = cpu.owned[word] & !bit | bank.active & bit;
        }
        // The guest's deactivation deactivated the physical interrupt as well.
        let is_ended = lr.is_linked() && !lr.is_valid();
        if word > 0 {
            self.linked.unloaded(word, bit, is_ended);
        } else if is_ended {
            cpu.timer_active = cpu.timer_again;
        }
        self.release(vcpu, word, bit);
        true
    }

    /// Marks the other vCPU to which interrupts that left the list registers are now routed.
    fn release(&mut self, vcpu: VcpuIndex, word: usize, bits: u32) {
        self.banks.note(word);
        let elsewhere = bits & !self.cpus[vcpu.get()].routed[word];
        if elsewhere != 0 {
            self.touch(vcpu, word, elsewhere);
        }
    }

    /// Ends the `count` active interrupts without a list register that were acknowledged last.
    fn end_spilled(&mut self, vcpu: VcpuIndex, count: u8) {
        for _ in 0..count {
            let mut last: Option<(u8, IntId)> = None;
            for word in each_word(self.banks.busy_words(vcpu)) {
                let bank = self.banks.get(vcpu, word);
                let owned = self.cpus[vcpu.get()].owned[word];
                for bit in each_bit(bank.active & owned & !bank.loaded & !bank.forced) {
                    // An interrupt preempts another only by its priority, so the one with the
                    // highest priority was acknowledged last.
                    let candidate = (bank.priority_of(bit), IntId::at(word, bit));
                    last = Some(last.map_or(candidate, |last| last.min(candidate)));
                }
            }
            let Some((_, intid)) = last else {
                return;
            };
            let (word, bit) = place(intid);
            self.banks.get_mut(vcpu, word).set_active(bit, false);
            if word > 0 {
                self.cpus[vcpu.get()].owned[word] &= !bit;
            }
            self.release(vcpu, word, bit);
        }
    }

    /// Discards list registers that will not be read back: their interrupts have the state that was
    /// loaded.
    pub fn abandon(&mut self, vcpu: VcpuIndex) {
        let cpu = &mut self.cpus[vcpu.get()];
        if !cpu.resident {
            return;
        }
        cpu.resident = false;
        cpu.timer_again = false;
        for word in 0..WORDS {
            let cpu = &mut self.cpus[vcpu.get()];
            let bits = core::mem::take(&mut cpu.loaded[word]);
            let latched = core::mem::take(&mut cpu.moved[word]);
            if bits != 0 {
                let bank = self.banks.get_mut(vcpu, word);
                bank.latch |= latched;
                if bank.sourced & latched != 0 {
                    self.sources[vcpu.get()].put_back(latched);
                }
                bank.loaded &= !bits;
                bank.overridden &= !bits;
                self.linked.unloaded(word, bits, false);
                self.release(vcpu, word, bits);
            }
        }
    }

    /// Returns the sharers of word `word` that have list registers in use and for which `of_cpu`
    /// returns any bits.
    pub fn running_with(
        &self,
        vcpu: VcpuIndex,
        word: usize,
        of_cpu: impl Fn(&VcpuLrState) -> u32,
    ) -> VcpuSet {
        let mut holders = VcpuSet::EMPTY;
        for sharer in self.sharers(vcpu, word).iter() {
            let cpu = &self.cpus[sharer.get()];
            if cpu.resident && of_cpu(cpu) != 0 {
                holders = holders.union(VcpuSet::only(sharer));
            }
        }
        holders
    }
}

impl SlotClass {
    /// Returns the maintenance interrupts and traps that an interrupt of this class needs if it has
    /// no list register.
    const fn needs(self, vmcr: Vmcr) -> Hcr {
        match self {
            Self::Active => Hcr::LRENPIE.union(Hcr::TDIR),
            Self::Blocked { group1: false } => Hcr::VGRP0EIE,
            Self::Blocked { group1: true } => Hcr::VGRP1EIE,
            Self::Best | Self::Pending => {
                if vmcr.enables(false) && vmcr.enables(true) {
                    // All interrupts in list registers may be in one group, which the guest may
                    // disable.
                    Hcr::NPIE.union(Hcr::VGRP0DIE).union(Hcr::VGRP1DIE)
                } else {
                    Hcr::NPIE
                }
            }
        }
    }
}
