// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks the files that a description names, before anything is fetched or built: that they exist,
//! are of the right kind, and fit.

use super::{Memory, System, Vm};
use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Alignment of a guest's kernel, RAM disk and device tree in bytes.
const BLOCK: u64 = 2 << 20;
/// The unit of a disk in bytes.
const SECTOR: u64 = 512;
/// The least memory in which Debian's Linux unpacks the tool's own RAM disk and runs xtest, in MiB.
/// With 64 its kernel panics: "System is deadlocked on memory".
const LEAST_LINUX_MIB: u64 = 96;
/// RAM for the hypervisor and the firmware in MiB: the minimum, and an amount that always suffices.
const LEAST_HYPERVISOR_MIB: u64 = 4;
const SPARE_MIB: u64 = 28;
/// How many bytes of a file are read to find out its kind.
const HEAD: u64 = 4096;

impl System {
    /// Checks the files that the description names. `guests` is the folder of the bare-metal
    /// programs.
    ///
    /// # Errors
    /// Names the VM, the key, the file and the fix.
    pub fn check_files(&self, guests: &Path) -> Result<()> {
        for disk in &self.machine.disks {
            disk.check_file()?;
        }
        for vm in &self.vms {
            vm.check_files(guests)
                .with_context(|| format!("vm \"{}\"", vm.name))?;
        }
        Ok(())
    }

    /// Checks that the machine's RAM holds the VMs that start with it, `modules` bytes of kernels,
    /// RAM disks and disks, and the hypervisor. The check is off by a few MiB at most; within them the
    /// hypervisor itself decides at boot.
    ///
    /// # Errors
    /// Names the keys to change.
    pub fn check_ram(&self, modules: u64) -> Result<()> {
        let has = self.machine.memory_mib;
        let starts = self.vms.iter().filter(|vm| vm.takes_ram_at_boot());
        let vms = starts.map(|vm| vm.memory.kib() >> 10).sum::<u64>();
        let modules = modules >> 20;
        let least = vms + modules + LEAST_HYPERVISOR_MIB;
        ensure!(
            has >= least,
            "machine.memory_mib = {has}: the VMs that start with the machine have {vms} MiB, their kernels and \
             initrds and disks take {modules} MiB, and the hypervisor and the firmware need some: raise it to {}, \
             lower their memory, or give one autostart = false",
            least + SPARE_MIB
        );
        Ok(())
    }
}

impl Vm {
    fn check_files(&self, guests: &Path) -> Result<()> {
        if let Some(program) = &self.program {
            check_program(guests, program)?;
        }
        let kernel = match &self.kernel {
            Some(file) => Some(kernel_memory(file).with_context(|| key("kernel", file))?),
            None => None,
        };
        let initrd = match &self.initrd {
            // The need of a user's own kernel lies between the two.
            Some(file) => Some(
                initrd(file, self.kernel.is_some() || self.program.is_some())
                    .with_context(|| key("initrd", file))?,
            ),
            None => None,
        };
        if let Some(file) = &self.disk {
            disk(file).with_context(|| key("disk", file))?;
        }
        if let Some(file) = &self.partial_tree {
            partial_tree(file).with_context(|| key("partial_tree", file))?;
        }
        if let (Some(kernel), Some(initrd)) = (kernel, initrd) {
            fits(self.memory, kernel, initrd)?;
        }
        let linux = self.program.is_none() && self.initrd.is_none();
        if linux && self.memory.kib() >> 10 < LEAST_LINUX_MIB {
            bail!(
                "memory = \"{}M\": Linux with the tool's own initrd needs {LEAST_LINUX_MIB}M or more; raise it",
                self.memory.kib() >> 10
            );
        }
        Ok(())
    }
}

fn key(key: &str, file: &Path) -> String {
    format!("{key} = \"{}\"", file.display())
}

/// Checks that a VM's memory holds its kernel, its RAM disk and its device tree in the hypervisor's
/// layout. Both sizes are in bytes.
///
/// # Errors
/// Names an amount that suffices.
pub fn fits(memory: Memory, kernel: u64, initrd: u64) -> Result<()> {
    let blocks = |bytes: u64| bytes.div_ceil(BLOCK);
    let least = (blocks(kernel) + blocks(initrd) + 1) * (BLOCK >> 20);
    let has = memory.kib() >> 10;
    ensure!(
        has >= least,
        "memory = \"{has}M\": kernel, initrd and device tree alone take {least} MiB; raise it"
    );
    Ok(())
}

fn check_program(guests: &Path, name: &str) -> Result<()> {
    if is_program(&guests.join(name)) {
        return Ok(());
    }
    let mut names: Vec<String> = std::fs::read_dir(guests)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| is_program(&entry.path()))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    bail!(
        "program = \"{name}\": there is no such bare-metal program in {}; it has {}",
        guests.display(),
        names.join(", ")
    )
}

/// Returns whether a folder has the package of a bare-metal program, that is one built on
/// `guests/bare`.
fn is_program(folder: &Path) -> bool {
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
    manifest.contains("guest-bare") && folder.join("src/main.rs").is_file()
}

/// Reads the first bytes of a file; returns them and its size.
fn read(file: &Path) -> Result<(Vec<u8>, u64)> {
    let about = std::fs::metadata(file)
        .context("it cannot be read; a relative path starts at the description's folder")?;
    ensure!(!about.is_dir(), "it is a folder; name a file");
    ensure!(about.is_file(), "it is not a regular file; name one");
    ensure!(about.len() > 0, "it is empty");
    let mut head = Vec::new();
    File::open(file)
        .and_then(|file| file.take(HEAD).read_to_end(&mut head))
        .context("it cannot be read")?;
    Ok((head, about.len()))
}

/// Returns the memory that a kernel takes from the start of RAM on, in bytes.
///
/// # Errors
/// Fails when Postern cannot start the file; says what it is and the fix.
pub fn kernel_memory(file: &Path) -> Result<u64> {
    let (head, size) = read(file)?;
    let word = |at: usize| {
        head[at..]
            .first_chunk()
            .map_or(0, |word| u64::from_le_bytes(*word))
    };
    match Kind::of(&head) {
        Kind::Image => {}
        Kind::Gzip if unzipped(&head).is_some_and(|inside| Kind::of(&inside) == Kind::Image) => {
            bail!(
                "it is compressed with gzip, and a kernel must not be; unpack it: gunzip -c {} > Image",
                file.display()
            )
        }
        Kind::Zboot => bail!(
            "it is an EFI zboot image, a compressed kernel; {}",
            unpack_zboot(file, &head).unwrap_or_else(|| WANTED.to_owned())
        ),
        Kind::Elf => bail!("it is an ELF file, such as vmlinux; {WANTED}"),
        other => bail!("it is {}; {WANTED}", other.words()),
    }
    let (text_offset, image_size, flags) = (word(8), word(16), word(24));
    ensure!(
        image_size != 0,
        "its header does not say how much memory it needs (image_size is 0: Linux before 3.17); take a newer one"
    );
    ensure!(
        flags & 1 == 0,
        "it is a big-endian kernel, which Postern does not start; {WANTED}"
    );
    Ok(text_offset.saturating_add(image_size.max(size)))
}

/// The kind of kernel file that the errors ask for.
const WANTED: &str = "give the raw arm64 Image, arch/arm64/boot/Image of a Linux build, or leave kernel out for Debian's";

/// Returns the commands that unpack an EFI zboot image (Linux,
/// drivers/firmware/efi/libstub/zboot-header.S). Its header says where the payload is and how it is
/// compressed.
fn unpack_zboot(file: &Path, head: &[u8]) -> Option<String> {
    let word = |at: usize| {
        head.get(at..at + 4)?
            .first_chunk()
            .map(|word| u32::from_le_bytes(*word))
    };
    let (offset, size) = (word(8)?, word(12)?);
    let name = head.get(24..56)?.split(|&byte| byte == 0).next()?;
    let program = match name {
        b"gzip" => "gunzip",
        b"zstd" | b"zstd22" => "unzstd",
        b"xzkern" | b"xz" => "unxz",
        _ => return None,
    };
    Some(format!(
        "unpack it: tail -c +{} {} | head -c {size} | {program} > Image",
        u64::from(offset) + 1,
        file.display()
    ))
}

/// Checks a RAM disk and returns its size.
fn initrd(file: &Path, own_kernel: bool) -> Result<u64> {
    let (head, size) = read(file)?;
    match Kind::of(&head) {
        Kind::Cpio | Kind::Gzip | Kind::Xz | Kind::Zstd | Kind::Lz4 | Kind::Bzip2 | Kind::Lzma => {}
        _ if own_kernel => {}
        other => bail!(
            "it is {}; give an archive for Linux's initramfs (cpio, format newc, compressed or not), \
             or leave initrd out for the tool's own",
            other.words()
        ),
    }
    Ok(size)
}

/// Checks the content of a disk.
fn disk(file: &Path) -> Result<()> {
    let (_, size) = read(file)?;
    ensure!(
        size.is_multiple_of(SECTOR),
        "its {size} bytes are not whole sectors of {SECTOR}; append zeroes: truncate -s %{SECTOR} {}",
        file.display()
    );
    Ok(())
}

/// Checks the form of a partial device tree. The hypervisor, and `bundle`, check it against the machine's tree.
fn partial_tree(file: &Path) -> Result<()> {
    let (head, size) = read(file)?;
    match Kind::of(&head) {
        Kind::DeviceTree => {}
        Kind::Text => bail!(
            "it is a text file; compile it: dtc -O dtb -o {} {}",
            file.with_extension("dtb").display(),
            file.display()
        ),
        other => bail!(
            "it is {}; give a flattened device tree, as dtc makes it of a .dts file",
            other.words()
        ),
    }
    ensure!(
        size <= postern_boot_tree::MAX_PARTIAL_TREE as u64,
        "it has {size} bytes; the hypervisor takes at most {}",
        postern_boot_tree::MAX_PARTIAL_TREE
    );
    let bytes = std::fs::read(file).context("it cannot be read")?;
    match postern_boot_tree::check::form_problem(&bytes) {
        None => Ok(()),
        Some(problem) => bail!("it is no device tree: {problem}; compile it with dtc again"),
    }
}

fn unzipped(head: &[u8]) -> Option<Vec<u8>> {
    let mut inside = [0; 64];
    flate2::read::GzDecoder::new(head)
        .read_exact(&mut inside)
        .ok()?;
    Some(inside.to_vec())
}

/// The kind of a file, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Image,
    Zboot,
    ZImage,
    BzImage,
    UImage,
    Elf,
    DeviceTree,
    Cpio,
    Gzip,
    Xz,
    Zstd,
    Lz4,
    Bzip2,
    Lzma,
    Efi,
    Deb,
    Text,
    Unknown,
}

impl Kind {
    fn of(head: &[u8]) -> Self {
        let at = |offset: usize, magic: &[u8]| {
            head.get(offset..offset + magic.len())
                .is_some_and(|found| found == magic)
        };
        let table: [(usize, &[u8], Self); 20] = [
            // Linux, Documentation/arch/arm64/booting.rst.
            (56, b"ARM\x64", Self::Image),
            (4, b"zimg", Self::Zboot),
            // Linux, arch/arm/boot/compressed/head.S.
            (36, b"\x18\x28\x6f\x01", Self::ZImage),
            // Linux, Documentation/arch/x86/boot.rst.
            (0x202, b"HdrS", Self::BzImage),
            (0, b"\x27\x05\x19\x56", Self::UImage),
            (0, b"\x7fELF", Self::Elf),
            (0, b"\xd0\x0d\xfe\xed", Self::DeviceTree),
            (0, b"070701", Self::Cpio),
            (0, b"070702", Self::Cpio),
            (0, b"\x1f\x8b", Self::Gzip),
            (0, b"\xfd7zXZ\0", Self::Xz),
            (0, b"\x28\xb5\x2f\xfd", Self::Zstd),
            // The legacy frame, which Linux takes, and today's.
            (0, b"\x02\x21\x4c\x18", Self::Lz4),
            (0, b"\x04\x22\x4d\x18", Self::Lz4),
            (0, b"BZh", Self::Bzip2),
            (0, b"\x5d\0\0", Self::Lzma),
            (0, b"MZ", Self::Efi),
            (0, b"!<arch>\n", Self::Deb),
            // Binary archives of old.
            (0, b"\xc7\x71", Self::Cpio),
            (0, b"070707", Self::Cpio),
        ];
        let found = table.iter().find(|(offset, magic, _)| at(*offset, magic));
        match found {
            Some(&(_, _, kind)) => kind,
            None if is_text(head) => Self::Text,
            None => Self::Unknown,
        }
    }

    /// Returns the kind as the end of a sentence that begins with "it is".
    fn words(self) -> &'static str {
        match self {
            Self::Image => "an arm64 kernel",
            Self::Zboot => "an EFI zboot kernel",
            Self::ZImage => "a 32-bit Arm kernel (zImage)",
            Self::BzImage => "an x86 kernel (bzImage)",
            Self::UImage => "an image of U-Boot's mkimage (uImage)",
            Self::Elf => "an ELF file",
            Self::DeviceTree => "a device tree or a FIT image",
            Self::Cpio => "a cpio archive, such as an initrd",
            Self::Gzip => "a gzip file",
            Self::Xz => "an xz file",
            Self::Zstd => "a zstd file",
            Self::Lz4 => "an lz4 file",
            Self::Bzip2 => "a bzip2 file",
            Self::Lzma => "an lzma file",
            Self::Efi => "an EFI program",
            Self::Deb => "a Debian package or another ar archive",
            Self::Text => "a text file",
            Self::Unknown => "a file of an unknown kind",
        }
    }
}

fn is_text(head: &[u8]) -> bool {
    // The last character may be cut off.
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.is_empty()
        && text
            .chars()
            .all(|c| !c.is_control() || "\n\r\t\x0c\x1b".contains(c))
}

#[cfg(test)]
mod tests;
