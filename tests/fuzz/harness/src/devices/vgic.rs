// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The interrupt controller, driven as the hypervisor does.

use super::physical::{LINKED, Physical};
use crate::input::Input;
use postern_base::gic::GicVersion;
use postern_base::ids::VcpuIndex;
use postern_base::mmio::{Access, AccessSize};
use postern_vgic::{
    DISTRIBUTOR_SIZE, FlushResult, GICV2_DISTRIBUTOR_SIZE, Hcr, IntId, InterfaceState, IrqLine, Lr,
    MmioOutcome, REDISTRIBUTOR_SIZE, SgiRegister, VcpuSet, Vgic, Vmcr, Window,
};

/// VMCR with both groups enabled and the lowest priority mask.
const OPEN: u64 = 0xf0 << 24 | 3;

/// The hardware state of a vCPU.
struct Cpu {
    index: VcpuIndex,
    /// Whether the vCPU is on a pCPU, with its list registers loaded.
    loaded: bool,
    online: bool,
    lrs: Vec<Lr>,
    eoi_count: u8,
    vmcr: u64,
    /// Whether the physical timer interrupt is active on its pCPU.
    timer_active: bool,
    tdir: bool,
}

/// A VM's controller and its vCPUs.
pub(super) struct Machine {
    version: GicVersion,
    vgic: Vgic,
    cpus: Vec<Cpu>,
}

impl Machine {
    pub(super) fn new(version: GicVersion, vcpus: usize, lrs: usize) -> Self {
        let cpus = (0..vcpus).filter_map(VcpuIndex::new).map(|index| Cpu {
            index,
            loaded: false,
            online: false,
            lrs: vec![Lr::EMPTY; lrs],
            eoi_count: 0,
            vmcr: OPEN,
            timer_active: false,
            tdir: false,
        });
        Physical::reset();
        let mut vgic = Vgic::new(vcpus, version);
        vgic.link_spis(LINKED.into_iter().filter_map(IntId::new), &Physical);
        let mut machine = Self {
            version,
            vgic,
            cpus: cpus.collect(),
        };
        for at in 0..vcpus {
            machine.turn_on(at);
        }
        machine
    }

    fn turn_on(&mut self, at: usize) {
        let cpu = &mut self.cpus[at];
        if cpu.online {
            return;
        }
        (cpu.online, cpu.vmcr) = (true, OPEN);
        let kick = self.vgic.vcpu_on(cpu.index);
        self.kicked(kick);
        self.load(at);
    }

    fn turn_off(&mut self, at: usize) {
        if !self.cpus[at].online {
            return;
        }
        self.unload(at);
        self.cpus[at].online = false;
        let kick = self.vgic.vcpu_off(self.cpus[at].index);
        assert!(!kick.contains(self.cpus[at].index));
        self.kicked(kick);
    }

    /// Checks that each kicked vCPU has work and is on.
    fn kicked(&self, kick: VcpuSet) {
        for vcpu in kick.iter() {
            assert!(self.vgic.needs_flush(vcpu), "kicked for nothing");
            assert!(self.cpus.iter().any(|cpu| cpu.index == vcpu && cpu.online));
        }
    }

    fn read_back(&mut self, at: usize) {
        let cpu = &mut self.cpus[at];
        if !cpu.loaded {
            return;
        }
        let interface = InterfaceState {
            eoi_count: cpu.eoi_count,
            vmcr: Vmcr::from_bits(cpu.vmcr),
        };
        let synced = self.vgic.sync(cpu.index, &cpu.lrs[..], interface);
        assert_eq!(synced.hw_active, cpu.timer_active);
        cpu.eoi_count = 0;
        self.kicked(synced.kick);
    }

    fn unload(&mut self, at: usize) {
        self.read_back(at);
        let cpu = &mut self.cpus[at];
        cpu.loaded = false;
        cpu.timer_active = false;
        cpu.lrs.fill(Lr::EMPTY);
    }

    fn load(&mut self, at: usize) {
        let cpu = &mut self.cpus[at];
        if !cpu.online || cpu.loaded {
            return;
        }
        cpu.loaded = true;
        let vmcr = Vmcr::from_bits(cpu.vmcr);
        let flushed = self.vgic.flush(cpu.index, vmcr, &mut cpu.lrs[..]);
        cpu.timer_active = flushed.hw_active;
        self.flushed(at, flushed);
    }

    fn fill(&mut self, at: usize) {
        let cpu = &mut self.cpus[at];
        if !cpu.loaded {
            return;
        }
        let vmcr = Vmcr::from_bits(cpu.vmcr);
        let flushed = self.vgic.flush(cpu.index, vmcr, &mut cpu.lrs[..]);
        if flushed.hw_deactivate {
            assert!(cpu.timer_active, "deactivates what is not active");
            cpu.timer_active = false;
        }
        assert_eq!(cpu.timer_active, flushed.hw_active);
        self.flushed(at, flushed);
    }

    fn flushed(&mut self, at: usize, flushed: FlushResult) {
        let cpu = &mut self.cpus[at];
        cpu.tdir = match self.version {
            // Each write to GICC_DIR traps, and list registers have 32 bits.
            GicVersion::V2 => {
                assert!(!flushed.hcr.intersects(Hcr::TDIR | Hcr::TC));
                for lr in &cpu.lrs {
                    assert_eq!(Lr::from_gich(lr.to_gich()), *lr, "more than GICH_LR has");
                }
                true
            }
            GicVersion::V3 => flushed.hcr.contains(Hcr::TDIR),
        };
        assert!(flushed.hcr.contains(Hcr::EN));
        let count = usize::from(flushed.count);
        assert!(count <= cpu.lrs.len());
        let (used, unused) = cpu.lrs.split_at(count);
        assert!(unused.iter().all(|lr| *lr == Lr::EMPTY));
        let mut seen = Vec::new();
        for lr in used {
            assert!(lr.is_valid());
            let intid = lr.vintid().expect("an interrupt that there is");
            assert!(!seen.contains(&intid), "an INTID in two list registers");
            seen.push(intid);
            assert!(!(lr.is_linked() && lr.is_active() && lr.is_pending()));
            assert!(!lr.is_linked() || lr.pintid() == Some(intid));
            assert!(!lr.is_linked() || intid.is_private() || Physical::is_active(intid));
        }
    }

    /// Takes one step of the hardware, a device, a guest or the hypervisor.
    pub(super) fn step(&mut self, input: &mut Input<'_>) {
        let at = input.below(self.cpus.len() as u64) as usize;
        let index = self.cpus[at].index;
        match input.below(24) {
            0..=8 => self.access(at, input),
            9 => {
                let register =
                    input.pick(&[SgiRegister::Sgi1r, SgiRegister::Asgi1r, SgiRegister::Sgi0r]);
                let kick = self.vgic.send_sgi(index, register, input.double());
                self.kicked(kick);
            }
            10 | 11 => {
                let intid = IntId::new(u32::from(input.half() % 300));
                let line = intid.and_then(|id| IrqLine::spi(id).or(IrqLine::ppi(index, id)));
                if let Some(line) = line {
                    let kick = match input.below(3) {
                        0 => self.vgic.pulse(line),
                        level => self.vgic.set_line(line, level == 1),
                    };
                    self.kicked(kick);
                }
            }
            // The timer cannot fire while its last interrupt is active.
            12 if self.cpus[at].loaded && !self.cpus[at].timer_active => {
                self.cpus[at].timer_active = true;
                let kick = self.vgic.timer_fired(index);
                self.kicked(kick);
            }
            13..=15 => self.acknowledge(at, input),
            16 | 17 => self.end_one(at, input),
            18 if self.cpus[at].loaded => {
                self.cpus[at].vmcr = input.double();
            }
            19 => self.deactivate(at, input),
            20 => self.unload(at),
            21 => self.load(at),
            22 if input.below(4) == 0 => self.turn_off(at),
            22 => self.turn_on(at),
            _ => {
                // The device's input is high whenever it may interrupt.
                if let Some(spi) = Physical::take(input.pick(&LINKED)) {
                    let kick = self.vgic.spi_fired(spi);
                    self.kicked(kick);
                }
            }
        }
        if self.vgic.needs_flush(index) || input.below(4) == 0 {
            self.read_back(at);
            self.fill(at);
        }
    }

    fn access(&mut self, at: usize, input: &mut Input<'_>) {
        let size = AccessSize::from_sas(if input.below(4) == 0 {
            input.byte().into()
        } else {
            2
        });
        let window = if input.flag() {
            Window::Distributor
        } else {
            Window::Redistributors
        };
        let most = match (window, self.version) {
            (Window::Distributor, GicVersion::V2) => GICV2_DISTRIBUTOR_SIZE,
            (Window::Distributor, GicVersion::V3) => DISTRIBUTOR_SIZE,
            (Window::Redistributors, _) => REDISTRIBUTOR_SIZE * self.cpus.len() as u64,
        };
        let offset = match (window, input.below(4)) {
            (_, 0) => u64::from(input.word()) % most,
            (Window::Distributor, 1) => match self.version {
                // The registers of SGIs.
                GicVersion::V2 => 0xf00 + input.below(0x30),
                GicVersion::V3 => 0x6100 + input.below(256) * 8,
            },
            (Window::Distributor, _) => u64::from(input.half() % 0xd00),
            (Window::Redistributors, _) => {
                let frame = REDISTRIBUTOR_SIZE * input.below(self.cpus.len() as u64);
                frame + 0x1_0000 * input.below(2) + u64::from(input.half() % 0xd00)
            }
        };
        let offset = if input.below(8) == 0 {
            offset
        } else {
            offset & !(size.bytes() - 1)
        };
        let access = if input.flag() {
            Access::write(offset, size, input.double())
        } else {
            Access::read(offset, size)
        };
        let index = self.cpus[at].index;
        let mut left = 2 * self.cpus.len();
        loop {
            let needs_sync = Vgic::needs_sync(&access);
            if needs_sync {
                self.read_back(at);
            }
            let outcome = self.vgic.access(index, window, &access);
            if needs_sync {
                self.fill(at);
            }
            match outcome {
                MmioOutcome::Done { value, kick } => {
                    assert_eq!(value, size.truncate(value));
                    assert!(access.write.is_none() || value == 0);
                    self.kicked(kick.without(index));
                    return;
                }
                MmioOutcome::Retry { sync } => {
                    assert!(!sync.contains(index) && !sync.is_empty());
                    for other in sync.iter() {
                        assert!(self.vgic.needs_flush(other));
                        self.read_back(other.get());
                        self.fill(other.get());
                    }
                }
            }
            left -= 1;
            assert!(left > 0, "{access:?} does not end");
        }
    }

    /// The guest acknowledges an interrupt in one of its list registers.
    fn acknowledge(&mut self, at: usize, input: &mut Input<'_>) {
        let cpu = &mut self.cpus[at];
        let which = input.below(cpu.lrs.len() as u64) as usize;
        let lr = cpu.lrs[which];
        if cpu.loaded && lr.is_pending() && !lr.is_active() {
            cpu.lrs[which] = lr.with_pending(false).with_active(true);
        }
    }

    /// The guest ends an interrupt, perhaps one that is in no list register.
    fn end_one(&mut self, at: usize, input: &mut Input<'_>) {
        let cpu = &mut self.cpus[at];
        let which = input.below(cpu.lrs.len() as u64 + 1) as usize;
        match cpu.lrs.get(which) {
            Some(lr) if lr.is_active() => {
                match lr.pintid() {
                    Some(IntId::VIRTUAL_TIMER) => cpu.timer_active = false,
                    Some(spi) => Physical::end(spi),
                    None => {}
                }
                cpu.lrs[which] = lr.with_active(false);
            }
            None if cpu.loaded => cpu.eoi_count = (cpu.eoi_count + 1) % 32,
            _ => {}
        }
    }

    fn deactivate(&mut self, at: usize, input: &mut Input<'_>) {
        let value = input.half().into();
        if !self.cpus[at].tdir || !self.cpus[at].loaded {
            return;
        }
        self.read_back(at);
        let vmcr = Vmcr::from_bits(self.cpus[at].vmcr);
        let kick = self.vgic.deactivate(self.cpus[at].index, vmcr, value);
        self.fill(at);
        self.kicked(kick.without(self.cpus[at].index));
    }

    /// Switches everything off and starts anew.
    pub(super) fn end(&mut self) {
        for at in 0..self.cpus.len() {
            self.turn_off(at);
        }
        self.vgic.reset();
        assert!(Physical::is_quiet());
        for cpu in &self.cpus {
            assert!(!self.vgic.needs_flush(cpu.index));
            assert!(!self.vgic.has_deliverable(cpu.index));
        }
        for at in 0..self.cpus.len() {
            self.turn_on(at);
        }
    }
}
