// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The pieces of a VM's start and teardown, and their order.
//!
//! This module has no side effects of its own. A [`VmWorkOps`] has them: the hypervisor implements
//! it for a VM, and the tests for a fake one. No piece takes long, since EL2 has interrupts masked
//! during a piece ([`VmWorkOps`] says how much a piece is).
//!
//! One rule is kept here and nowhere else: RAM becomes available to another VM only after the VM's
//! devices have stopped to access it, OP-TEE has destroyed the VM *and* all of the RAM was overwritten.
//! Where devices do not stop, or OP-TEE does not destroy the VM, nothing is given back.

use super::lifecycle::{LifecycleAction, LifecycleEvent};
use super::pci_reset::{self, Position};
use mediator::{DestroyError, Progress};
use postern_base::ticks::Ticks;

/// The bytes of RAM that are cleared, copied or overwritten in one piece. Cleaning them from the
/// caches takes longest.
pub const PIECE_BYTES: u64 = 256 * 1024;

/// The next piece of a VM's start or teardown. `L` is the progress of copying its images.
#[derive(Debug, PartialEq, Eq)]
pub enum VmWork<L> {
    /// No work.
    Nothing,
    /// Allocate the VM's memory.
    Prepare,
    /// Map the VM's memory, from this offset on.
    Map(u64),
    /// Create the VM in OP-TEE.
    CreateTee,
    /// Clear the VM's memory, from this offset on.
    Clear(u64),
    /// Copy the VM's images.
    Load(L),
    /// Let the VM's devices access the VM's memory, and run the VM.
    Run(L),
    /// Keep the VM's devices from accessing memory.
    DetachDma,
    /// Reset what is behind the VM's PCI hosts.
    ResetFunctions(FunctionReset),
    /// Destroy the VM in OP-TEE.
    DestroyTee,
    /// Destroy the VM in OP-TEE, but not before this time.
    RetryDestroyTee(Ticks),
    /// Free the VM's stage-2 tables.
    Unmap,
    /// Overwrite the VM's memory, from this offset on.
    Scrub(u64),
}

/// How far the reset of PCI functions is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FunctionReset {
    /// Which of the VM's PCI hosts.
    host: usize,
    position: Position,
    /// The time before which nothing is done.
    not_before: Ticks,
    /// Whether the VM starts afterwards. Otherwise it ends.
    is_start: bool,
}

impl FunctionReset {
    const fn new(is_start: bool) -> Self {
        Self {
            host: 0,
            position: Position::START,
            not_before: Ticks::ZERO,
            is_start,
        }
    }
}

/// The failure of a VM's start. Its cause has been logged already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CannotStart;

/// What a step of the loader leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loaded<L> {
    /// There is more to copy.
    Some(L),
    /// Everything is in place.
    All(L),
}

/// The VM's devices may still access memory. The cause has been logged already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaNotStopped;

/// The operations on a VM. Each method does a piece of bounded size.
pub trait VmWorkOps {
    /// The progress of copying the VM's images.
    type Loader;

    /// Returns the current time.
    fn now(&self) -> Ticks;

    /// Converts milliseconds to ticks.
    fn ticks(&self, milliseconds: u32) -> Ticks;

    /// Returns whether the VM may start now: whether the console has room to report the start, and
    /// the end after it. A guest that restarts without a pause waits here for the UART.
    fn may_start(&self) -> bool;

    /// Allocates the VM's memory, if it has none.
    ///
    /// # Errors
    /// Too little memory is left.
    fn take_memory(&self) -> Result<(), CannotStart>;

    /// Maps a piece of the VM's memory for its guest, from this offset on: at most a block of 1
    /// GiB. Returns the offset of the next piece; `None` at the end.
    ///
    /// # Errors
    /// There is no memory for tables.
    fn map(&self, offset: u64) -> Result<Option<u64>, CannotStart>;

    /// Does a step of creating the VM in OP-TEE, if it is to have a TEE. Returns whether that was
    /// the last step.
    ///
    /// # Errors
    /// The VM must not start without a TEE, and does not get one.
    fn create_tee(&self) -> Result<bool, CannotStart>;

    /// Returns whether the VM's memory has not been written to since it was cleared.
    fn is_clear(&self) -> bool;

    /// Clears at most [`PIECE_BYTES`] of the VM's memory from this offset on. Pages that the guest
    /// gave back are included, and become the VM's own again. Returns the offset of the next piece;
    /// `None` at the end.
    fn clear(&self, offset: u64) -> Option<u64>;

    /// Records that all of the VM's memory has been cleared.
    fn mark_clear(&self);

    /// Lets the VM's devices access the VM's memory, which is mapped and holds nothing but its images.
    ///
    /// # Errors
    /// An SMMU fails.
    fn attach_dma(&self) -> Result<(), CannotStart>;

    /// Keeps the VM's devices from accessing memory. On return, no access is under way.
    ///
    /// # Errors
    /// An SMMU fails, so they may still access what the VM's tables map. That has been logged.
    fn detach_dma(&self) -> Result<(), DmaNotStopped>;

    /// Returns whether what is behind the VM's PCI hosts is as firmware has left it.
    fn functions_are_unknown(&self) -> bool;

    /// Records that all of it was reset.
    fn mark_functions_reset(&self);

    /// Does a step of the reset of what is behind one of the VM's PCI hosts. Returns `None` where there is no such host.
    fn reset_functions(&self, host: usize, at: Position) -> Option<pci_reset::Progress>;

    /// Begins to copy the VM's images. From here on its memory is not clear any more.
    fn begin_load(&self) -> Self::Loader;

    /// Copies at most [`PIECE_BYTES`].
    ///
    /// # Errors
    /// The VM cannot start from these images.
    fn load(&self, loader: Self::Loader) -> Result<Loaded<Self::Loader>, CannotStart>;

    /// Lets the VM run. Everything is in place.
    ///
    /// # Errors
    /// The VM cannot start.
    fn run(&self, loader: Self::Loader) -> Result<(), CannotStart>;

    /// Does a step of destroying the VM in OP-TEE.
    ///
    /// # Errors
    /// OP-TEE does not destroy the VM.
    fn destroy_tee(&self) -> Result<Progress, DestroyError>;

    /// Resets the VM's devices to their state before its first start, so that none of them drives
    /// an interrupt. OP-TEE has destroyed the VM. Input from outside still reaches the devices.
    fn reset_devices(&self);

    /// Resets the VM's interrupt controller. This comes after the devices, which could otherwise
    /// drive a level into it that nothing takes back.
    fn reset_interrupts(&self);

    /// Logs that nothing is given back, since OP-TEE does not destroy the VM.
    fn keep_memory(&self, why: DestroyError);

    /// Frees some of the stage-2 tables. Returns whether more are left.
    fn unmap(&self) -> bool;

    /// Handles an event of the VM in its state machine. Returns the next action.
    fn transition(&self, event: LifecycleEvent) -> LifecycleAction;

    /// Carries an action out.
    fn carry_out(&self, action: LifecycleAction);

    /// Makes all of the VM's memory, which was overwritten, available to other VMs.
    fn release_memory(&self);
}

/// Does one piece of `work`, and replaces `work` by the next. Returns `false`, and changes nothing,
/// where it is too early for the piece.
pub fn step<S: VmWorkOps>(ops: &S, work: &mut VmWork<S::Loader>) -> bool {
    let next = match core::mem::replace(work, VmWork::Nothing) {
        VmWork::RetryDestroyTee(until) if ops.now() < until => {
            *work = VmWork::RetryDestroyTee(until);
            return false;
        }
        VmWork::Prepare if !ops.may_start() => {
            *work = VmWork::Prepare;
            return false;
        }
        VmWork::DetachDma => Ok(match ops.detach_dma() {
            Ok(()) => VmWork::ResetFunctions(FunctionReset::new(false)),
            Err(DmaNotStopped) => keep_all(ops),
        }),
        VmWork::ResetFunctions(reset) if ops.now() < reset.not_before => {
            *work = VmWork::ResetFunctions(reset);
            return false;
        }
        VmWork::ResetFunctions(reset) => Ok(reset_functions(ops, reset)),
        VmWork::DestroyTee | VmWork::RetryDestroyTee(_) => Ok(destroy_tee(ops)),
        VmWork::Unmap => Ok(if ops.unmap() {
            VmWork::Unmap
        } else {
            VmWork::Scrub(0)
        }),
        VmWork::Scrub(offset) => Ok(match ops.clear(offset) {
            Some(offset) => VmWork::Scrub(offset),
            None => {
                ops.mark_clear();
                finish_teardown(ops);
                VmWork::Nothing
            }
        }),
        work => start(ops, work),
    };
    *work = next.unwrap_or_else(|CannotStart| {
        let action = ops.transition(LifecycleEvent::CannotStart);
        ops.carry_out(action);
        VmWork::Nothing
    });
    true
}

/// Does one piece of a start. Returns the next.
fn start<S: VmWorkOps>(ops: &S, work: VmWork<S::Loader>) -> Result<VmWork<S::Loader>, CannotStart> {
    Ok(match work {
        VmWork::Prepare if ops.functions_are_unknown() => {
            VmWork::ResetFunctions(FunctionReset::new(true))
        }
        VmWork::Prepare => {
            ops.take_memory()?;
            VmWork::Map(0)
        }
        VmWork::Map(offset) => ops.map(offset)?.map_or(VmWork::CreateTee, VmWork::Map),
        VmWork::CreateTee => {
            if !ops.create_tee()? {
                VmWork::CreateTee
            } else if ops.is_clear() {
                VmWork::Load(ops.begin_load())
            } else {
                VmWork::Clear(0)
            }
        }
        VmWork::Clear(offset) => match ops.clear(offset) {
            Some(offset) => VmWork::Clear(offset),
            None => {
                ops.mark_clear();
                VmWork::Load(ops.begin_load())
            }
        },
        VmWork::Load(loader) => match ops.load(loader)? {
            Loaded::Some(loader) => VmWork::Load(loader),
            Loaded::All(loader) => VmWork::Run(loader),
        },
        VmWork::Run(loader) => {
            // A device that a guest has not set up finds nothing to change in what was loaded.
            ops.attach_dma()?;
            ops.run(loader)?;
            VmWork::Nothing
        }
        // No piece of a start.
        other => other,
    })
}

fn reset_functions<S: VmWorkOps>(ops: &S, reset: FunctionReset) -> VmWork<S::Loader> {
    let later = |milliseconds| ops.now() + ops.ticks(milliseconds);
    let next = match ops.reset_functions(reset.host, reset.position) {
        None => {
            ops.mark_functions_reset();
            return if reset.is_start {
                VmWork::Prepare
            } else {
                VmWork::DestroyTee
            };
        }
        Some(pci_reset::Progress::More(position)) => FunctionReset { position, ..reset },
        Some(pci_reset::Progress::Later(position, milliseconds)) => FunctionReset {
            position,
            not_before: later(milliseconds),
            ..reset
        },
        Some(pci_reset::Progress::Done(milliseconds)) => FunctionReset {
            host: reset.host + 1,
            position: Position::START,
            not_before: later(milliseconds),
            ..reset
        },
    };
    VmWork::ResetFunctions(next)
}

fn destroy_tee<S: VmWorkOps>(ops: &S) -> VmWork<S::Loader> {
    match ops.destroy_tee() {
        // Busy is the hypervisor's own error, since the VM's vCPUs have stopped. Another try does
        // no harm.
        Ok(Progress::More) | Err(DestroyError::Busy) => VmWork::DestroyTee,
        Ok(Progress::Later(milliseconds)) => {
            VmWork::RetryDestroyTee(ops.now() + ops.ticks(milliseconds))
        }
        Ok(Progress::Done) => {
            ops.reset_devices();
            ops.reset_interrupts();
            VmWork::Unmap
        }
        Err(why) => {
            ops.keep_memory(why);
            keep_all(ops)
        }
    }
}

/// Ends a teardown that cannot go on: nothing is given back.
fn keep_all<S: VmWorkOps>(ops: &S) -> VmWork<S::Loader> {
    let action = ops.transition(LifecycleEvent::NotTornDown);
    ops.carry_out(action);
    VmWork::Nothing
}

/// Ends a teardown: nothing of the VM is left in OP-TEE or in its memory.
fn finish_teardown<S: VmWorkOps>(ops: &S) {
    let action = ops.transition(LifecycleEvent::TornDown);
    // A reset keeps the VM's memory, so that no other VM can take it meanwhile.
    if let LifecycleAction::Ended(_) = action {
        ops.release_memory();
    }
    ops.carry_out(action);
}

#[cfg(test)]
mod tests;
