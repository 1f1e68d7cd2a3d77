// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What it takes to start a VM and to take one down, piece by piece: which piece follows which.
//!
//! It touches nothing itself: a [`Site`] does, which the hypervisor implements for a VM and the tests
//! for a made-up one. No piece takes long, for EL2 has interrupts masked while it does one
//! ([`Site`] says how much a piece is).
//!
//! One rule is kept here and nowhere else: RAM becomes another VM's to have only after OP-TEE has let go
//! of the VM *and* all of the RAM was overwritten. Where OP-TEE does not let go, nothing is given back.

use super::life::{Event, Then};
use mediator::{DestroyError, Progress};

/// Bytes of RAM that are cleared, copied or overwritten in one piece. Cleaning them from the caches
/// is what takes longest.
pub const PIECE_BYTES: u64 = 256 * 1024;

/// What a VM waits for. `L` is how far its images are copied.
#[derive(Debug, PartialEq, Eq)]
pub enum Work<L> {
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
    Leave,
    /// So is it, but not before this time, in ticks.
    Wait(u64),
    /// Its stage-2 tables are given back.
    Unmap,
    /// What it had in its memory is overwritten, from this offset on.
    Scrub(u64),
}

/// Why a VM does not start. Whoever says it has logged why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CannotStart;

/// What is done to a VM. Each method does a piece of bounded size.
pub trait Site {
    /// How far the VM's images are copied.
    type Loader;

    /// The time, in ticks.
    fn now(&self) -> u64;

    /// So many milliseconds, in ticks.
    fn ticks(&self, milliseconds: u32) -> u64;

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
    fn cleared(&self);

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
    fn leave(&self) -> Result<Progress, DestroyError>;

    /// OP-TEE has let go of the VM: its devices are as for a VM that was never on, so that none of them drives an
    /// interrupt. What reaches them from outside goes on reaching them.
    fn reset_devices(&self);

    /// So is its interrupt controller. After the devices, which could drive a level into it that nobody takes back.
    fn reset_interrupts(&self);

    /// OP-TEE does not let go of the VM, so nothing is given back. Logs that.
    fn hold(&self, why: DestroyError);

    /// Gives some of the stage-2 tables back; whether there are more.
    fn unmap(&self) -> bool;

    /// Something has happened to the VM: what is to be done.
    fn transition(&self, event: Event) -> Then;

    /// Does it.
    fn carry_out(&self, then: Then);

    /// All of the VM's memory, which was overwritten, is another's to have.
    fn give_memory_back(&self);
}

/// Does a piece of what the VM waits for, and notes what it waits for then. False where it is too early for that:
/// nothing has changed then.
pub fn step<S: Site>(site: &S, work: &mut Work<S::Loader>) -> bool {
    let next = match core::mem::replace(work, Work::Nothing) {
        Work::Wait(until) if site.now() < until => {
            *work = Work::Wait(until);
            return false;
        }
        Work::Prepare if !site.may_start() => {
            *work = Work::Prepare;
            return false;
        }
        Work::Leave | Work::Wait(_) => Ok(leave(site)),
        Work::Unmap => Ok(if site.unmap() {
            Work::Unmap
        } else {
            Work::Scrub(0)
        }),
        Work::Scrub(offset) => Ok(match site.clear(offset) {
            Some(offset) => Work::Scrub(offset),
            None => {
                site.cleared();
                torn_down(site);
                Work::Nothing
            }
        }),
        work => start(site, work),
    };
    *work = next.unwrap_or_else(|CannotStart| {
        let then = site.transition(Event::CannotStart);
        site.carry_out(then);
        Work::Nothing
    });
    true
}

/// The pieces of a start.
fn start<S: Site>(site: &S, work: Work<S::Loader>) -> Result<Work<S::Loader>, CannotStart> {
    Ok(match work {
        Work::Prepare => {
            site.take_memory()?;
            Work::Map(0)
        }
        Work::Map(offset) => site.map(offset)?.map_or(Work::CreateTee, Work::Map),
        Work::CreateTee => {
            if !site.create_tee()? {
                Work::CreateTee
            } else if site.is_clear() {
                Work::Load(site.begin_load())
            } else {
                Work::Clear(0)
            }
        }
        Work::Clear(offset) => match site.clear(offset) {
            Some(offset) => Work::Clear(offset),
            None => {
                site.cleared();
                Work::Load(site.begin_load())
            }
        },
        Work::Load(loader) => site.load(loader)?.map_or(Work::Nothing, Work::Load),
        // What has nothing to do with a start.
        other => other,
    })
}

fn leave<S: Site>(site: &S) -> Work<S::Loader> {
    match site.leave() {
        // Busy: its vCPUs have stopped, so this is the hypervisor's own mistake; trying again does no harm.
        Ok(Progress::More) | Err(DestroyError::Busy) => Work::Leave,
        Ok(Progress::Later(milliseconds)) => Work::Wait(site.now() + site.ticks(milliseconds)),
        Ok(Progress::Done) => {
            site.reset_devices();
            site.reset_interrupts();
            Work::Unmap
        }
        Err(why) => {
            site.hold(why);
            let then = site.transition(Event::Held);
            site.carry_out(then);
            Work::Nothing
        }
    }
}

/// Nothing of the VM is left in OP-TEE or in its memory.
fn torn_down<S: Site>(site: &S) {
    let then = site.transition(Event::TornDown);
    // A reset keeps the VM's memory, so that no other VM can take it meanwhile.
    if let Then::Ended(_) = then {
        site.give_memory_back();
    }
    site.carry_out(then);
}

#[cfg(test)]
mod tests;
