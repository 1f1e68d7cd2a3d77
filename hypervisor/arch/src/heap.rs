// SPDX-License-Identifier: Apache-2.0 OR MIT
//! EL2's heap: page tables, VMs, the mediators' books. An INVOKE allocates nothing; registering
//! memory and opening sessions may.

use buddy_system_allocator::Heap;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::{NonNull, null_mut};
use postern_base::lock::{Class, Lock};

/// Enough for EL2's page tables, before RAM is known.
const BOOT_BYTES: usize = 512 * 1024;

#[repr(C, align(4096))]
struct Boot(UnsafeCell<[u8; BOOT_BYTES]>);

// SAFETY: the bytes are handed to the heap once and reached through it only.
unsafe impl Sync for Boot {}

static BOOT: Boot = Boot(UnsafeCell::new([0; BOOT_BYTES]));

/// EL2 runs with interrupts masked, so a spin lock is enough.
struct Locked(Lock<Heap<33>>);

#[global_allocator]
static HEAP: Locked = Locked(Lock::new(Class::Heap, Heap::empty()));

// SAFETY: `Heap` hands out disjoint blocks that fit the layout, under the lock.
unsafe impl GlobalAlloc for Locked {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0
            .lock()
            .alloc(layout)
            .map_or(null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the caller got this block from `alloc` with this layout.
            unsafe { self.0.lock().dealloc(block, layout) };
        }
    }
}

/// Gives the heap its first bytes. To be called once, before anything is allocated.
pub fn init() {
    // SAFETY: called once from the boot pCPU; nothing else refers to BOOT.
    unsafe { HEAP.0.lock().init(BOOT.0.get() as usize, BOOT_BYTES) };
}

/// Adds a piece of unused RAM to the heap, `bytes` long at `start`.
///
/// # Safety
/// The range is mapped at EL2 and belongs to the caller, which does not use it any more.
pub unsafe fn add(start: u64, bytes: u64) {
    // SAFETY: by this function's contract.
    unsafe {
        HEAP.0
            .lock()
            .add_to_heap(start as usize, (start + bytes) as usize);
    }
}

/// Bytes in use and bytes in all.
pub fn usage() -> (usize, usize) {
    let heap = HEAP.0.lock();
    (heap.stats_alloc_actual(), heap.stats_total_bytes())
}
