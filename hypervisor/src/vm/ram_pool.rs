// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The RAM that VMs take when they start and give back when they have ended.

use super::frames::{Chunks, Frames, FramesError};
use super::guest_memory::{GuestMemory, MemoryError};
use mediator::addr::Pa;
use postern_base::lock::{Class, Lock};
use postern_base::range::PaRange;
use postern_guest_tree::layout;
use thiserror::Error;

/// Taken when a VM starts or has ended, by nobody on the way of an SMC.
static FRAMES: Lock<Option<Frames>> = Lock::new(Class::Frames, None);

/// Why a VM does not get its RAM.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum RamError {
    /// There is not so much.
    #[error("{0}")]
    Frames(#[from] FramesError),
    /// It cannot have it.
    #[error("{0}")]
    GuestMemory(#[from] MemoryError),
}

/// From here on VMs can take what is free.
pub fn init(frames: Frames) {
    *FRAMES.lock() = Some(frames);
}

/// Gives a VM that has no RAM so many bytes.
///
/// # Errors
/// See [`RamError`]; nothing has changed then.
pub fn allocate(memory: &GuestMemory, bytes: u64) -> Result<(), RamError> {
    let mut frames = FRAMES.lock();
    let frames = frames.as_mut().ok_or(FramesError::BadSize(bytes))?;
    let chunks = frames.allocate(bytes, layout::RAM)?;
    memory.assign(&chunks).map_err(|error| {
        free(frames, &chunks);
        error.into()
    })
}

/// Takes back what a VM had.
pub fn release(chunks: &Chunks) {
    if let Some(frames) = FRAMES.lock().as_mut() {
        free(frames, chunks);
    }
}

fn free(frames: &mut Frames, chunks: &Chunks) {
    for chunk in chunks {
        if let Err(error) = frames.free(*chunk) {
            log::error!("memory of a VM is lost: {error}");
        }
    }
}

fn ranges(memory: &GuestMemory) -> impl Iterator<Item = PaRange> + '_ {
    let range = |(range, to): (postern_base::range::IpaRange, Pa)| PaRange::new(to, range.bytes);
    memory.mappings().filter_map(range)
}

/// Whether all of a VM's RAM is zero.
pub fn is_clear(memory: &GuestMemory) -> bool {
    let frames = FRAMES.lock();
    let mut ranges = ranges(memory);
    frames
        .as_ref()
        .is_some_and(|frames| ranges.all(|range| frames.is_clear(range)))
}

/// A VM's RAM has been cleared.
pub fn mark_clear(memory: &GuestMemory) {
    if let Some(frames) = FRAMES.lock().as_mut() {
        ranges(memory).for_each(|range| frames.mark_clear(range));
    }
}

/// A VM's RAM is about to be written to.
pub fn mark_dirty(memory: &GuestMemory) {
    if let Some(frames) = FRAMES.lock().as_mut() {
        ranges(memory).for_each(|range| frames.mark_dirty(range));
    }
}

/// The bytes that are free.
pub fn free_bytes() -> u64 {
    FRAMES.lock().as_ref().map_or(0, Frames::free_bytes)
}
