// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The mapping of a VM's RAM: the stage-2 tables that map the frames that the VM has not given
//! back.

use super::guest_memory::{GuestMemory, WithdrawError};
use super::work::PIECE_BYTES;
use crate::services::memory::Answer;
use mediator::addr::{Ipa, PAGE_SIZE, Pa};
use postern_arch::stage2::{self, Tables};
use postern_arch::{guest_ram, smmu};
use postern_base::ids::VmIndex;
use postern_base::lock::{Class, Lock};
use postern_base::range::IpaRange;
use postern_boot_tree::AssignedDevice;
use postern_guest_tree::layout;
use postern_smmu::{SmmuError, Translation};
use postern_stage2::{Attributes, Retired, Stage2, Stage2Error};

/// The most bytes mapped in one piece: the size that one first-level entry covers, so that block
/// entries are used where they fit.
const MAP_BYTES: u64 = 1 << 30;
/// The number of tables freed in one piece.
const TABLES: usize = 64;

/// The stage-2 tables of one VM, with the state that they need.
pub struct Mapping {
    vm: VmIndex,
    /// The page of the virtual CPU interface of a GICv2 (GICV), which the guest sees as its GICC. Each pCPU finds its own
    /// there, with the state of the vCPU that is on it.
    virtual_cpu_interface: Option<Pa>,
    /// The devices that the VM has for itself. The guest sees their registers at the physical addresses.
    devices: &'static [AssignedDevice<'static>],
    tables: Lock<MappingState>,
}

/// The state of a VM's tables.
enum MappingState {
    /// No tables: the VM is off.
    Nothing,
    /// Tables that the hardware walks, or will walk.
    Live(Stage2),
    /// Tables that are being freed.
    Retired(Retired),
}

impl Mapping {
    /// Returns the mapping of a VM, without tables. All VMs have the same `virtual_cpu_interface`.
    pub const fn new(
        vm: VmIndex,
        virtual_cpu_interface: Option<Pa>,
        devices: &'static [AssignedDevice<'static>],
    ) -> Self {
        Self {
            vm,
            virtual_cpu_interface,
            devices,
            tables: Lock::new(Class::Tables, MappingState::Nothing),
        }
    }

    /// Maps a piece of a VM's memory, from `offset` on. Returns the offset of the next piece;
    /// `None` at the end. After an error, the pieces before it stay mapped.
    ///
    /// # Errors
    /// When there is no memory for tables.
    pub fn map_some(&self, memory: &GuestMemory, offset: u64) -> Result<Option<u64>, Stage2Error> {
        let mut host = Tables::new(self.vm);
        let mut tables = self.tables.lock();
        if !matches!(*tables, MappingState::Live(_)) {
            *tables = MappingState::Live(Stage2::new(&mut host)?);
            if let MappingState::Live(stage2) = &mut *tables {
                self.map_devices(stage2, &mut host)?;
            }
        }
        let (MappingState::Live(stage2), Some((range, to))) =
            (&mut *tables, memory.piece(offset, MAP_BYTES))
        else {
            return Ok(None);
        };
        stage2.map(&mut host, range, to, Attributes::RAM)?;
        Ok(Some(offset + range.bytes))
    }

    /// Maps what the guest accesses besides RAM.
    fn map_devices(&self, stage2: &mut Stage2, host: &mut Tables) -> Result<(), Stage2Error> {
        // Not the second page: a guest's write to GICC_DIR must trap.
        let interface = self.virtual_cpu_interface.map(|page| {
            let start = layout::CPU_INTERFACE;
            let bytes = PAGE_SIZE;
            (IpaRange { start, bytes }, page)
        });
        let windows = self.devices.iter().flat_map(|device| &device.windows);
        let windows = windows.map(|window| {
            let start = Ipa::new(window.start().get());
            let bytes = window.bytes();
            (IpaRange { start, bytes }, window.start())
        });
        for (range, to) in interface.into_iter().chain(windows) {
            stage2.map(host, range, to, Attributes::DEVICE)?;
        }
        Ok(())
    }

    /// Returns whether the guest reaches registers of devices that it has for itself.
    pub fn has_devices(&self) -> bool {
        !self.devices.is_empty()
    }

    /// Returns the value for VTTBR_EL2; zero where there are no tables.
    pub fn vttbr(&self) -> u64 {
        match &*self.tables.lock() {
            MappingState::Live(stage2) => stage2.root().get() | (self.vm.get() as u64 + 1) << 48,
            MappingState::Nothing | MappingState::Retired(_) => 0,
        }
    }

    /// Lets the VM's devices access what is mapped, if there are tables.
    ///
    /// # Errors
    /// An SMMU fails.
    pub fn attach_dma(&self) -> Result<(), SmmuError> {
        match &*self.tables.lock() {
            MappingState::Live(tables) => {
                let to = Translation {
                    root: tables.root(),
                    vtcr: stage2::vtcr(),
                };
                smmu::attach(self.vm, to)
            }
            MappingState::Nothing | MappingState::Retired(_) => Ok(()),
        }
    }

    /// Frees some tables. Returns whether more are left. None of the VM's vCPUs runs any more.
    pub fn unmap_some(&self) -> bool {
        let mut host = Tables::new(self.vm);
        let mut tables = self.tables.lock();
        *tables = match core::mem::replace(&mut *tables, MappingState::Nothing) {
            MappingState::Nothing => MappingState::Nothing,
            MappingState::Live(stage2) => MappingState::Retired(stage2.retire(&mut host)),
            MappingState::Retired(retired) => retired
                .free_some(&mut host, TABLES)
                .map_or(MappingState::Nothing, MappingState::Retired),
        };
        !matches!(*tables, MappingState::Nothing)
    }

    /// Takes pages out of the VM's memory and zeroes them.
    ///
    /// The caller is one of the VM's vCPUs. Others may run meanwhile, and fault on memory around
    /// the range while a block is split; see the trap handler. `pause` is called before each piece
    /// is zeroed.
    pub fn relinquish(&self, memory: &GuestMemory, range: IpaRange, pause: impl Fn()) -> Answer {
        // A device that meets a block that is being split would lose an access.
        if smmu::has_streams(self.vm) {
            return Answer::Denied;
        }
        // Determined before the pages are withdrawn, since only until then they are the VM's.
        let Some(runs) = memory.runs(range) else {
            return Answer::InvalidParameter;
        };
        // From here on the pages can be neither translated nor pinned.
        match memory.withdraw(range) {
            Ok(()) => {}
            Err(WithdrawError::Pinned(_)) => return Answer::Denied,
            Err(WithdrawError::NotOwnMemory(_)) => return Answer::InvalidParameter,
        }
        if let Err(error) = self.unmap_range(range) {
            memory.restore(range);
            return match error {
                Stage2Error::OutOfTables => Answer::NoMemory,
                _ => Answer::InvalidParameter,
            };
        }
        for (pa, bytes) in runs {
            for done in (0..bytes).step_by(PIECE_BYTES as usize) {
                pause();
                let (pa, bytes) = (Pa::new(pa.get() + done), PIECE_BYTES.min(bytes - done));
                guest_ram::zero(pa, bytes);
            }
        }
        Answer::Success
    }

    fn unmap_range(&self, range: IpaRange) -> Result<(), Stage2Error> {
        match &mut *self.tables.lock() {
            MappingState::Live(stage2) => stage2.unmap(&mut Tables::new(self.vm), range),
            MappingState::Nothing | MappingState::Retired(_) => Ok(()),
        }
    }
}
