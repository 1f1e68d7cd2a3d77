// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The sources of a GICv2's SGIs: an SGI from two vCPUs is two interrupts (IHI 0048B.b 2.2.1).
//!
//! A list register holds an SGI from one source. While others are pending, its end exits, and the
//! next source gets a list register. The sources of an active SGI wait for its end.

use super::intid::{IntId, VcpuSet};
use super::lr::Lr;
use super::sgi::{SgiTargets, index};
use super::state::VgicState;
use postern_base::ids::VcpuIndex;

impl VgicState {
    /// Moves an SGI's state into a list register: its active state, or one of its sources.
    // Not inlined, so that a GICv3 does not pay for it.
    #[cold]
    #[inline(never)]
    pub fn load_sgi(&mut self, vcpu: VcpuIndex, bit: u32) -> Lr {
        let cpu = &mut self.cpus[vcpu.get()];
        let bank = self.banks.get_mut(vcpu, 0);
        let sources = &mut self.sources[vcpu.get()];
        let sgi = index(bit);
        let active = bank.active & bit != 0;
        if !active && let Some(source) = sources.pending[sgi].iter().next() {
            sources.current[sgi] = source;
            sources.pending[sgi] = sources.pending[sgi].without(source);
            cpu.moved[0] |= bit;
            if sources.pending[sgi].is_empty() {
                bank.latch &= !bit;
            }
        }
        cpu.loaded[0] |= bit;
        bank.loaded |= bit;
        Lr::new(
            IntId::at(0, bit),
            bank.priority_of(bit),
            bank.is_group1(bit),
        )
        .with_active(active)
        .with_pending(!active)
        .with_source(sources.current[sgi])
        .with_eoi(bank.latch & bit != 0)
    }

    /// Makes the SGI `intid` from `from` pending at its targets.
    pub fn send_sgi_from(&mut self, from: VcpuIndex, intid: IntId, targets: SgiTargets) {
        for target in self.sgi_targets(from, targets).iter() {
            self.add_sources(target, intid, VcpuSet::only(from));
        }
    }

    /// Returns the vCPUs from which an SGI of `vcpu` is pending.
    pub fn sgi_sources(&self, vcpu: VcpuIndex, intid: IntId) -> VcpuSet {
        let sources = &self.sources[vcpu.get()];
        let sgi = index(intid.bit());
        if self.cpus[vcpu.get()].moved[0] & intid.bit() == 0 {
            sources.pending[sgi]
        } else {
            sources.pending[sgi].union(VcpuSet::only(sources.current[sgi]))
        }
    }

    /// Makes an SGI of `vcpu` pending from each vCPU in `added`.
    pub fn add_sources(&mut self, vcpu: VcpuIndex, intid: IntId, added: VcpuSet) {
        let pending = &mut self.sources[vcpu.get()].pending[index(intid.bit())];
        let all = pending.union(added);
        // A source that is pending already, outside a list register, changes nothing.
        if all != *pending {
            *pending = all;
            self.banks.get_mut(vcpu, 0).latch |= intid.bit();
            self.touch(vcpu, 0, intid.bit());
        }
    }

    /// Ends the pending state of an SGI of `vcpu` from each vCPU in `removed`, including the state
    /// in a list register.
    pub fn remove_sources(&mut self, vcpu: VcpuIndex, intid: IntId, removed: VcpuSet) {
        if self
            .sgi_sources(vcpu, intid)
            .intersection(removed)
            .is_empty()
        {
            return;
        }
        let sources = &mut self.sources[vcpu.get()];
        let bit = intid.bit();
        let sgi = index(bit);
        let left = sources.pending[sgi].difference(removed);
        sources.pending[sgi] = left;
        if removed.contains(sources.current[sgi]) {
            self.cpus[vcpu.get()].moved[0] &= !bit;
        }
        if left.is_empty() {
            self.banks.get_mut(vcpu, 0).latch &= !bit;
        }
        self.touch(vcpu, 0, bit);
    }
}
