//! The RAM that a VM has now: its frames, and the stage-2 tables that map what of them it has not
//! given back.

use super::memory::{Memory, WithdrawError};
use super::stage2::{Attributes, Stage2, Stage2Error};
use crate::arch::guest_bytes;
use crate::arch::stage2::Tables;
use crate::range::IpaRange;
use crate::services::memory::Answer;
use spin::mutex::SpinMutex;

/// The stage-2 tables of one VM, with what they need. There are none while it is off.
pub struct Mapping {
    vmid: u16,
    tables: SpinMutex<Option<Stage2>>,
}

impl Mapping {
    /// No tables yet; `vmid` is the VM's alone.
    pub const fn new(vmid: u16) -> Self {
        Self {
            vmid,
            tables: SpinMutex::new(None),
        }
    }

    /// Maps all of a VM's memory. What VTTBR_EL2 has to hold for that.
    ///
    /// # Errors
    /// When there is no memory for tables.
    pub fn map(&self, memory: &Memory) -> Result<u64, Stage2Error> {
        self.unmap();
        let mut host = Tables::new(self.vmid);
        let mut stage2 = Stage2::new(&mut host)?;
        for (range, to) in memory.mappings() {
            if let Err(error) = stage2.map(&mut host, range, to, Attributes::RAM) {
                stage2.free(&mut host);
                return Err(error);
            }
        }
        let root = stage2.root();
        *self.tables.lock() = Some(stage2);
        Ok(root.get() | u64::from(self.vmid) << 48)
    }

    /// Gives all tables back. No vCPU of the VM runs any more.
    pub fn unmap(&self) {
        if let Some(stage2) = self.tables.lock().take() {
            stage2.free(&mut Tables::new(self.vmid));
        }
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
        if let Err(error) = self.unmap_range(range) {
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

    fn unmap_range(&self, range: IpaRange) -> Result<(), Stage2Error> {
        match &mut *self.tables.lock() {
            Some(stage2) => stage2.unmap(&mut Tables::new(self.vmid), range),
            None => Ok(()),
        }
    }
}
