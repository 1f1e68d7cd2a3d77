// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The bare-metal image: the hypervisor's library, and the first functions of each exit from a
//! guest.
//!
//! They are here because of the compiler's settings. The library is optimised for size, this
//! package for speed, and a function that is `#[inline]` or generic is compiled where it is used.
//! So the code on the path of a call to OP-TEE is fast, and the rest is small
//! (docs/decisions/0021-small-and-fast.md).
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod exits;

/// Tells a user of a host build that the image runs on the machine only; `make run` boots it there.
#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("postern is a bare-metal image: build it for aarch64-unknown-none-softfloat");
    std::process::exit(2);
}
