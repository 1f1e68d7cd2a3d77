// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Values per pCPU, reached without a lock. Its owner declares it: as a static [`PerPcpu`], or, for the one block
//! that every exit from a guest needs, by [`percpu_block!`](crate::percpu_block).
//!
//! `entry.S` puts the address of a pCPU's [`Area`] into its TPIDR_EL2 before Rust runs there, and nothing changes it later.

use core::arch::asm;
use postern_base::ids::{MAX_PCPUS, PcpuIndex};

/// The index of a pCPU, and the block that every exit needs. `entry.S` knows its size.
#[repr(C, align(128))]
pub struct Area<T> {
    index: usize,
    block: T,
}

impl<T> Area<T> {
    /// Holds the block of the pCPU with this index.
    pub const fn new(index: usize, block: T) -> Self {
        assert!(size_of::<Self>() == 128, "entry.S knows this size");
        Self { index, block }
    }
}

/// The areas of all pCPUs, that of the boot pCPU first.
#[repr(C)]
pub struct Areas<T>(
    /// One area per pCPU.
    pub [Area<T>; MAX_PCPUS],
);

// SAFETY: each pCPU reaches its own area (`block`), and EL2 is never preempted or migrated: so no block is ever shared. They
// are made elsewhere than they are used, hence `Send`.
unsafe impl<T: Send> Sync for Areas<T> {}

/// The type of the block that every exit needs.
///
/// # Safety
/// The static `PERCPU_AREAS` is an [`Areas`] of it. [`percpu_block!`](crate::percpu_block) sees to that, and the linker to
/// its being the only one.
pub unsafe trait Block: Send + 'static {}

/// Declares the block that every exit from a guest needs: its type and its first value. Once in the image.
#[macro_export]
macro_rules! percpu_block {
    ($block:ty, $new:expr) => {
        #[unsafe(no_mangle)]
        static PERCPU_AREAS: $crate::percpu::Areas<$block> = $crate::percpu::Areas([
            $crate::percpu::Area::new(0, $new),
            $crate::percpu::Area::new(1, $new),
            $crate::percpu::Area::new(2, $new),
            $crate::percpu::Area::new(3, $new),
            $crate::percpu::Area::new(4, $new),
            $crate::percpu::Area::new(5, $new),
            $crate::percpu::Area::new(6, $new),
            $crate::percpu::Area::new(7, $new),
        ]);

        // SAFETY: the static above is of this type, and a second one of its name does not link.
        #[allow(unsafe_code)]
        unsafe impl $crate::percpu::Block for $block {}
    };
}

/// Returns the address of this pCPU's area.
#[inline]
fn area() -> u64 {
    let area: u64;
    // SAFETY: TPIDR_EL2 is EL2's own and does not change while Rust runs, so reading it has no effect
    // and gives the same value each time.
    unsafe {
        asm!("mrs {}, tpidr_el2", out(reg) area, options(pure, nomem, nostack, preserves_flags));
    }
    area
}

/// Returns the block of this pCPU.
#[inline]
pub fn block<T: Block>() -> &'static T {
    // SAFETY: `entry.S` put the address of an element of PERCPU_AREAS here, which are of this type.
    unsafe { &(*(area() as *const Area<T>)).block }
}

/// Returns the index of this pCPU, 0 for the boot pCPU; below [`MAX_PCPUS`].
#[inline]
pub fn index() -> usize {
    // SAFETY: the index comes first in an area, whatever its block is, and nothing writes it.
    unsafe { *(area() as *const usize) }
}

/// Returns the index of this pCPU as a number of its own kind.
#[inline]
pub fn id() -> PcpuIndex {
    PcpuIndex::new(index()).expect("there are MAX_PCPUS areas")
}

/// One value per pCPU.
pub struct PerPcpu<T>([T; MAX_PCPUS]);

// SAFETY: of the values each pCPU reaches its own (`this`), and EL2 is never preempted or migrated: so no value is ever
// shared. They are made elsewhere than they are used, hence `Send`.
unsafe impl<T: Send> Sync for PerPcpu<T> {}

impl<T> PerPcpu<T> {
    /// Holds these values, that of the boot pCPU first.
    pub const fn new(values: [T; MAX_PCPUS]) -> Self {
        Self(values)
    }

    /// Returns the value of this pCPU.
    #[inline]
    pub fn this(&self) -> &T {
        // SAFETY: the areas have indices below MAX_PCPUS.
        unsafe { self.0.get_unchecked(index()) }
    }
}
