// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The machine's implementation of the pieces of a VM's start and teardown ([`crate::vm::work`]).
//!
//! Idle pCPUs do pieces, and busy ones do some ([`crate::sched::run_loop`]). At most one pCPU at a
//! time works for a VM. A lifecycle request only notes what is wanted, so it never waits for the
//! work's lock.

use super::transitions::{self, START, TEARDOWN};
use crate::console::output;
use crate::irq::sections;
use crate::sched::masked::Cause;
use crate::tee::host::VmHost;
use crate::vm::dma;
use crate::vm::guest_image::Loader;
use crate::vm::instance::Vm;
use crate::vm::lifecycle::{LifecycleAction, LifecycleEvent};
use crate::vm::links;
use crate::vm::pci_reset::{self, Position};
use crate::vm::ram_pool;
use crate::vm::registry;
use crate::vm::work::{self, CannotStart, DmaNotStopped, Loaded, PIECE_BYTES, VmWorkOps};
use core::fmt;
use core::sync::atomic::Ordering;
use mediator::{CreateError, DestroyError, Progress};
use postern_arch::{guest_ram, mmu, smmu, timer};
use postern_base::ticks::Ticks;
use postern_console::log::Level;

/// Does a piece of work for some VM, for example clearing a block of memory. Returns `false` where
/// no VM has work to do now.
pub fn work_step() -> bool {
    registry::all().iter().any(step)
}

type VmWork = work::VmWork<Loader>;

/// Does a piece of the VM's work. Returns `false` where there is none, where it is too early, or
/// where another pCPU is doing it.
pub fn step(vm: &'static Vm) -> bool {
    if !vm.has_work() {
        return false;
    }
    let Some(mut work) = vm.work.try_lock() else {
        return false;
    };
    vm.busy.store(true, Ordering::Release);
    match vm.requested.swap(0, Ordering::AcqRel) {
        START => *work = VmWork::Prepare,
        TEARDOWN => *work = VmWork::DetachDma,
        _ => {}
    }
    let ops = VmWorkTarget { vm };
    let cause = cause(&work);
    let done = match cause {
        Some(cause) => sections::lengthy(cause, || work::step(&ops, &mut work)),
        // Most of the time is spent in OP-TEE. The parts beside that which may take long have
        // sections of their own.
        None => sections::outside(|| work::step(&ops, &mut work)),
    };
    if !done {
        return false;
    }
    if matches!(*work, VmWork::Nothing) {
        vm.busy.store(false, Ordering::Release);
    }
    true
}

/// Allocates a VM's memory, if it has none.
///
/// # Errors
/// When too little memory is left.
pub fn take_memory(vm: &Vm) -> Result<(), ram_pool::RamError> {
    if vm.memory.bytes() == 0 {
        ram_pool::allocate(&vm.memory, vm.next_bytes.load(Ordering::Relaxed))?;
    }
    Ok(())
}

/// Does a step of creating a VM in OP-TEE, if it is to have a TEE.
///
/// # Errors
/// When OP-TEE or its memory has no room for the VM.
pub fn create_tee(vm: &'static Vm) -> Result<Progress, CreateError> {
    let Some(mediator) = vm.mediator().filter(|_| !vm.has_tee()) else {
        return Ok(Progress::Done);
    };
    let progress = mediator.create_step(&VmHost { vm })?;
    if progress == Progress::Done {
        vm.has_tee.store(true, Ordering::Release);
    }
    Ok(progress)
}

/// Returns the kind of a piece for `masked_ns`; `None` where it enters the secure world.
fn cause(work: &VmWork) -> Option<Cause> {
    match work {
        VmWork::CreateTee | VmWork::DestroyTee | VmWork::RetryDestroyTee(_) => None,
        VmWork::Nothing => Some(Cause::Other),
        VmWork::Prepare => Some(Cause::Prepare),
        VmWork::Map(_) => Some(Cause::Map),
        VmWork::Clear(_) | VmWork::Scrub(_) => Some(Cause::Clear),
        VmWork::Load(_) | VmWork::Run(_) => Some(Cause::Load),
        VmWork::DetachDma | VmWork::ResetFunctions(_) => Some(Cause::Reset),
        VmWork::Unmap => Some(Cause::Unmap),
    }
}

/// The VM for which a piece is done.
struct VmWorkTarget {
    vm: &'static Vm,
}

impl VmWorkTarget {
    fn cannot_start(&self, why: fmt::Arguments<'_>) -> CannotStart {
        self.vm.log(Level::Error, why);
        CannotStart
    }
}

impl VmWorkOps for VmWorkTarget {
    type Loader = Loader;

    fn now(&self) -> Ticks {
        timer::now()
    }

    fn ticks(&self, milliseconds: u32) -> Ticks {
        Ticks::from_milliseconds(milliseconds.into(), timer::frequency())
    }

    fn may_start(&self) -> bool {
        output::has_room_for_life(self.vm.index)
    }

    fn take_memory(&self) -> Result<(), CannotStart> {
        let taken = take_memory(self.vm);
        taken.map_err(|error| self.cannot_start(format_args!("{error}")))
    }

    fn map(&self, offset: u64) -> Result<Option<u64>, CannotStart> {
        let Vm {
            mapping, memory, ..
        } = self.vm;
        let mapped = mapping.map_some(memory, offset);
        self.vm.vttbr.store(mapping.vttbr(), Ordering::Relaxed);
        mapped.map_err(|error| self.cannot_start(format_args!("stage 2: {error}")))
    }

    fn create_tee(&self) -> Result<bool, CannotStart> {
        match create_tee(self.vm) {
            Ok(progress) => Ok(progress == Progress::Done),
            Err(error) if self.vm.needs_tee() => {
                Err(self.cannot_start(format_args!("tee = \"required\": {error}")))
            }
            Err(error) => {
                let why = format_args!("starts without a TEE: {error}");
                self.vm.log(Level::Warn, why);
                Ok(true)
            }
        }
    }

    fn is_clear(&self) -> bool {
        ram_pool::is_clear(&self.vm.memory)
    }

    fn clear(&self, offset: u64) -> Option<u64> {
        let memory = &self.vm.memory;
        let (range, at) = memory.piece(offset, PIECE_BYTES)?;
        guest_ram::zero(at, range.bytes);
        // A guest starts with its caches off.
        mmu::clean_to_memory(at.get(), range.bytes);
        memory.restore(range);
        Some(offset + range.bytes)
    }

    fn mark_clear(&self) {
        ram_pool::mark_clear(&self.vm.memory);
    }

    fn attach_dma(&self) -> Result<(), CannotStart> {
        let attached = self.vm.mapping.attach_dma();
        attached.map_err(|error| self.cannot_start(format_args!("{error}")))
    }

    fn detach_dma(&self) -> Result<(), DmaNotStopped> {
        smmu::detach(self.vm.index).map_err(|error| {
            self.vm.log(
                Level::Error,
                format_args!(
                    "{error}: its devices may still access its memory, \
                     which stays reserved until the machine restarts"
                ),
            );
            DmaNotStopped
        })
    }

    fn functions_are_unknown(&self) -> bool {
        !self.vm.root_buses.is_empty() && !self.vm.functions_reset.load(Ordering::Acquire)
    }

    fn mark_functions_reset(&self) {
        self.vm.functions_reset.store(true, Ordering::Release);
    }

    fn reset_functions(&self, host: usize, at: Position) -> Option<pci_reset::Progress> {
        dma::reset_functions(self.vm, host, at)
    }

    fn begin_load(&self) -> Loader {
        ram_pool::mark_dirty(&self.vm.memory);
        Loader::new()
    }

    fn load(&self, mut loader: Loader) -> Result<Loaded<Loader>, CannotStart> {
        let vm = self.vm;
        match loader.step(&vm.images, &vm.memory, vm.guest_tee()) {
            Ok(None) => Ok(Loaded::Some(loader)),
            Ok(Some(_)) => Ok(Loaded::All(loader)),
            Err(error) => Err(self.cannot_start(format_args!("{error}"))),
        }
    }

    fn run(&self, loader: Loader) -> Result<(), CannotStart> {
        let vm = self.vm;
        let entry = loader.entry().ok_or(CannotStart)?;
        // Another VM's kernel may have been where this VM's is now.
        mmu::forget_instructions();
        match transitions::transition(vm, LifecycleEvent::Loaded) {
            LifecycleAction::Run => transitions::run(vm, entry),
            other => transitions::carry_out(vm, other),
        }
        Ok(())
    }

    fn destroy_tee(&self) -> Result<Progress, DestroyError> {
        match self.vm.mediator() {
            Some(mediator) => mediator.destroy_step(&VmHost { vm: self.vm }),
            None => Ok(Progress::Done),
        }
    }

    fn reset_devices(&self) {
        let vm = self.vm;
        vm.has_tee.store(false, Ordering::Release);
        sections::lengthy(Cause::Reset, || {
            vm.console.reset();
            vm.devices.reset();
            links::reset(vm);
        });
    }

    fn reset_interrupts(&self) {
        sections::lengthy(Cause::Reset, || self.vm.vgic.reset());
    }

    fn keep_memory(&self, why: DestroyError) {
        let kib = self.vm.memory.bytes() / 1024;
        self.vm.log(
            Level::Error,
            format_args!("{why}; its memory, {kib} KiB, stays reserved until the machine restarts"),
        );
        self.vm.has_tee.store(false, Ordering::Release);
    }

    fn unmap(&self) -> bool {
        self.vm.mapping.unmap_some()
    }

    fn transition(&self, event: LifecycleEvent) -> LifecycleAction {
        transitions::transition(self.vm, event)
    }

    fn carry_out(&self, action: LifecycleAction) {
        transitions::carry_out(self.vm, action);
    }

    fn release_memory(&self) {
        match self.vm.memory.release() {
            Some(chunks) => ram_pool::release(&self.vm.memory, &chunks),
            None => self.vm.log(
                Level::Error,
                format_args!("pages are still pinned, so the VM keeps its memory"),
            ),
        }
    }
}
