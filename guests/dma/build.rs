// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Hands the linker script of bare-metal programs to the linker.

fn main() {
    println!("cargo::rerun-if-changed=../bare/image.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
        println!("cargo::rustc-link-arg-bins=-T{folder}/../bare/image.ld");
    }
}
