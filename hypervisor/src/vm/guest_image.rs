// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The loader of a guest's memory before its start: kernel, initial RAM disk, device tree.

use super::guest_memory::GuestMemory;
use super::seed_state;
use super::work::PIECE_BYTES;
use crate::platform::{WALL_CLOCK, machine};
use crate::services::seeds::GuestSeeds;
use mediator::addr::{Ipa, Pa};
use postern_arch::{guest_ram, id_registers, mmu, timer};
use postern_base::gic::GicVersion;
use postern_base::range::IpaRange;
use postern_base::range::PaRange;
use postern_base::secret::wipe;
use postern_boot_tree::{AssignedDevice, BLOCK_SIZE, PartialTree};
use postern_guest_tree::layout::Spis;
use postern_guest_tree::{GIC_PHANDLE, GuestTee, GuestTree};
use thiserror::Error;

/// A guest's images, where the boot loader put them, and their parameters.
pub struct Images {
    /// An arm64 `Image`.
    pub kernel: PaRange,
    /// An initial RAM disk.
    pub ramdisk: Option<PaRange>,
    /// The kernel's command line.
    pub bootargs: &'static str,
    /// The number of vCPUs.
    pub vcpus: usize,
    /// Whether the guest has the second UART.
    pub privileged: bool,
    /// Whether the guest has a watchdog.
    pub watchdog: bool,
    /// The GIC version that the guest sees.
    pub gic: GicVersion,
    /// The numbers of the SPIs that EL2 drives.
    pub spis: Spis,
    /// The devices of the machine that the guest has for itself.
    pub devices: &'static [AssignedDevice<'static>],
    /// What the guest's tree has of some of them.
    pub partial_tree: Option<&'static PartialTree<'static>>,
    /// The number of virtio devices.
    pub virtio: usize,
}

/// The reason that a guest's memory cannot be filled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ImageError {
    /// The kernel module is not an arm64 `Image`.
    #[error("the multiboot,kernel module is not an arm64 Image: give it the kernel's raw Image")]
    NotAnImage,
    /// The images do not fit into the guest's memory.
    #[error("its memory is too small for kernel, ramdisk and device tree: raise `memory`")]
    TooSmall,
}

/// The entry point of the boot vCPU.
#[derive(Clone, Copy)]
pub struct EntryPoint {
    /// The kernel's first instruction.
    pub kernel: Ipa,
    /// The device tree's address, for x0.
    pub tree: Ipa,
}

/// Returns whether the boot loader put an arm64 `Image` where the tree says that the kernel is.
pub fn is_kernel(kernel: PaRange) -> bool {
    ImageHeader::read(kernel).is_some()
}

/// The part of an arm64 `Image`'s header that matters (Linux, Documentation/arch/arm64/booting).
struct ImageHeader {
    text_offset: u64,
    image_size: u64,
}

impl ImageHeader {
    fn read(kernel: PaRange) -> Option<Self> {
        let mut bytes = [0; 64];
        if kernel.bytes() < 64 {
            return None;
        }
        guest_ram::read(kernel.start(), &mut bytes);
        let word = |at: usize| {
            bytes[at..]
                .first_chunk::<8>()
                .map_or(0, |word| u64::from_le_bytes(*word))
        };
        let image_size = word(16);
        (bytes[56..60] == *b"ARM\x64" && image_size != 0).then_some(Self {
            text_offset: word(8),
            image_size,
        })
    }
}

/// The most bytes copied in one step.
const STEP: u64 = PIECE_BYTES / 2;

/// The progress of filling a guest's memory.
pub struct Loader {
    done: u64,
    stage: LoadStage,
}

enum LoadStage {
    Kernel,
    Ramdisk,
    Tree,
    /// Everything is in place.
    Ready(EntryPoint),
}

impl Loader {
    /// Returns a loader that has copied nothing.
    pub const fn new() -> Self {
        Self {
            done: 0,
            stage: LoadStage::Kernel,
        }
    }

    /// Returns where the guest starts, once everything is in place.
    pub const fn entry(&self) -> Option<EntryPoint> {
        match self.stage {
            LoadStage::Ready(entry) => Some(entry),
            LoadStage::Kernel | LoadStage::Ramdisk | LoadStage::Tree => None,
        }
    }

    /// Copies a piece. Returns where the guest starts, once everything is in place. With `tee`, the
    /// guest's device tree has a TEE node.
    ///
    /// # Errors
    /// When the guest cannot start from these images.
    pub fn step(
        &mut self,
        images: &Images,
        memory: &GuestMemory,
        tee: Option<GuestTee>,
    ) -> Result<Option<EntryPoint>, ImageError> {
        let header = ImageHeader::read(images.kernel).ok_or(ImageError::NotAnImage)?;
        let offset = |bytes: u64| {
            memory
                .start()
                .checked_add(bytes)
                .ok_or(ImageError::TooSmall)
        };
        let kernel = offset(header.text_offset)?;
        let kernel_bytes = header.image_size.max(images.kernel.bytes());
        let ramdisk = header
            .text_offset
            .checked_add(kernel_bytes)
            .and_then(|end| end.checked_next_multiple_of(BLOCK_SIZE))
            .ok_or(ImageError::TooSmall)
            .and_then(offset)?;
        match self.stage {
            LoadStage::Kernel => {
                if self.copy(images.kernel, kernel, memory)? {
                    self.stage = LoadStage::Ramdisk;
                }
            }
            LoadStage::Ramdisk => {
                let done = match images.ramdisk {
                    Some(range) => self.copy(range, ramdisk, memory)?,
                    None => true,
                };
                if done {
                    self.stage = LoadStage::Tree;
                }
            }
            LoadStage::Tree => {
                let after = images.ramdisk.map_or(0, PaRange::bytes);
                let tree = ramdisk
                    .get()
                    .checked_add(after)
                    .and_then(|end| end.checked_next_multiple_of(BLOCK_SIZE))
                    .map(Ipa::new)
                    .ok_or(ImageError::TooSmall)?;
                let mut bytes = Self::tree(images, memory, ramdisk, tee);
                put(memory, tree, bytes.len() as u64, |at| {
                    guest_ram::write(at, &bytes);
                })?;
                // It contains the guest's seeds.
                wipe(&mut bytes);
                self.stage = LoadStage::Ready(EntryPoint { kernel, tree });
            }
            LoadStage::Ready(entry) => return Ok(Some(entry)),
        }
        Ok(None)
    }

    /// Copies one piece of `from`. Returns `true` when that was the last.
    fn copy(&mut self, from: PaRange, to: Ipa, memory: &GuestMemory) -> Result<bool, ImageError> {
        // A piece ends at the end of its block, since RAM is contiguous in blocks only.
        let target = to.checked_add(self.done).ok_or(ImageError::TooSmall)?;
        let in_block = STEP - (target.get() & (STEP - 1));
        let length = (from.bytes() - self.done).min(in_block);
        let source = Pa::new(from.start().get() + self.done);
        put(memory, target, length, |at| {
            guest_ram::copy(source, at, length);
        })?;
        self.done += length;
        if self.done < from.bytes() {
            return Ok(false);
        }
        self.done = 0;
        Ok(true)
    }

    fn tree(
        images: &Images,
        memory: &GuestMemory,
        ramdisk: Ipa,
        tee: Option<GuestTee>,
    ) -> alloc::vec::Vec<u8> {
        let seeds = seed_state::for_start();
        let partial = images.partial_tree;
        let gic_phandle = partial.map_or(GIC_PHANDLE, PartialTree::gic_phandle);
        GuestTree {
            vcpus: images.vcpus,
            cpu_compatible: "arm,armv8",
            unified_cache_levels: id_registers::unified_cache_levels(),
            memory: IpaRange {
                start: memory.start(),
                bytes: memory.bytes(),
            },
            bootargs: images.bootargs,
            ramdisk: images.ramdisk.map(|range| IpaRange {
                start: ramdisk,
                bytes: range.bytes(),
            }),
            privileged: images.privileged,
            gic: images.gic,
            gic_phandle,
            rtc: WALL_CLOCK.is_set(),
            virtio: images.virtio,
            watchdog: images.watchdog,
            timer_frequency: corrected_frequency(),
            tee,
            spis: images.spis,
            kaslr_seed: seeds.as_ref().map(GuestSeeds::kaslr),
            rng_seed: seeds.as_ref().map_or(&[], GuestSeeds::rng),
        }
        .write(
            |root| {
                let devices = images.devices.iter();
                devices.for_each(|device| device.write(root, gic_phandle));
                if let Some(partial) = partial {
                    root.node("passthrough", |node| partial.copy("passthrough", node));
                }
            },
            |aliases| {
                if let Some(partial) = partial {
                    partial.copy("aliases", aliases);
                }
            },
        )
    }
}

/// Returns the counter's frequency where `CNTFRQ_EL0`, which the guest reads, does not hold it.
fn corrected_frequency() -> Option<u32> {
    let told = machine().timers.clock_frequency;
    told.filter(|hertz| u64::from(*hertz) != timer::counter_frequency())
}

/// Lets `act` write `bytes` bytes at an address of the guest's RAM, and cleans them to memory: the
/// guest starts with its caches off.
fn put(memory: &GuestMemory, to: Ipa, bytes: u64, act: impl FnOnce(Pa)) -> Result<(), ImageError> {
    let at = memory.translate(to, bytes).ok_or(ImageError::TooSmall)?;
    act(at);
    mmu::clean_to_memory(at.get(), bytes);
    Ok(())
}
