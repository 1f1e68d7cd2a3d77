// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The registers with one bit per interrupt, whose values depend on running vCPUs' list registers.

use super::intid::VcpuSet;
use super::state::{SyncWait, TIMER, VgicState};
use postern_base::ids::VcpuIndex;

/// A register that has one bit per interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BitRegister {
    Group,
    SetEnable,
    ClearEnable,
    SetPending,
    ClearPending,
    SetActive,
    ClearActive,
}

/// The number of flushes of the reading vCPU after which its wait begins again: the vCPU did
/// something else in between, so the other vCPUs' last synchronisation is too old.
const WAIT_FLUSHES: u32 = 64;

impl VgicState {
    /// Reads word `word` of `of` for `vcpu`.
    ///
    /// # Errors
    /// The vCPUs that must be synchronised first.
    pub fn read_bits(
        &mut self,
        vcpu: VcpuIndex,
        of: VcpuIndex,
        word: usize,
        register: BitRegister,
    ) -> Result<u32, VcpuSet> {
        let bank = self.banks.get(of, word);
        match register {
            BitRegister::Group => Ok(bank.group1),
            BitRegister::SetEnable | BitRegister::ClearEnable => Ok(bank.enabled),
            BitRegister::SetPending | BitRegister::ClearPending => {
                let pending = bank.pending();
                let mut moved = 0;
                for sharer in self.sharers(of, word).iter() {
                    moved |= self.cpus[sharer.get()].moved[word];
                }
                // Only a latch that is in a list register may have been acknowledged since.
                let holders = self.running_with(of, word, |cpu| cpu.moved[word]);
                self.await_sync(vcpu, (of, word), holders)?;
                Ok(pending | moved)
            }
            BitRegister::SetActive | BitRegister::ClearActive => {
                let active = bank.active;
                let known = bank.overridden;
                // An active interrupt without a list register may have been deactivated as well.
                let holders = self.running_with(of, word, |cpu| {
                    cpu.loaded[word] & !known | cpu.owned[word] & active & !known
                });
                self.await_sync(vcpu, (of, word), holders)?;
                Ok(active)
            }
        }
    }

    /// Returns `Ok` once every other vCPU in `holders` was synchronised since this read of the word
    /// `of` began. The set of vCPUs that the read waits for never grows, so the read does not wait
    /// again for a vCPU that continues with new list registers.
    ///
    /// # Errors
    /// The vCPUs that must be synchronised first.
    fn await_sync(
        &mut self,
        vcpu: VcpuIndex,
        of: (VcpuIndex, usize),
        holders: VcpuSet,
    ) -> Result<(), VcpuSet> {
        let holders = holders.without(vcpu);
        if holders.is_empty() {
            self.set_wait(vcpu, None);
            return Ok(());
        }
        let cpu = &self.cpus[vcpu.get()];
        let wait = cpu
            .wait
            .filter(|wait| wait.of == of)
            .filter(|wait| cpu.flushes.wrapping_sub(wait.since) < WAIT_FLUSHES)
            .unwrap_or(SyncWait {
                of,
                unsynced: holders,
                since: cpu.flushes,
            });
        let left = holders.intersection(wait.unsynced);
        if left.is_empty() {
            self.set_wait(vcpu, None);
            return Ok(());
        }
        self.set_wait(vcpu, Some(wait));
        self.stale = self.stale.union(left);
        Err(left)
    }

    /// Writes word `word` of `of` on behalf of `vcpu`.
    pub fn write_bits(
        &mut self,
        vcpu: VcpuIndex,
        of: VcpuIndex,
        word: usize,
        register: BitRegister,
        bits: u32,
    ) {
        let bank = self.banks.get_mut(of, word);
        match register {
            BitRegister::Group => {
                let changed = bank.group1 ^ bits;
                bank.group1 = bits;
                self.touch(of, word, changed);
            }
            BitRegister::SetEnable => {
                let changed = bits & !bank.enabled;
                bank.enabled |= bits;
                self.touch(of, word, changed);
            }
            BitRegister::ClearEnable => {
                let changed = bits & bank.enabled;
                bank.enabled &= !bits;
                let holders = self
                    .running_with(of, word, |cpu| cpu.loaded[word] & changed)
                    .without(vcpu);
                let disabling = if word == 0 {
                    &mut self.disabling_private
                } else {
                    &mut self.disabling
                };
                *disabling = disabling.union(holders);
                self.touch(of, word, changed);
            }
            BitRegister::SetPending => {
                bank.latch |= bits;
                self.touch(of, word, bits);
            }
            BitRegister::ClearPending => {
                self.clear_latch(of, word, bits);
                if word == 0 && bits & TIMER != 0 {
                    // The physical interrupt may have to be deactivated; see `flush`.
                    self.stale = self.stale.union(VcpuSet::only(of));
                }
            }
            BitRegister::SetActive => self.set_active(of, word, bits),
            BitRegister::ClearActive => self.clear_active(of, word, bits),
        }
    }
}
