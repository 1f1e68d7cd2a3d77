// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The pCPUs' stacks, each above a page that is never mapped, so that an overflow faults.

use core::cell::UnsafeCell;
use postern_base::ids::{MAX_PCPUS, PcpuIndex};

/// Bytes of a pCPU's stack.
pub const STACK_BYTES: usize = 64 * 1024;
/// Bytes of the hole below each stack.
pub const GUARD_BYTES: usize = 4096;

#[repr(C, align(4096))]
struct Slot {
    guard: [u8; GUARD_BYTES],
    stack: [u8; STACK_BYTES],
}

/// One slot per pCPU, and a spare one for the report of an overflow.
#[repr(transparent)]
struct Slots(UnsafeCell<[Slot; MAX_PCPUS + 1]>);

// SAFETY: Rust never touches the bytes; each slot is the stack pointer's of one pCPU alone.
unsafe impl Sync for Slots {}

#[unsafe(link_section = ".stacks")]
static SLOTS: Slots = Slots(UnsafeCell::new(
    [const {
        Slot {
            guard: [0; GUARD_BYTES],
            stack: [0; STACK_BYTES],
        }
    }; MAX_PCPUS + 1],
));

/// A pointer in a constant, relocated at entry, that assembly loads.
#[repr(transparent)]
pub struct StackTop(*const u8);

// SAFETY: the pointer is only ever loaded into SP.
unsafe impl Sync for StackTop {}

/// The boot pCPU's stack, for `entry.S`.
pub static BOOT_STACK_TOP: StackTop =
    StackTop(SLOTS.0.get().cast::<u8>().wrapping_add(size_of::<Slot>()));
/// The spare stack, for `vectors.S`: a pCPU with an exception in EL2 uses it.
pub static SPARE_STACK_TOP: StackTop = StackTop(
    SLOTS
        .0
        .get()
        .cast::<u8>()
        .wrapping_add((MAX_PCPUS + 1) * size_of::<Slot>()),
);

/// Returns the address just above the stack of a pCPU.
pub fn top(pcpu: PcpuIndex) -> u64 {
    SLOTS.0.get() as u64 + ((pcpu.get() + 1) * size_of::<Slot>()) as u64
}

/// Returns the addresses of the pages that stay unmapped.
pub fn guards() -> impl Iterator<Item = u64> {
    (0..=MAX_PCPUS).map(|index| SLOTS.0.get() as u64 + (index * size_of::<Slot>()) as u64)
}
