// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Hands the linker script to the linker when the image for the machine is built.

fn main() {
    println!("cargo::rerun-if-changed=image.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
        println!("cargo::rustc-link-arg-bins=-T{folder}/image.ld");
        // Eight bytes for up to 63 relocations instead of 24 for each; and one copy of equal functions.
        println!("cargo::rustc-link-arg-bins=--pack-dyn-relocs=relr");
        println!("cargo::rustc-link-arg-bins=--icf=all");
    }
}
