// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The hypervisor's image stays small.

use anyhow::{Result, ensure};
use postern_qemu::paths::Paths;
use postern_qemu::prepare::BARE_TARGET;
use postern_qemu::progress::Progress;
use postern_qemu::{cargo, elf};

/// The bound for code and constant data in bytes. docs/decisions/0021-small-and-fast.md has the
/// history, and 0048-one-image-for-both-abis.md the parts of FF-A.
const MOST: u64 = 460 << 10;

/// The sections that the hypervisor writes to. All others are mapped read-only
/// (`hypervisor/image/image.ld`), whatever the linker's flags say.
const WRITABLE: [&str; 2] = [".data", ".bss"];

#[test]
fn code_and_constants_stay_within_bound() -> Result<()> {
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
