// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The hypervisor is small, and stays so.

use anyhow::{Result, ensure};
use postern_qemu::paths::Paths;
use postern_qemu::prepare::BARE_TARGET;
use postern_qemu::progress::Progress;
use postern_qemu::{cargo, elf};

/// The most that code and data that nobody writes may take, in bytes. What this has come to, and what it
/// consists of, is in docs/decisions/0021-small-and-fast.md.
const MOST: u64 = 318 << 10;

/// What the hypervisor writes while it runs. All else is mapped read-only (`hypervisor/image/image.ld`), whatever the
/// linker has marked it.
const WRITABLE: [&str; 2] = [".data", ".bss"];

#[test]
fn code_and_constants_do_not_grow() -> Result<()> {
    let paths = Paths::discover()?;
    let image = cargo::build(&paths, "postern", BARE_TARGET, &Progress::on_stderr())?;
    let sections = elf::sections(&std::fs::read(image)?)?;
    let mut sum = 0;
    for section in &sections {
        println!("{:16} {:8}", section.name, section.bytes);
        if !WRITABLE.contains(&section.name.as_str()) {
            sum += section.bytes;
        }
    }
    println!("read-only        {sum:8}, at most {MOST}");
    for name in [".text", ".rodata"] {
        ensure!(
            sections.iter().any(|section| section.name == name),
            "the image has no section {name}"
        );
    }
    ensure!(
        sum <= MOST,
        "{sum} bytes of code and constants are more than {MOST}"
    );
    Ok(())
}
