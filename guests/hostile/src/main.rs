// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest that attacks Postern, and OP-TEE through it.
//!
//! Each attack has a number, a title and an expected result ([`attack::Attack`]). The program can
//! also bring itself into each of the states ([`states::State`]) in which a VM may be ended.
//! `README.md` has the commands and events for the host.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod attack;
#[cfg(target_os = "none")]
mod attacks;
#[cfg(target_os = "none")]
mod console;
#[cfg(target_os = "none")]
mod devices;
#[cfg(target_os = "none")]
mod ffa;
#[cfg(target_os = "none")]
mod flood;
#[cfg(target_os = "none")]
mod kit;
#[cfg(target_os = "none")]
mod measure;
#[cfg(target_os = "none")]
mod parked;
#[cfg(target_os = "none")]
mod states;

#[cfg(target_os = "none")]
guest_bare::program!(console::main);

/// The program runs only in a VM.
#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("a bare-metal program: build it for aarch64-unknown-none-softfloat");
    std::process::exit(2);
}
