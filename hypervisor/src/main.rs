//! The bare-metal image. All of it is in the library, so that the host can test what is not
//! `arch`; linking the library brings the entry point, at `arch/entry.S`.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
use hypervisor as _;

/// The image runs on the machine only; `make run` boots it there.
#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("postern is a bare-metal image: build it for aarch64-unknown-none-softfloat");
    std::process::exit(2);
}
