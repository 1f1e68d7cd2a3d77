// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The machine's SMMUs: registers, EL2's memory for tables and queues, and which VM has streams of which.
//!
//! [`postern_smmu`] is the driver, plain code.

use super::{barrier, timer};
use alloc::alloc::alloc_zeroed;
use alloc::vec::Vec;
use core::alloc::Layout;
use core::sync::atomic::{AtomicU32, Ordering};
use mediator::addr::{Ipa, Pa};
use postern_base::ids::VmIndex;
use postern_base::lock::{Class, Lock};
use postern_base::ticks::Ticks;
use postern_boot_tree::{Smmus, StreamRange};
use postern_smmu::{
    Event, GlobalErrors, Hardware, ReserveError, Smmu, SmmuError, StartError, Translation,
};
use spin::Once;
use thiserror::Error;

/// The SMMUs in the order of the tree; an error for one that makes everything abort.
static SMMUS: Once<Vec<Result<Lock<Smmu<Registers>>, StartError>>> = Once::new();
/// The VMs that have streams, a bit each.
static WITH_STREAMS: AtomicU32 = AtomicU32::new(0);

/// The reason that streams cannot be a VM's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StreamsError {
    /// The SMMU aborts everything.
    #[error("the SMMU in front of it {0}")]
    Unusable(StartError),
    /// The SMMU does not give the VM these streams.
    #[error(transparent)]
    Reserve(#[from] ReserveError),
}

/// The registers of an SMMU, and EL2's heap.
#[derive(Debug)]
struct Registers {
    base: Pa,
}

impl Registers {
    const fn at(&self, register: u32) -> u64 {
        self.base.get() + register as u64
    }
}

impl Hardware for Registers {
    fn read(&self, register: u32) -> u32 {
        // SAFETY: a register of an SMMU found in the device tree, mapped as device memory.
        unsafe { core::ptr::read_volatile(self.at(register) as *const u32) }
    }

    fn write(&mut self, register: u32, value: u32) {
        // SAFETY: as `read`. What the SMMU accesses in memory is what `allocate` gave, and what VMs' tables map.
        unsafe { core::ptr::write_volatile(self.at(register) as *mut u32, value) }
    }

    fn write_double(&mut self, register: u32, value: u64) {
        // SAFETY: as `write`.
        unsafe { core::ptr::write_volatile(self.at(register) as *mut u64, value) }
    }

    fn allocate(&mut self, bytes: usize) -> Option<Pa> {
        let layout = Layout::from_size_align(bytes, bytes).ok()?;
        // SAFETY: the size is not zero, by the trait's contract.
        let memory = unsafe { alloc_zeroed(layout) };
        (!memory.is_null()).then(|| Pa::new(memory as u64))
    }

    fn read_memory(&self, at: Pa) -> u64 {
        // SAFETY: memory that `allocate` gave, by the trait's contract, aligned; no reference to it exists.
        unsafe { core::ptr::read_volatile(at.get() as *const u64) }
    }

    fn write_memory(&mut self, at: Pa, value: u64) {
        // SAFETY: as `read_memory`.
        unsafe { core::ptr::write_volatile(at.get() as *mut u64, value) }
    }

    fn order(&self) {
        barrier::dsb();
    }

    fn now(&self) -> Ticks {
        timer::now()
    }

    fn second(&self) -> Ticks {
        timer::second()
    }
}

/// Makes all transactions of all SMMUs abort. Their registers are mapped.
///
/// # Errors
/// The address of one that does not answer, and what it does.
pub fn abort_all(smmus: &Smmus) -> Result<(), (Pa, StartError)> {
    for smmu in smmus {
        let base = smmu.registers.start();
        postern_smmu::abort_all(&mut Registers { base }).map_err(|error| (base, error))?;
    }
    Ok(())
}

/// Starts all SMMUs, with all streams aborting. Once, after [`abort_all`]. `refused` is called for each that cannot be
/// used.
pub fn start(smmus: &Smmus, mut refused: impl FnMut(Pa, StartError)) {
    SMMUS.call_once(|| {
        let start = |base| match Smmu::start(Registers { base }) {
            Ok(smmu) => Ok(Lock::new(Class::Smmu, smmu)),
            Err(error) => {
                refused(base, error);
                Err(error)
            }
        };
        let bases = smmus.iter().map(|smmu| smmu.registers.start());
        bases.map(start).collect()
    });
}

/// The SMMUs that translate.
fn running() -> impl Iterator<Item = &'static Lock<Smmu<Registers>>> {
    let all = SMMUS.get().map(Vec::as_slice).unwrap_or_default();
    all.iter().filter_map(|smmu| smmu.as_ref().ok())
}

/// Makes streams a VM's, which abort until [`attach`].
///
/// # Errors
/// They cannot be.
pub fn reserve(vm: VmIndex, streams: StreamRange) -> Result<(), StreamsError> {
    let smmu = SMMUS.get().and_then(|all| all.get(streams.smmu));
    let Some(smmu) = smmu else {
        // The tree has no such SMMU, so nothing has streams there.
        return Ok(());
    };
    let smmu = smmu.as_ref().map_err(|why| StreamsError::Unusable(*why))?;
    smmu.lock().reserve(vm, streams.first, streams.count)?;
    WITH_STREAMS.fetch_or(1 << vm.get(), Ordering::Release);
    Ok(())
}

/// Returns whether a VM has streams: whether devices of its access its RAM by themselves.
#[inline]
pub fn has_streams(vm: VmIndex) -> bool {
    WITH_STREAMS.load(Ordering::Acquire) & 1 << vm.get() != 0
}

/// Does something with each SMMU that translates, if the VM has streams.
fn for_each(
    vm: VmIndex,
    mut act: impl FnMut(&mut Smmu<Registers>) -> Result<(), SmmuError>,
) -> Result<(), SmmuError> {
    if !has_streams(vm) {
        return Ok(());
    }
    let mut result = Ok(());
    for smmu in running() {
        // All of them, whatever the first says.
        result = act(&mut smmu.lock()).and(result);
    }
    result
}

/// Lets a VM's streams access what the vCPUs' tables map.
///
/// # Errors
/// An SMMU fails.
pub fn attach(vm: VmIndex, to: Translation) -> Result<(), SmmuError> {
    for_each(vm, |smmu| smmu.attach(vm, to))
}

/// Makes a VM's streams abort. On return, no access of theirs is under way.
///
/// # Errors
/// An SMMU fails: they may still access memory.
pub fn detach(vm: VmIndex) -> Result<(), SmmuError> {
    for_each(vm, |smmu| smmu.detach(vm))
}

/// Makes SMMUs forget the translation of a page or block. One that fails remembers it, and [`detach`] says so.
pub(super) fn invalidate_ipa(vm: VmIndex, ipa: Ipa) {
    let _ = for_each(vm, |smmu| smmu.invalidate_ipa(vm, ipa));
}

/// Makes SMMUs forget all translations of a VM. One that fails remembers it, and [`detach`] says so.
pub(super) fn invalidate_all(vm: VmIndex) {
    let _ = for_each(vm, |smmu| smmu.invalidate_all(vm));
}

/// Takes the events of all SMMUs, a bounded number. `each` is called with a lock held. Returns whether there may be more.
pub fn take_events(mut each: impl FnMut(Event)) -> bool {
    running().fold(false, |more, smmu| {
        // What is lost is one of many.
        more | smmu.lock().take_events(&mut each).more
    })
}

/// Takes the errors that are not of one transaction, of all SMMUs.
pub fn take_global_errors() -> GlobalErrors {
    running().fold(GlobalErrors::default(), |errors, smmu| GlobalErrors {
        bits: errors.bits | smmu.lock().take_global_errors().bits,
    })
}
