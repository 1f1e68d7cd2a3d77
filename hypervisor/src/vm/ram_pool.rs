// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The pool of RAM that VMs take from when they start and give back to when they have ended.

use super::frames::{Chunks, Frames, FramesError};
use super::guest_memory::{GuestMemory, MemoryError};
use crate::console::output;
use mediator::addr::Pa;
use postern_base::lock::{Class, Lock};
use postern_base::range::PaRange;
use postern_console::log::Level;
use thiserror::Error;

/// Locked when a VM starts or has ended; never on the way of an SMC.
static FRAMES: Lock<Option<Frames>> = Lock::new(Class::Frames, None);

/// The reason that a VM does not get its RAM.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum RamError {
    /// The pool cannot supply the RAM.
    #[error("{0}")]
    Frames(#[from] FramesError),
    /// The VM cannot take the RAM.
    #[error("{0}")]
    GuestMemory(#[from] MemoryError),
}

/// Sets the pool's RAM, from which VMs can take from then on.
pub fn init(frames: Frames) {
    *FRAMES.lock() = Some(frames);
}

/// Gives `bytes` bytes to a VM that has no RAM.
///
/// # Errors
/// See [`RamError`]; nothing has changed then.
pub fn allocate(memory: &GuestMemory, bytes: u64) -> Result<(), RamError> {
    if let Some(range) = memory.direct_range() {
        let part = PaRange::new(range.start(), bytes).filter(|part| range.contains(*part));
        let part = part.ok_or(MemoryError::TooMuch(bytes))?;
        return Ok(memory.assign(&core::iter::once(part).collect())?);
    }
    let mut frames = FRAMES.lock();
    let frames = frames.as_mut().ok_or(FramesError::BadSize(bytes))?;
    let chunks = frames.allocate(bytes, memory.start())?;
    memory.assign(&chunks).map_err(|error| {
        free(frames, &chunks);
        error.into()
    })
}

/// Takes back the chunks of a VM, unless the VM has the same in its next life.
pub fn release(memory: &GuestMemory, chunks: &Chunks) {
    if memory.direct_range().is_some() {
        return;
    }
    if let Some(frames) = FRAMES.lock().as_mut() {
        free(frames, chunks);
    }
}

fn free(frames: &mut Frames, chunks: &Chunks) {
    for chunk in chunks {
        if let Err(error) = frames.free(*chunk) {
            output::log(
                Level::Error,
                format_args!("a VM's memory cannot be freed: {error}"),
            );
        }
    }
}

fn ranges(memory: &GuestMemory) -> impl Iterator<Item = PaRange> + '_ {
    let range = |(range, to): (postern_base::range::IpaRange, Pa)| PaRange::new(to, range.bytes);
    memory.mappings().filter_map(range)
}

/// Returns whether all of a VM's RAM is zero. Never known of a VM that sees its RAM at its physical addresses: no SMMU
/// keeps its devices from it, so they may write to it after its end.
pub fn is_clear(memory: &GuestMemory) -> bool {
    if memory.direct_range().is_some() {
        return false;
    }
    let frames = FRAMES.lock();
    let mut ranges = ranges(memory);
    frames
        .as_ref()
        .is_some_and(|frames| ranges.all(|range| frames.is_clear(range)))
}

/// Records that a VM's RAM has been cleared.
pub fn mark_clear(memory: &GuestMemory) {
    if let Some(frames) = FRAMES.lock().as_mut() {
        ranges(memory).for_each(|range| frames.mark_clear(range));
    }
}

/// Records that a VM's RAM is about to be written to.
pub fn mark_dirty(memory: &GuestMemory) {
    if let Some(frames) = FRAMES.lock().as_mut() {
        ranges(memory).for_each(|range| frames.mark_dirty(range));
    }
}

/// Returns the number of free bytes.
pub fn free_bytes() -> u64 {
    FRAMES.lock().as_ref().map_or(0, Frames::free_bytes)
}
