// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest that has a PCI host with QEMU's `edu` device behind it, and has the device access what is not the VM's: the
//! interrupt controller, OP-TEE's memory, all RAM of the machine, and its own RAM of an earlier life. What has an address
//! that is also an address of RAM in the VM is left out, because stage 2 translates it: that of the image in QEMU.
//!
//! There is one event per case, `{"event":"case","name":"…","ok":true}`, with a `text` when it failed. After the first
//! life's cases the program has the device write into its RAM and resets its VM at once. The second life looks for what
//! was written, sends `dma-end` with the number of its life, and powers its VM off. The device keeps a register through the
//! reset, by which the program knows which life it is.
//!
//! With `witness` on its command line it watches its own RAM instead, for as many seconds as the word behind says. With
//! `echo` it watches its RAM and answers the frames on its link, until the command `poweroff` on its console.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod attacks;
#[cfg(target_os = "none")]
mod echo;
#[cfg(target_os = "none")]
mod witness;

#[cfg(target_os = "none")]
guest_bare::program!(start);

#[cfg(target_os = "none")]
fn start() -> ! {
    use guest_bare::event::Event;
    Event::new("ready").text("program", "dma").send();
    let words = &guest_bare::machine::machine().bootargs;
    let mut words = words.split_whitespace();
    match (words.next(), words.next().map(str::parse)) {
        (Some("echo"), _) => echo::run(),
        (Some("witness"), Some(Ok(seconds))) => witness::run(seconds),
        _ => attacks::run(),
    }
    guest_bare::psci::system_off()
}

/// The program runs only in a machine of its own.
#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("a bare-metal program: build it for aarch64-unknown-none-softfloat");
    std::process::exit(2);
}
