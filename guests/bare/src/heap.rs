// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A small heap for formatted texts and lists.

use buddy_system_allocator::Heap;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::{NonNull, null_mut};
use spin::mutex::SpinMutex;

const BYTES: usize = 512 * 1024;

#[repr(C, align(4096))]
struct Room(UnsafeCell<[u8; BYTES]>);

// SAFETY: the bytes are handed to the heap once and reached through it only.
unsafe impl Sync for Room {}

static ROOM: Room = Room(UnsafeCell::new([0; BYTES]));

struct Locked(SpinMutex<Heap<32>>);

#[global_allocator]
static HEAP: Locked = Locked(SpinMutex::new(Heap::empty()));

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

/// Gives the heap its room. To be called once, before anything is allocated.
pub fn init() {
    // SAFETY: called once from the boot vCPU; nothing else refers to ROOM.
    unsafe { HEAP.0.lock().init(ROOM.0.get() as usize, BYTES) };
}
