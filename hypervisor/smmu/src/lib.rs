// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The driver of an SMMUv3 (IHI 0070F.b), which confines what devices access by themselves to the RAM of the VM that
//! they belong to.
//!
//! Only stage 2 is used, with the tables that the VM's vCPUs use, so a device sees its guest's physical addresses. A
//! stream that belongs to no VM, or to a VM that does not run, aborts, without an event.
//!
//! This crate accesses no register and no memory itself. [`Hardware`] does: the hypervisor implements it on the machine,
//! and the tests implement it as a model of an SMMU.
//!
//! A caller keeps this order:
//!
//! 1. [`abort_all`] on each SMMU, before anything else.
//! 2. [`Smmu::start`]. Where it fails, the SMMU goes on to abort.
//! 3. [`Smmu::reserve`] for the streams of each VM.
//! 4. When a VM starts and its RAM is mapped: [`Smmu::attach`].
//! 5. When its tables change: [`Smmu::invalidate_ipa`] or [`Smmu::invalidate_all`], before memory has another use.
//! 6. When it has ended: [`Smmu::detach`], before its tables and its RAM have another use.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod commands;
mod error;
mod events;
mod identify;
mod registers;
mod smmu;
mod stream_table;

#[cfg(test)]
mod tests;

use mediator::addr::Pa;
use postern_base::ticks::Ticks;

pub use self::error::SmmuError;
pub use self::events::{Event, TakenEvents};
pub use self::identify::Unsupported;
pub use self::smmu::{GlobalErrors, MAX_EVENTS, Smmu, StartError, abort_all};
pub use self::stream_table::{ReserveError, Translation};

/// The registers of one SMMU, the memory that it shares with EL2, and a clock.
pub trait Hardware {
    /// Reads the register of 32 bits at an offset from the start of the first page.
    fn read(&self, register: u32) -> u32;

    /// Writes a register of 32 bits.
    fn write(&mut self, register: u32, value: u32);

    /// Writes a register of 64 bits.
    fn write_double(&mut self, register: u32, value: u64);

    /// Returns memory that is filled with zeroes and never freed, or `None` if none is left. `bytes` is a power of two
    /// of 64 or more, and so is the alignment.
    fn allocate(&mut self, bytes: usize) -> Option<Pa>;

    /// Reads 64 bits of that memory at a multiple of eight bytes, in one access.
    fn read_memory(&self, at: Pa) -> u64;

    /// Writes 64 bits of it, in one access.
    fn write_memory(&mut self, at: Pa, value: u64);

    /// Orders all earlier accesses to memory and registers before all later ones (DSB SY).
    fn order(&self);

    /// Returns the time.
    fn now(&self) -> Ticks;

    /// Returns the ticks of one second, the time that the SMMU may take for anything.
    fn second(&self) -> Ticks;
}

/// Waits until `done`, for a second at most. Returns whether it was done in time.
fn wait_until<H: Hardware>(hardware: &H, mut done: impl FnMut(&H) -> bool) -> bool {
    let end = hardware.now() + hardware.second();
    loop {
        // Once more after the time is over: the pCPU may have been away.
        let late = hardware.now() >= end;
        if done(hardware) {
            return true;
        }
        if late {
            return false;
        }
        core::hint::spin_loop();
    }
}
