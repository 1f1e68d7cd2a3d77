// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The physical GIC, as EL2 uses it: in EOImode 1, so that EL2 drops the priority and a guest's end of interrupt
//! deactivates what list registers link to hardware.
//!
//! The registers in memory belong to [`gicv2`] and [`gicv3`], which are plain code.

use super::bus::Machine;
use super::distributor::{
    self, Acknowledged, FIRST_SPECIAL_INTID, InterfaceBase, LAST_SPECIAL_INTID,
};
use super::gicv2::{self, InterfaceError, InterfaceMask};
use super::gicv3::{self, GicError};
use super::percpu::{self, PerPcpu};
use super::registers::*;
use super::{barrier, timer, virtual_interface};
use aarch64_cpu::registers::{ICC_SRE_EL2, Readable, Writeable};
use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering};
use mediator::addr::Pa;
use postern_base::ids::{MAX_PCPUS, PcpuIndex};
use postern_boot_tree::{Gic, GicRegisters, Interrupt, Mpidr};
use postern_exceptions::registers::controls;
use spin::Once;
use thiserror::Error;

pub use super::distributor::KICK_INTID;

/// INTID of the virtual interface's maintenance interrupt (PPI 9).
pub const MAINTENANCE_INTID: u32 = 25;
/// The SGIs that the secure world may donate to the normal world, a bit each: 8 to 15. Those that it keeps stay as they
/// are, whatever EL2 writes.
pub const DONATED_SGIS: u32 = 0xff00;

/// Returns whether an interrupt is an SGI that the secure world may donate. EL2 has enabled it on every pCPU.
pub const fn is_donated_sgi(intid: u32) -> bool {
    intid < 32 && DONATED_SGIS >> intid & 1 == 1
}

/// ICC_PMR_EL1 that masks no interrupt.
const LOWEST_PRIORITY: u64 = 0xff;
/// ICC_CTLR_EL1.EOImode: the end of an interrupt only drops the priority.
const CTLR_EOI_MODE: u64 = 1 << 1;
/// ICC_IGRPEN1_EL1.Enable.
const IGRPEN1_ENABLE: u64 = 1;

static DISTRIBUTOR: Once<Pa> = Once::new();
/// The private frame of each pCPU ([`distributor`]).
static PRIVATE: PerPcpu<Cell<Pa>> = PerPcpu::new([const { Cell::new(Pa::new(0)) }; MAX_PCPUS]);
/// How the GIC names each pCPU as a target: its MPIDR, or in a GICv2 its interface's bit.
static TARGETS: [AtomicU64; MAX_PCPUS] = [const { AtomicU64::new(0) }; MAX_PCPUS];
/// The CPU interface's address in a GICv2; 0 in a machine with a GICv3.
static CPU_INTERFACE: AtomicU64 = AtomicU64::new(0);

/// The CPU interface of this machine.
#[derive(Clone, Copy)]
pub enum CpuInterface {
    /// That of a GICv3: ICC_*_EL1.
    SystemRegisters,
    /// That of a GICv2, at this address: GICC_*.
    Memory(InterfaceBase),
}

/// Returns the CPU interface of this machine. The caller keeps it for a series of accesses.
#[inline]
pub fn cpu_interface() -> CpuInterface {
    match InterfaceBase::new(CPU_INTERFACE.load(Ordering::Relaxed)) {
        None => CpuInterface::SystemRegisters,
        Some(base) => CpuInterface::Memory(base),
    }
}

/// The reason that a pCPU's part of the GIC cannot be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PcpuError {
    /// A register does not get ready.
    #[error(transparent)]
    NotReady(#[from] GicError),
    /// A GICv3 has no redistributor for the pCPU.
    #[error("it has no redistributor: check the GICv3 node's reg")]
    NoRedistributor,
    /// A GICv2 has no CPU interface where the tree says.
    #[error(transparent)]
    NoInterface(#[from] InterfaceError),
    /// A GICv2 does not say which interface is the pCPU's.
    #[error("GICD_ITARGETSR0 to 7 read {0:#x}, not one CPU interface: check the GICv2 node's reg")]
    NoTarget(u8),
}

/// Sets the distributor up, and chooses how this machine's GIC is accessed. Once, on the boot pCPU, before all other
/// functions.
///
/// # Errors
/// It does not get ready.
pub fn init_distributor(gic: &Gic) -> Result<(), GicError> {
    let base = gic.distributor.start();
    DISTRIBUTOR.call_once(|| base);
    match &gic.registers {
        GicRegisters::V3(_) => gicv3::init_distributor(&Machine, base),
        GicRegisters::V2(v2) => {
            CPU_INTERFACE.store(v2.cpu_interface.start().get(), Ordering::Relaxed);
            virtual_interface::set_memory(v2.virtual_control.start());
            gicv2::init_distributor(&Machine, base);
            Ok(())
        }
    }
}

/// Sets up this pCPU's part of the GIC, and enables EL2's own private interrupts. `mpidr` is the pCPU's, one of `pcpus`.
///
/// # Errors
/// It is not there or does not get ready.
pub fn init_pcpu(gic: &Gic, mpidr: Mpidr, pcpus: usize) -> Result<(), PcpuError> {
    let own = 1 << KICK_INTID
        | DONATED_SGIS
        | 1 << MAINTENANCE_INTID
        | 1 << timer::HYPERVISOR_TIMER_INTID
        | 1 << timer::VIRTUAL_TIMER_INTID;
    let (private, target) = match &gic.registers {
        GicRegisters::V3(redistributors) => {
            let regions = redistributors.regions.iter();
            let regions = regions.map(|range| (range.start(), range.end()));
            let stride = redistributors.stride;
            let redistributor = gicv3::find_redistributor(&Machine, regions, stride, mpidr)
                .ok_or(PcpuError::NoRedistributor)?;
            gicv3::init_redistributor(&Machine, redistributor, own)?;
            init_system_registers();
            (gicv3::private_frame(redistributor), mpidr.get())
        }
        GicRegisters::V2(v2) => {
            let distributor = gic.distributor.start();
            let cpu = v2.cpu_interface.start();
            let mask = gicv2::init_cpu_interface(&Machine, distributor, cpu, own)?;
            // With one pCPU there is nothing to choose, and the registers read zero.
            if pcpus > 1 && !mask.is_one() {
                return Err(PcpuError::NoTarget(mask.bits()));
            }
            (distributor, mask.bits().into())
        }
    };
    PRIVATE.this().set(private);
    TARGETS[percpu::index()].store(target, Ordering::Release);
    virtual_interface::this().init();
    Ok(())
}

/// Sets the CPU interface of a GICv3 up.
fn init_system_registers() {
    // ICC_SRE_EL1 counts only while ICC_SRE_EL2.SRE is set, so that comes first.
    ICC_SRE_EL2.set(controls::ICC_SRE_EL2);
    barrier::isb();
    ICC_SRE_EL1.set(controls::ICC_SRE_EL1);
    barrier::isb();
    ICC_PMR_EL1.set(LOWEST_PRIORITY);
    ICC_BPR1_EL1.set(0);
    ICC_CTLR_EL1.set(CTLR_EOI_MODE);
    ICC_IGRPEN1_EL1.set(IGRPEN1_ENABLE);
    barrier::isb();
}

fn target(pcpu: PcpuIndex) -> u64 {
    TARGETS[pcpu.get()].load(Ordering::Acquire)
}

/// Returns a GICv2's name for a pCPU.
fn interface_mask(pcpu: PcpuIndex) -> InterfaceMask {
    InterfaceMask::new(target(pcpu) as u8)
}

/// Enables an SPI and routes it to a pCPU, which is up. Once each.
pub fn enable_spi(spi: Interrupt, pcpu: PcpuIndex) {
    configure_spi(spi, pcpu);
    set_spi_enabled(spi.intid.get(), true);
}

/// Enables or disables an SPI, which was set up.
pub fn set_spi_enabled(intid: u32, enabled: bool) {
    if let Some(base) = DISTRIBUTOR.get() {
        distributor::set_spi_enabled(&Machine, *base, intid, enabled);
    }
}

/// Makes an SPI pending, or takes back that it is.
pub fn set_spi_pending(intid: u32, pending: bool) {
    if let Some(base) = DISTRIBUTOR.get() {
        distributor::set_spi_pending(&Machine, *base, intid, pending);
    }
}

/// Makes an SPI inactive.
pub fn deactivate_spi(intid: u32) {
    if let Some(base) = DISTRIBUTOR.get() {
        distributor::deactivate_spi(&Machine, *base, intid);
    }
}

/// Sets up an SPI, which stays disabled, and routes it to a pCPU, which is up.
pub fn configure_spi(spi: Interrupt, pcpu: PcpuIndex) {
    let Some(base) = DISTRIBUTOR.get() else {
        return;
    };
    let intid = spi.intid.get();
    match cpu_interface() {
        CpuInterface::SystemRegisters => {
            let mpidr = Mpidr::new(target(pcpu));
            gicv3::configure_spi(&Machine, *base, intid, spi.trigger, mpidr);
        }
        CpuInterface::Memory(_) => {
            let mask = interface_mask(pcpu);
            gicv2::configure_spi(&Machine, *base, intid, spi.trigger, mask);
        }
    }
}

/// Routes an SPI to a pCPU, which is up.
pub fn route_spi(spi: Interrupt, pcpu: PcpuIndex) {
    let Some(base) = DISTRIBUTOR.get() else {
        return;
    };
    let intid = spi.intid.get();
    match cpu_interface() {
        CpuInterface::SystemRegisters => {
            gicv3::route_spi(&Machine, *base, intid, Mpidr::new(target(pcpu)));
        }
        CpuInterface::Memory(_) => {
            gicv2::route_spi(&Machine, *base, intid, interface_mask(pcpu));
        }
    }
}

/// Disables an interrupt: a private one on this pCPU, or an SPI.
// Kept out of the way of the interrupts that have an owner, as is `unexpected` in `irq/owners.rs`.
#[cold]
#[inline(never)]
pub fn disable(intid: u32) {
    if let Some(base) = DISTRIBUTOR.get() {
        gicv3::disable(&Machine, *base, PRIVATE.this().get(), intid);
        barrier::dsb();
    }
}

impl CpuInterface {
    /// Takes the highest pending interrupt, if any: it is active from here on.
    #[inline]
    pub fn acknowledge(self) -> Option<Acknowledged> {
        match self {
            Self::SystemRegisters => {
                let intid = ICC_IAR1_EL1.get() as u32 & 0xff_ffff;
                barrier::dsb();
                // What is above them (LPIs) is taken too, and raises the running priority.
                let is_special = (FIRST_SPECIAL_INTID..=LAST_SPECIAL_INTID).contains(&intid);
                (!is_special).then_some(Acknowledged::new(intid, intid))
            }
            Self::Memory(base) => {
                let interrupt = gicv2::acknowledge(&Machine, base.pa());
                barrier::dsb();
                interrupt
            }
        }
    }

    /// Drops the running priority; the interrupt stays active until deactivated.
    #[inline]
    pub fn drop_priority(self, interrupt: Acknowledged) {
        match self {
            Self::SystemRegisters => ICC_EOIR1_EL1.set(u64::from(interrupt.word())),
            Self::Memory(base) => gicv2::drop_priority(&Machine, base.pa(), interrupt),
        }
    }

    /// Deactivates an interrupt that is active on this pCPU (or any SPI).
    #[inline]
    pub fn deactivate(self, interrupt: Acknowledged) {
        match self {
            Self::SystemRegisters => {
                ICC_DIR_EL1.set(u64::from(interrupt.word()));
                barrier::isb();
            }
            Self::Memory(base) => {
                // The source is quiet before (`irq.rs`): what made it so has arrived.
                barrier::dsb();
                gicv2::deactivate(&Machine, base.pa(), interrupt);
            }
        }
    }
}

/// Sets or clears the active state of a private interrupt of this pCPU.
#[inline]
pub fn set_private_active(intid: u32, active: bool) {
    distributor::set_private_active(&Machine, PRIVATE.this().get(), intid, active);
    barrier::dsb();
}

/// Makes another pCPU, which is up, leave its guest.
pub fn kick(pcpu: PcpuIndex) {
    barrier::dsb();
    match (cpu_interface(), DISTRIBUTOR.get()) {
        (CpuInterface::Memory(_), Some(base)) => {
            gicv2::kick(&Machine, *base, interface_mask(pcpu));
        }
        _ => {
            ICC_SGI1R_EL1.set(sgi_target(target(pcpu)) | u64::from(KICK_INTID) << 24);
            barrier::isb();
        }
    }
}

/// Returns the fields of ICC_SGI1R_EL1 that name the pCPU with this MPIDR.
const fn sgi_target(mpidr: u64) -> u64 {
    let low = mpidr & 0xff;
    let (aff1, aff2, aff3) = (mpidr >> 8 & 0xff, mpidr >> 16 & 0xff, mpidr >> 32 & 0xff);
    1 << (low & 0xf) | aff1 << 16 | aff2 << 32 | aff3 << 48 | (low >> 4) << 44
}
