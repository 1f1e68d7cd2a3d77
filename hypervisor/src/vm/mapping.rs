//! The RAM that a VM has now: its frames, and the stage-2 tables that map what of them it has not
//! given back.

use super::memory::{Memory, WithdrawError};
use super::stage2::{Attributes, Stage2, Stage2Error};
use crate::arch::guest_bytes;
use crate::arch::stage2::Tables;
use crate::range::IpaRange;
use crate::services::memory::Answer;
use core::sync::atomic::{AtomicBool, Ordering};
use mediator::addr::Pa;
use spin::mutex::SpinMutex;

/// The stage-2 tables of one VM, with what they need.
pub struct Mapping {
    tables: SpinMutex<(Stage2, Tables)>,
    /// Some of the VM's memory is not mapped.
    has_holes: AtomicBool,
}

impl Mapping {
    /// Maps all of a VM's memory; `vmid` is the VM's alone.
    ///
    /// # Errors
    /// When there is no memory for tables.
    pub fn new(memory: &Memory, vmid: u16) -> Result<Self, Stage2Error> {
        let mut tables = Tables::new(vmid);
        let mut stage2 = Stage2::new(&mut tables)?;
        map_all(&mut stage2, &mut tables, memory)?;
        Ok(Self {
            tables: SpinMutex::new((stage2, tables)),
            has_holes: AtomicBool::new(false),
        })
    }

    /// The root table.
    pub fn root(&self) -> Pa {
        self.tables.lock().0.root()
    }

    /// Takes pages out of the VM's memory and clears them.
    ///
    /// The caller is one of the VM's vCPUs. Others may run meanwhile, and fault on memory around
    /// the range while a block is split; see the trap handler.
    pub fn relinquish(&self, memory: &Memory, range: IpaRange) -> Answer {
        // Asked for before the pages are withdrawn, since only then they are the VM's.
        let Some(runs) = memory.runs(range) else {
            return Answer::InvalidParameter;
        };
        // From here on nobody translates or pins them.
        match memory.withdraw(range) {
            Ok(()) => {}
            Err(WithdrawError::Pinned(_)) => return Answer::Denied,
            Err(WithdrawError::NotOwnMemory(_)) => return Answer::InvalidParameter,
        }
        if let Err(error) = self.unmap(range) {
            memory.restore(range);
            return match error {
                Stage2Error::OutOfTables => Answer::NoMemory,
                _ => Answer::InvalidParameter,
            };
        }
        for (pa, bytes) in runs {
            // SAFETY: RAM of this VM, which EL2 maps and refers to nowhere. The guest does not
            // map it any more.
            unsafe { guest_bytes::zero(pa, bytes) };
        }
        Answer::Success
    }

    fn unmap(&self, range: IpaRange) -> Result<(), Stage2Error> {
        let (stage2, tables) = &mut *self.tables.lock();
        stage2.unmap(tables, range)?;
        self.has_holes.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Gives the VM, none of whose vCPUs runs, everything back that it has relinquished.
    ///
    /// # Errors
    /// When there is no memory for tables, of which it needs no more than in the beginning.
    pub fn restore(&self, memory: &Memory) -> Result<(), Stage2Error> {
        if !self.has_holes.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let (stage2, tables) = &mut *self.tables.lock();
        for (range, _) in memory.mappings() {
            stage2.unmap(tables, range)?;
            memory.restore(range);
        }
        map_all(stage2, tables, memory)
    }
}

fn map_all(stage2: &mut Stage2, tables: &mut Tables, memory: &Memory) -> Result<(), Stage2Error> {
    for (range, to) in memory.mappings() {
        stage2.map(tables, range, to, Attributes::RAM)?;
    }
    Ok(())
}
