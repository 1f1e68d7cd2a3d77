// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The entry from EFI firmware (UEFI 2.10): takes leave of it with the device tree and the memory map.
//!
//! It runs on the firmware's stack and tables, before the image's own state exists: no heap, no lock, no log. What it
//! decides is in [`postern_boot_tree::efi`].

use super::mmu;
use aarch64_cpu::registers::{CurrentEL, Readable};
use core::ffi::c_void;
use core::ptr::{NonNull, null, null_mut};
use core::slice;
use mediator::addr::Pa;
use postern_base::range::PaRange;
use postern_boot_tree::efi::{self, ConfigurationTable, MemoryMap, PAGE_SIZE};
use postern_boot_tree::{MAX_TREE, total_size};

type Handle = *mut c_void;
/// A status code: zero is success (appendix D).
type Status = usize;

const LOAD_ERROR: Status = 1 << (usize::BITS - 1) | 1;

// Types of an allocation and of memory (7.2.1).
const BELOW: u32 = 1;
const AT: u32 = 2;
const LOADER_DATA: u32 = 2;

/// Room in bytes for the descriptors that the stub's own allocation adds to the memory map.
const SLACK: usize = 4096;
/// How often the end of the boot services is tried: an event in between makes the map's key stale (7.4.6).
const ATTEMPTS: usize = 8;

/// The system table (4.3), up to what is used.
#[repr(C)]
pub struct SystemTable {
    header: [u64; 3],
    vendor: [u64; 2],
    console_in: [u64; 2],
    console_out_handle: Handle,
    console_out: Option<NonNull<TextOutput>>,
    standard_error: [u64; 2],
    runtime_services: u64,
    boot_services: *const BootServices,
    table_count: usize,
    tables: *const ConfigurationTable,
}

/// The simple text output protocol (12.4), up to what is used.
#[repr(C)]
struct TextOutput {
    reset: u64,
    output_string: unsafe extern "efiapi" fn(NonNull<TextOutput>, *const u16) -> Status,
}

/// The boot services (4.4), up to what is used.
#[repr(C)]
struct BootServices {
    header: [u64; 3],
    priorities: [u64; 2],
    allocate_pages: unsafe extern "efiapi" fn(u32, u32, usize, *mut u64) -> Status,
    free_pages: u64,
    get_memory_map:
        unsafe extern "efiapi" fn(*mut usize, *mut u8, *mut usize, *mut usize, *mut u32) -> Status,
    others: [u64; 11],
    handle_protocol: unsafe extern "efiapi" fn(Handle, &Guid, *mut *const LoadFile2) -> Status,
    more: [u64; 3],
    locate_device_path:
        unsafe extern "efiapi" fn(&Guid, *mut *const DevicePath, *mut Handle) -> Status,
    images: [u64; 5],
    exit_boot_services: unsafe extern "efiapi" fn(Handle, usize) -> Status,
}

/// The protocol that gives a file (13.2), up to what is used.
#[repr(C)]
struct LoadFile2 {
    load_file: unsafe extern "efiapi" fn(
        *const LoadFile2,
        *const DevicePath,
        bool,
        *mut usize,
        *mut u8,
    ) -> Status,
}

type Guid = [u8; 16];
/// 4006c0c1-fcb3-403e-996d-4a6c8724e06d
static LOAD_FILE2: Guid = [
    0xc1, 0xc0, 0x06, 0x40, 0xb3, 0xfc, 0x3e, 0x40, 0x99, 0x6d, 0x4a, 0x6c, 0x87, 0x24, 0xe0, 0x6d,
];

/// A vendor's device path and its end (10.3).
type DevicePath = [u8; 24];
/// Where boot loaders put the initial RAM disk for Linux: 5568e427-68fc-4f3d-ac74-ca555231cc68.
static INITRD: DevicePath = [
    4, 3, 20, 0, 0x27, 0xe4, 0x68, 0x55, 0xfc, 0x68, 0x3d, 0x4f, 0xac, 0x74, 0xca, 0x55, 0x52,
    0x31, 0xcc, 0x68, 0x7f, 0xff, 4, 0,
];

const _: () = assert!(core::mem::offset_of!(BootServices, handle_protocol) == 152);
const _: () = assert!(core::mem::offset_of!(BootServices, locate_device_path) == 184);
const _: () = assert!(core::mem::offset_of!(SystemTable, tables) == 112);
const _: () = assert!(core::mem::offset_of!(BootServices, exit_boot_services) == 232);

/// How it went: x0 and x1.
#[repr(C)]
pub struct Outcome {
    /// The tree for the boot path; 0 if the firmware goes on.
    tree: u64,
    /// What the firmware gets then.
    status: Status,
}

/// Ends the boot services. When it succeeds, the tree that it returns and the whole image are in memory and not only
/// in caches.
///
/// # Safety
/// Firmware has entered the image with this handle and this table; relocations have been applied.
pub unsafe extern "C" fn enter(image: Handle, system: *const SystemTable) -> Outcome {
    // SAFETY: by this function's contract; the firmware does not change the table in the meantime.
    let system = unsafe { &*system };
    // SAFETY: as above.
    match unsafe { leave(image, system) } {
        Ok(tree) => Outcome { tree, status: 0 },
        Err(why) => {
            for text in ["postern: ", why, "\r\n"] {
                say(system, text);
            }
            Outcome {
                tree: 0,
                status: LOAD_ERROR,
            }
        }
    }
}

/// [`enter`], or why it cannot.
///
/// # Safety
/// As [`enter`].
unsafe fn leave(image: Handle, system: &SystemTable) -> Result<u64, &'static str> {
    if CurrentEL.read(CurrentEL::EL) != 2 {
        return Err("entered at EL1, needs EL2: start the firmware at EL2");
    }
    if mmu::image().end > mmu::ADDRESS_LIMIT {
        return Err("the firmware put the image above 512 GiB, where EL2 cannot map it");
    }
    // SAFETY: the firmware's table is valid until the boot services end.
    let boot = unsafe { &*system.boot_services };
    let tables = if system.tables.is_null() {
        &[]
    } else {
        // SAFETY: the system table says so.
        unsafe { slice::from_raw_parts(system.tables, system.table_count) }
    };
    let source = efi::find_tree(tables).ok_or(
        "the firmware has no device tree: give one (U-Boot: bootefi IMAGE TREE; GRUB: devicetree FILE)",
    )?;
    // SAFETY: a tree is there, and it has a header of 40 bytes; nothing writes to it.
    let header = unsafe { slice::from_raw_parts(source as *const u8, 40) };
    let size = (total_size(header).filter(|size| *size <= MAX_TREE))
        .ok_or("the firmware's device tree is none, or larger than 2 MiB")?;
    // SAFETY: as above, with the length that the header gives.
    let source = unsafe { slice::from_raw_parts(source as *const u8, size) };

    let initrd = if efi::modules_in_initrd(source) {
        let loaded = efi::initrd(source).or_else(|| load_initrd(boot));
        Some(loaded.ok_or("the VMs' files are missing: load them as the initrd")?)
    } else {
        for module in efi::modules(source) {
            // No allocation may take its place. That one fails if it is taken already: by U-Boot, for what it loaded,
            // or by the module of another VM; or if it is no RAM, which the boot path reports.
            if let Some(pages) = module.aligned_outward(PAGE_SIZE) {
                let _ = allocate(boot, AT, pages.start().get(), pages.bytes() as usize);
            }
        }
        None
    };

    let mut map_bytes = 0;
    let (mut key, mut stride, mut version) = (0, 0, 0);
    // SAFETY: the service writes to these variables; to the buffer nothing, as it has no bytes.
    let _ = unsafe {
        (boot.get_memory_map)(
            &raw mut map_bytes,
            null_mut(),
            &raw mut key,
            &raw mut stride,
            &raw mut version,
        )
    };
    let room = map_bytes + SLACK;
    let copy_bytes = efi::copy_bytes(size, room);
    let place = allocate(boot, BELOW, mmu::ADDRESS_LIMIT - 1, copy_bytes + room)
        .ok_or("the firmware has no memory for the device tree")?;
    // SAFETY: firmware allocated the pages for this stub, and they hold the slice; any byte is valid.
    let (copy, buffer) = unsafe {
        slice::from_raw_parts_mut(place as *mut u8, copy_bytes + room).split_at_mut(copy_bytes)
    };
    for _ in 0..ATTEMPTS {
        map_bytes = room;
        // SAFETY: the service writes to these variables, and at most `map_bytes` bytes to the buffer.
        let status = unsafe {
            (boot.get_memory_map)(
                &raw mut map_bytes,
                buffer.as_mut_ptr(),
                &raw mut key,
                &raw mut stride,
                &raw mut version,
            )
        };
        if status != 0 {
            break;
        }
        let length = (buffer.get(..map_bytes))
            .and_then(|bytes| MemoryMap::new(bytes, stride))
            .and_then(|map| efi::copy_tree(source, map, copy))
            .filter(|length| *length <= MAX_TREE)
            .ok_or("the firmware's device tree or memory map is malformed")?;
        if let Some(initrd) = initrd {
            efi::place_modules(copy, initrd).ok_or("the initrd is not of this device tree")?;
        }
        // SAFETY: nothing of the firmware's is used behind this, if it succeeds.
        if unsafe { (boot.exit_boot_services)(image, key) } == 0 {
            let image = mmu::image();
            mmu::clean_to_memory(image.start, image.end - image.start);
            mmu::clean_to_memory(place, length as u64);
            return Ok(place);
        }
    }
    Err("the firmware does not end its boot services")
}

/// Loads the initial RAM disk that a boot loader offers.
fn load_initrd(boot: &BootServices) -> Option<PaRange> {
    let mut path = &raw const INITRD;
    let (mut handle, mut protocol) = (null_mut(), null());
    let mut bytes = 0;
    // SAFETY: the services write to these variables alone. The protocol is valid if they return zero, and writes the
    // file's length, since the buffer has none.
    unsafe {
        if (boot.locate_device_path)(&LOAD_FILE2, &raw mut path, &raw mut handle) != 0
            || (boot.handle_protocol)(handle, &LOAD_FILE2, &raw mut protocol) != 0
        {
            return None;
        }
        let _ = ((*protocol).load_file)(protocol, path, false, &raw mut bytes, null_mut());
    }
    let place = allocate(boot, BELOW, mmu::ADDRESS_LIMIT - 1, bytes)?;
    let mut loaded = bytes;
    // SAFETY: as above, and firmware allocated the pages for this stub; they hold the slice.
    let status = unsafe {
        ((*protocol).load_file)(protocol, path, false, &raw mut loaded, place as *mut u8)
    };
    let range = PaRange::new(Pa::new(place), loaded as u64)?;
    (status == 0 && loaded <= bytes).then_some(range)
}

/// Allocates memory for a loader's data, at or below an address.
fn allocate(boot: &BootServices, how: u32, address: u64, bytes: usize) -> Option<u64> {
    let pages = bytes.div_ceil(PAGE_SIZE as usize);
    let mut place = address;
    // SAFETY: the service writes to `place` alone; the memory is the firmware's to give.
    let status = unsafe { (boot.allocate_pages)(how, LOADER_DATA, pages, &raw mut place) };
    (status == 0).then_some(place)
}

/// Writes to the firmware's console, if it has one.
fn say(system: &SystemTable, text: &str) {
    let Some(console) = system.console_out else {
        return;
    };
    for byte in text.bytes() {
        let string = [u16::from(byte), 0];
        // SAFETY: the protocol is valid until the boot services end, and the string ends with a zero.
        let _ = unsafe { (console.as_ref().output_string)(console, string.as_ptr()) };
    }
}
