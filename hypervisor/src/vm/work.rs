// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What it takes to start a VM and to take one down, piece by piece: which piece follows which.
//!
//! It touches nothing itself: a [`VmWorkOps`] does, which the hypervisor implements for a VM and the tests
//! for a made-up one. No piece takes long, for EL2 has interrupts masked while it does one
//! ([`VmWorkOps`] says how much a piece is).
//!
//! One rule is kept here and nowhere else: RAM becomes another VM's to have only after OP-TEE has let go
//! of the VM *and* all of the RAM was overwritten. Where OP-TEE does not let go, nothing is given back.

use super::lifecycle::{LifecycleAction, LifecycleEvent};
use mediator::{DestroyError, Progress};
use postern_base::ticks::Ticks;

/// Bytes of RAM that are cleared, copied or overwritten in one piece. Cleaning them from the caches
/// is what takes longest.
pub const PIECE_BYTES: u64 = 256 * 1024;

/// What a VM waits for. `L` is how far its images are copied.
#[derive(Debug, PartialEq, Eq)]
pub enum VmWork<L> {
    /// Nothing.
    Nothing,
    /// It gets its memory.
    Prepare,
    /// Its memory is mapped, from this offset on.
    Map(u64),
    /// It gets its TEE.
    CreateTee,
    /// Its memory is cleared, from this offset on.
    Clear(u64),
    /// It is loaded.
    Load(L),
    /// OP-TEE is to let go of it.
    DestroyTee,
    /// So is it, but not before this time.
    RetryDestroyTee(Ticks),
    /// Its stage-2 tables are given back.
    Unmap,
    /// What it had in its memory is overwritten, from this offset on.
    Scrub(u64),
}

/// Why a VM does not start. Whoever says it has logged why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CannotStart;

/// What is done to a VM. Each method does a piece of bounded size.
pub trait VmWorkOps {
    /// How far the VM's images are copied.
    type Loader;

    /// The time.
    fn now(&self) -> Ticks;

    /// So many milliseconds.
    fn ticks(&self, milliseconds: u32) -> Ticks;

    /// Whether the VM may start now: whether there is room to say so, and to say how it ends. A guest that
    /// restarts without a rest waits here for the UART.
    fn may_start(&self) -> bool;

    /// Gets the VM's memory, if it has none.
    ///
    /// # Errors
    /// There is not so much left.
    fn take_memory(&self) -> Result<(), CannotStart>;

    /// Maps some of the VM's memory for its guest, from this offset on: at most a block of 1 GiB. Where to go on;
    /// `None` at the end.
    ///
    /// # Errors
    /// There is no memory for tables.
    fn map(&self, offset: u64) -> Result<Option<u64>, CannotStart>;

    /// Makes the VM known to OP-TEE, if it is to have a TEE: a step. Whether that was the last.
    ///
    /// # Errors
    /// It must not start without one, and does not get it.
    fn create_tee(&self) -> Result<bool, CannotStart>;

    /// Whether nobody has written to the VM's memory since it was cleared.
    fn is_clear(&self) -> bool;

    /// Clears at most [`PIECE_BYTES`] of the VM's memory from this offset on, pages included that the guest gave back,
    /// which are its own again. Where to go on; `None` at the end.
    fn clear(&self, offset: u64) -> Option<u64>;

    /// All of the VM's memory has been cleared.
    fn mark_clear(&self);

    /// The VM's images are to be copied. From here on its memory is not clear any more.
    fn begin_load(&self) -> Self::Loader;

    /// Copies at most [`PIECE_BYTES`], or lets the VM run when all is there, and `None` then.
    ///
    /// # Errors
    /// The VM cannot start from these images.
    fn load(&self, loader: Self::Loader) -> Result<Option<Self::Loader>, CannotStart>;

    /// Has OP-TEE let go of the VM, a step.
    ///
    /// # Errors
    /// It does not.
    fn destroy_tee(&self) -> Result<Progress, DestroyError>;

    /// OP-TEE has let go of the VM: its devices are as for a VM that was never on, so that none of them drives an
    /// interrupt. What reaches them from outside goes on reaching them.
    fn reset_devices(&self);

    /// So is its interrupt controller. After the devices, which could drive a level into it that nobody takes back.
    fn reset_interrupts(&self);

    /// OP-TEE does not let go of the VM, so nothing is given back. Logs that.
    fn keep_memory(&self, why: DestroyError);

    /// Gives some of the stage-2 tables back; whether there are more.
    fn unmap(&self) -> bool;

    /// Something has happened to the VM: what is to be done.
    fn transition(&self, event: LifecycleEvent) -> LifecycleAction;

    /// Does it.
    fn carry_out(&self, action: LifecycleAction);

    /// All of the VM's memory, which was overwritten, is another's to have.
    fn release_memory(&self);
}

/// Does a piece of what the VM waits for, and notes what it waits for then. False where it is too early for that:
/// nothing has changed then.
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

/// The pieces of a start.
fn start<S: VmWorkOps>(ops: &S, work: VmWork<S::Loader>) -> Result<VmWork<S::Loader>, CannotStart> {
    Ok(match work {
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
        VmWork::Load(loader) => ops.load(loader)?.map_or(VmWork::Nothing, VmWork::Load),
        // What has nothing to do with a start.
        other => other,
    })
}

fn destroy_tee<S: VmWorkOps>(ops: &S) -> VmWork<S::Loader> {
    match ops.destroy_tee() {
        // Busy: its vCPUs have stopped, so this is the hypervisor's own error; trying again does no harm.
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
            let action = ops.transition(LifecycleEvent::TeeNotDestroyed);
            ops.carry_out(action);
            VmWork::Nothing
        }
    }
}

/// Nothing of the VM is left in OP-TEE or in its memory.
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
