// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A model of the hardware's virtual CPU interface, which operates on list registers, and a caller
//! that uses a [`Vgic`] as the hypervisor does.

use super::physical::{LINKED, Physical};
use crate::{
    FlushResult, Hcr, IntId, InterfaceState, ListRegisters, Lr, MmioOutcome, REDISTRIBUTOR_SIZE,
    SgiRegister, SyncResult, VcpuIndex, VcpuSet, Vgic, Vmcr, Window,
};
use postern_base::gic::GicVersion;
use postern_base::mmio::{Access, AccessSize};
use std::ops::{Deref, DerefMut};

pub const ENABLE_BOTH: u64 = 0xf0 << 24 | 3;
pub const SPLIT: u64 = 1 << 9;
pub const BOTH_VERSIONS: [GicVersion; 2] = [GicVersion::V2, GicVersion::V3];

pub fn cpu(index: usize) -> VcpuIndex {
    VcpuIndex::new(index).unwrap()
}

pub fn id(number: u32) -> IntId {
    IntId::new(number).unwrap()
}

/// The list registers of a pCPU. Those of a GICv2 have 32 bits.
#[derive(Clone, Debug)]
pub struct Lrs {
    version: GicVersion,
    registers: Vec<Lr>,
}

impl Deref for Lrs {
    type Target = [Lr];

    fn deref(&self) -> &[Lr] {
        &self.registers
    }
}

impl DerefMut for Lrs {
    fn deref_mut(&mut self) -> &mut [Lr] {
        &mut self.registers
    }
}

impl ListRegisters for Lrs {
    fn count(&self) -> usize {
        self.registers.len()
    }

    fn read(&self, index: usize) -> Lr {
        self.registers[index]
    }

    fn write(&mut self, index: usize, value: Lr) {
        self.registers[index] = match self.version {
            GicVersion::V2 => Lr::from_gich(value.to_gich()),
            GicVersion::V3 => value,
        };
    }

    fn clear_from(&mut self, used: usize) {
        self.registers[used..].fill(Lr::EMPTY);
    }
}

/// The virtual CPU interface of one vCPU (IHI 0069H, the pseudocode of ICV_*; IHI 0048B.b 5.5,
/// GICV_*).
#[derive(Clone)]
pub struct Icv {
    pub version: GicVersion,
    pub lrs: Lrs,
    pub hcr: Hcr,
    pub eoi_count: u8,
    pub vmcr: u64,
    /// The active priorities and their groups, the running priority last.
    pub running: Vec<(u8, bool)>,
    /// The active state of the physical timer interrupt on this vCPU's pCPU.
    pub timer_active: bool,
    /// The machine's SPIs.
    pub physical: &'static Physical,
}

impl Icv {
    fn new(version: GicVersion, lrs: usize, physical: &'static Physical) -> Self {
        Self {
            version,
            physical,
            lrs: Lrs {
                version,
                registers: vec![Lr::EMPTY; lrs],
            },
            hcr: Hcr::EN,
            eoi_count: 0,
            vmcr: ENABLE_BOTH,
            running: Vec::new(),
            timer_active: false,
        }
    }

    fn interface(&self) -> InterfaceState {
        InterfaceState {
            eoi_count: self.eoi_count,
            vmcr: Vmcr::from_bits(self.vmcr),
        }
    }

    /// Returns the list register with the highest priority of those that are pending and not
    /// active.
    fn best(&self) -> Option<usize> {
        let vmcr = Vmcr::from_bits(self.vmcr);
        (0..self.lrs.len())
            .filter(|at| self.lrs[*at].is_pending() && !self.lrs[*at].is_active())
            .filter(|at| vmcr.enables(self.lrs[*at].is_group1()))
            .min_by_key(|at| self.lrs[*at].priority())
    }

    /// Returns the list register of the interrupt that is signalled.
    pub fn signalled(&self) -> Option<Lr> {
        let lr = self.lrs[self.best()?];
        let vmcr = Vmcr::from_bits(self.vmcr);
        let running = self.running.last().map_or(u8::MAX, |running| running.0);
        (lr.priority() < vmcr.priority_mask() && lr.priority() < running).then_some(lr)
    }

    /// Acknowledges the signalled interrupt, and returns its INTID.
    pub fn acknowledge(&mut self) -> Option<IntId> {
        self.read_iar().map(|iar| id(iar & 0x3ff))
    }

    /// Reads ICC_IAR, or the one of GICV_IAR and GICV_AIAR that the signalled interrupt's group
    /// needs. A GICv2's has the source of an SGI in bits 12 to 10.
    pub fn read_iar(&mut self) -> Option<u32> {
        let lr = self.signalled()?;
        let at = self.best()?;
        self.lrs[at] = lr.with_pending(false).with_active(true);
        self.running.push((lr.priority(), lr.is_group1()));
        lr.vintid().map(|intid| intid.get() | self.source_of(lr))
    }

    /// Returns the source of an interrupt in the format of GICV_IAR; zero for a GICv3.
    fn source_of(&self, lr: Lr) -> u32 {
        match (self.version, lr.source()) {
            (GicVersion::V2, Some(source)) => (source.get() as u32) << 10,
            _ => 0,
        }
    }

    /// Ends an interrupt that is not a GICv2's SGI from another vCPU than 0.
    pub fn end(&mut self, intid: IntId) {
        self.write_eoir(intid.get());
    }

    /// Writes ICC_EOIR or GICV_EOIR: ends the interrupt with this value of IAR.
    pub fn write_eoir(&mut self, iar: u32) {
        let Some(dropped) = self.running.pop() else {
            return;
        };
        let splits = Vmcr::from_bits(self.vmcr).splits_eoi();
        match self.find(iar) {
            Some(_) if splits => {}
            // An end of interrupt with the wrong priority or group deactivates nothing.
            Some(at) if (self.lrs[at].priority(), self.lrs[at].is_group1()) == dropped => {
                self.deactivate_lr(at);
            }
            Some(_) => {}
            // QEMU increments EOIcount even if the end of interrupt does not deactivate.
            None => self.eoi_count = (self.eoi_count + 1) % 32,
        }
    }

    fn find(&self, iar: u32) -> Option<usize> {
        self.lrs.iter().position(|lr| {
            lr.is_active()
                && lr.vintid().map(|intid| intid.get() | self.source_of(*lr)) == Some(iar)
        })
    }

    fn deactivate_lr(&mut self, at: usize) {
        self.lrs[at] = self.lrs[at].with_active(false);
        match self.lrs[at].pintid() {
            Some(IntId::VIRTUAL_TIMER) => self.timer_active = false,
            Some(spi) => self.physical.end(spi),
            None => {}
        }
    }

    /// Returns whether ICH_MISR_EL2 is not zero.
    pub fn maintenance(&self) -> bool {
        let vmcr = Vmcr::from_bits(self.vmcr);
        let none_pending = !self.lrs.iter().any(|lr| lr.is_pending() && !lr.is_active());
        self.lrs.iter().any(|lr| !lr.is_valid() && lr.wants_eoi())
            || self.hcr.contains(Hcr::NPIE) && none_pending
            || self.hcr.contains(Hcr::UIE) && self.lrs.iter().filter(|lr| lr.is_valid()).count() < 2
            || self.hcr.contains(Hcr::LRENPIE) && self.eoi_count > 0
            || self.hcr.contains(Hcr::VGRP0EIE) && vmcr.enables(false)
            || self.hcr.contains(Hcr::VGRP0DIE) && !vmcr.enables(false)
            || self.hcr.contains(Hcr::VGRP1EIE) && vmcr.enables(true)
            || self.hcr.contains(Hcr::VGRP1DIE) && !vmcr.enables(true)
    }
}

/// A VM with one pCPU per vCPU.
pub struct Machine {
    pub version: GicVersion,
    pub vgic: Vgic,
    /// The SPIs that [`super::physical::LINKED`] links.
    pub physical: &'static Physical,
    pub icv: Vec<Icv>,
    /// Whether each vCPU runs, with its list registers in use.
    pub loaded: Vec<bool>,
    /// Whether a kick updates its vCPU at once.
    pub prompt: bool,
}

impl Machine {
    /// Returns a machine with a GICv3 whose vCPUs are all on and running, with nothing configured.
    pub fn new(vcpus: usize, lrs: usize) -> Self {
        Self::new_of(GicVersion::V3, vcpus, lrs)
    }

    /// Returns a machine with this GIC whose vCPUs are all on and running, with nothing configured.
    pub fn new_of(version: GicVersion, vcpus: usize, lrs: usize) -> Self {
        let physical = Physical::new();
        let mut vgic = Vgic::new(vcpus, version);
        vgic.link_spis(LINKED.into_iter().map(id), physical);
        let mut machine = Self {
            version,
            vgic,
            physical,
            icv: vec![Icv::new(version, lrs, physical); vcpus],
            loaded: vec![false; vcpus],
            prompt: true,
        };
        for vcpu in 0..vcpus {
            let _ = machine.vgic.vcpu_on(cpu(vcpu));
            machine.load(vcpu);
        }
        machine
    }

    /// Returns a machine with a GICv3, configured as [`Self::configured_of`] describes.
    pub fn configured(vcpus: usize, lrs: usize) -> Self {
        Self::configured_of(GicVersion::V3, vcpus, lrs)
    }

    /// Returns a machine with both groups enabled and every interrupt enabled, with priority 0xa0,
    /// in the group that guests use: 0 of a GICv2, 1 of a GICv3. SPIs are routed to vCPU 0.
    pub fn configured_of(version: GicVersion, vcpus: usize, lrs: usize) -> Self {
        let mut machine = Self::new_of(version, vcpus, lrs);
        machine.write(0, Window::Distributor, 0x0000, 3);
        for (of, word) in (0..vcpus)
            .map(|of| (of, 0))
            .chain((1..9).map(|word| (0, word)))
        {
            if version == GicVersion::V3 {
                machine.write_word(0, of, 0x0080, word, u32::MAX);
            }
            machine.write_word(0, of, 0x0100, word, u32::MAX);
            for at in (0..32).step_by(4) {
                let (by, window, offset) = machine.locate(0, of, word, 0x0400 + 32 * word as u64);
                machine.write(by, window, offset + at, 0xa0a0_a0a0);
                if version == GicVersion::V2 && word > 0 {
                    machine.write(0, window, offset + at + 0x0400, 0x0101_0101);
                }
            }
        }
        machine
    }

    /// Returns the vCPU that accesses the register at `offset` of the distributor, which describes
    /// interrupts of word `word`, with the window and the offset there. That of a private word is
    /// in a frame of vCPU `of`; in a GICv2, only that vCPU accesses it.
    pub fn locate(&self, by: usize, of: usize, word: usize, offset: u64) -> (usize, Window, u64) {
        match self.version {
            _ if word > 0 => (by, Window::Distributor, offset),
            GicVersion::V2 => (of, Window::Distributor, offset),
            GicVersion::V3 => {
                let frame = REDISTRIBUTOR_SIZE * of as u64 + 0x1_0000;
                (by, Window::Redistributors, frame + offset)
            }
        }
    }

    fn apply(&mut self, vcpu: usize, result: FlushResult, loading: bool) {
        let icv = &mut self.icv[vcpu];
        icv.hcr = result.hcr;
        // GICH_HCR does not have these bits.
        assert!(self.version == GicVersion::V3 || !result.hcr.intersects(Hcr::TDIR | Hcr::TC));
        icv.eoi_count = 0;
        if loading {
            icv.timer_active = result.hw_active;
        } else if result.hw_deactivate {
            assert!(icv.timer_active, "deactivates an inactive interrupt");
            icv.timer_active = false;
        }
        assert_eq!(
            icv.timer_active, result.hw_active,
            "the physical timer interrupt's active state is lost or stuck"
        );
        let mut held: Vec<_> = icv.lrs.iter().filter(|lr| lr.is_valid()).collect();
        assert_eq!(held.len(), usize::from(result.count));
        held.sort_by_key(|lr| lr.vintid());
        held.dedup_by_key(|lr| lr.vintid());
        assert_eq!(
            held.len(),
            usize::from(result.count),
            "an INTID in two list registers"
        );
        for lr in held {
            assert!(!(lr.is_linked() && lr.is_active() && lr.is_pending()));
            if let Some(spi) = lr.pintid().filter(|spi| !spi.is_private()) {
                assert_eq!(lr.vintid(), Some(spi));
                assert!(
                    icv.physical.is_active(spi),
                    "{spi:?} is linked and inactive"
                );
            }
        }
        assert!(!icv.maintenance(), "a maintenance interrupt at entry");
    }

    /// Makes a vCPU exit, synchronise and enter again.
    pub fn update(&mut self, vcpu: usize) {
        if !self.loaded[vcpu] {
            return;
        }
        let icv = &mut self.icv[vcpu];
        let (synced, result) = self.vgic.resync(cpu(vcpu), icv.interface(), &mut icv.lrs);
        self.apply(vcpu, result, false);
        self.kick(synced.kick.without(cpu(vcpu)));
        assert!(
            !self.prompt || !self.vgic.needs_flush(cpu(vcpu)),
            "the vCPU needs a flush after an update"
        );
    }

    /// Unloads a vCPU from its pCPU.
    pub fn unload(&mut self, vcpu: usize) {
        if core::mem::take(&mut self.loaded[vcpu]) {
            let icv = &mut self.icv[vcpu];
            let SyncResult { kick, hw_active } =
                self.vgic.sync(cpu(vcpu), &icv.lrs, icv.interface());
            assert_eq!(icv.timer_active, hw_active);
            icv.timer_active = false;
            icv.lrs.fill(Lr::EMPTY);
            icv.eoi_count = 0;
            self.kick(kick);
        }
    }

    /// Loads a vCPU on a pCPU.
    pub fn load(&mut self, vcpu: usize) {
        if !core::mem::replace(&mut self.loaded[vcpu], true) {
            let icv = &mut self.icv[vcpu];
            let result = self
                .vgic
                .flush(cpu(vcpu), Vmcr::from_bits(icv.vmcr), &mut icv.lrs);
            self.apply(vcpu, result, true);
        }
    }

    pub fn kick(&mut self, kick: VcpuSet) {
        for vcpu in kick.iter() {
            assert!(self.vgic.needs_flush(vcpu), "unnecessary kick");
            if self.prompt {
                self.update(vcpu.get());
            }
        }
    }

    /// Updates each vCPU that needs a flush or has a maintenance interrupt.
    pub fn settle(&mut self) {
        for vcpu in 0..self.icv.len() {
            if self.loaded[vcpu]
                && (self.vgic.needs_flush(cpu(vcpu)) || self.icv[vcpu].maintenance())
            {
                self.update(vcpu);
            }
        }
    }

    /// Executes an access by a vCPU once. The vCPUs in the outcome were not kicked.
    pub fn execute(&mut self, vcpu: usize, window: Window, access: &Access) -> MmioOutcome {
        let was_loaded = self.loaded[vcpu] && Vgic::needs_sync(access);
        if was_loaded {
            let icv = &mut self.icv[vcpu];
            let result = self.vgic.sync(cpu(vcpu), &icv.lrs, icv.interface());
            icv.eoi_count = 0;
            self.kick(result.kick);
        }
        let outcome = self.vgic.access(cpu(vcpu), window, access);
        if was_loaded {
            let icv = &mut self.icv[vcpu];
            let vmcr = Vmcr::from_bits(icv.vmcr);
            let result = self.vgic.flush(cpu(vcpu), vmcr, &mut icv.lrs);
            self.apply(vcpu, result, false);
        }
        outcome
    }

    /// Does an access by a vCPU, and executes it until it is complete.
    pub fn access(&mut self, vcpu: usize, window: Window, access: Access) -> u64 {
        for _ in 0..20 {
            match self.execute(vcpu, window, &access) {
                MmioOutcome::Done { value, kick } => {
                    self.kick(kick.without(cpu(vcpu)));
                    return value;
                }
                MmioOutcome::Retry { sync } => {
                    assert!(!sync.contains(cpu(vcpu)));
                    for other in sync.iter() {
                        assert!(self.vgic.needs_flush(other));
                        self.update(other.get());
                    }
                }
            }
        }
        panic!("{access:?} does not complete");
    }

    pub fn read(&mut self, vcpu: usize, window: Window, offset: u64) -> u32 {
        self.access(vcpu, window, Access::read(offset, AccessSize::Word)) as u32
    }

    pub fn write(&mut self, vcpu: usize, window: Window, offset: u64, value: u32) {
        let access = Access::write(offset, AccessSize::Word, u64::from(value));
        self.access(vcpu, window, access);
    }

    /// Reads a word of a register with one bit per interrupt. `of` applies to private interrupts.
    pub fn read_word(&mut self, vcpu: usize, of: usize, register: u64, word: usize) -> u32 {
        let offset = register + 4 * word as u64;
        let (by, window, offset) = self.locate(vcpu, of, word, offset);
        self.read(by, window, offset)
    }

    pub fn write_word(&mut self, vcpu: usize, of: usize, register: u64, word: usize, value: u32) {
        let offset = register + 4 * word as u64;
        let (by, window, offset) = self.locate(vcpu, of, word, offset);
        self.write(by, window, offset, value);
    }

    pub fn sgi(&mut self, from: usize, register: SgiRegister, value: u64) {
        let kick = self.vgic.send_sgi(cpu(from), register, value);
        self.kick(kick);
    }

    pub fn acknowledge(&mut self, vcpu: usize) -> Option<IntId> {
        let taken = self.icv[vcpu].acknowledge();
        if self.prompt {
            self.settle();
        }
        taken
    }

    pub fn end(&mut self, vcpu: usize, intid: IntId) {
        self.write_eoir(vcpu, intid.get());
    }

    pub fn write_eoir(&mut self, vcpu: usize, iar: u32) {
        self.icv[vcpu].write_eoir(iar);
        if self.prompt {
            self.settle();
        }
    }

    pub fn deactivate(&mut self, vcpu: usize, intid: IntId) {
        self.write_dir(vcpu, intid.get());
    }

    /// Writes ICC_DIR or GICC_DIR. The hardware model handles the write if it is not trapped.
    pub fn write_dir(&mut self, vcpu: usize, iar: u32) {
        let icv = &mut self.icv[vcpu];
        if self.version == GicVersion::V2 || icv.hcr.contains(Hcr::TDIR) {
            let result = self.vgic.sync(cpu(vcpu), &icv.lrs, icv.interface());
            icv.eoi_count = 0;
            let vmcr = Vmcr::from_bits(icv.vmcr);
            let kick = self.vgic.deactivate(cpu(vcpu), vmcr, u64::from(iar));
            let icv = &mut self.icv[vcpu];
            let flushed = self.vgic.flush(cpu(vcpu), vmcr, &mut icv.lrs);
            self.apply(vcpu, flushed, false);
            self.kick(result.kick.union(kick).without(cpu(vcpu)));
        } else if Vmcr::from_bits(icv.vmcr).splits_eoi() {
            match icv.find(iar) {
                Some(at) => icv.deactivate_lr(at),
                None => icv.eoi_count = (icv.eoi_count + 1) % 32,
            }
        }
        if self.prompt {
            self.settle();
        }
    }
}

/// Returns the window and offset of a word of a GICv3's register with one bit per interrupt.
pub fn place(of: usize, register: u64, word: usize) -> (Window, u64) {
    if word == 0 {
        let frame = REDISTRIBUTOR_SIZE * of as u64 + 0x1_0000;
        (Window::Redistributors, frame + register)
    } else {
        (Window::Distributor, register + 4 * word as u64)
    }
}
