// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Counts the instructions of calls into hypervisor, firmware and OP-TEE, from the instruction that calls
//! to the one after it.
//!
//! It runs as a guest, or on the bare machine at EL2 in the hypervisor's place. There it is the floor:
//! it talks to the virtualised OP-TEE itself, which no mediator can beat. QEMU must count instructions
//! (`-icount shift=0`) on one CPU.
//!
//! It needs no input. After `ready` there is one event a measurement,
//! `{"event":"bench","name":"…","instructions":N,"samples":N,"calls":N}`, in instructions and counted
//! calls or accesses a sample; `{"event":"bench-failed","name":"…","text":"…"}` where there is no figure; then `bench-end`, and
//! the program turns its machine off.
//!
//! With `sleeper` on its command line it is the other VM, whose waking up is measured, and
//! `beside-sleeper` says that there is one.
//!
//! With `hold` it measures nothing, and holds buffers that it is told to register.
//!
//! With `watched` on its command line it counts nothing, waits for a line of input, and does each thing once for who watches
//! the instructions that the machine executes: [`guest_bare::count::mark_call`] runs before and behind each
//! call, [`guest_bare::count::mark_item`] behind all that belong to one name, and the event is
//! `{"event":"bench-shown","name":"…"}`.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod device;
#[cfg(target_os = "none")]
mod foreign;
#[cfg(target_os = "none")]
mod hold;
#[cfg(target_os = "none")]
mod meter;
#[cfg(target_os = "none")]
mod other;
#[cfg(target_os = "none")]
mod plain;
#[cfg(target_os = "none")]
mod tee;

#[cfg(target_os = "none")]
guest_bare::program!(start);

#[cfg(target_os = "none")]
fn start() -> ! {
    use guest_bare::event::Event;
    use guest_bare::machine::{at_el2, machine};
    Event::new("ready")
        .text("program", "bench")
        .flag("el2", at_el2())
        .number("image", machine().image.start)
        .send();
    let word = |wanted: &str| machine().bootargs.split(' ').any(|word| word == wanted);
    if word("sleeper") {
        other::sleep();
    }
    if word("hold") {
        hold::run();
    }
    if word("watched") {
        // Who watches has to begin first.
        guest_bare::console::read_line();
    }
    match meter::Meter::new(word("watched")) {
        Ok(meter) => {
            plain::measure(&meter);
            device::measure(&meter);
            // The bare machine's tree does not name it.
            if machine().tee || at_el2() {
                tee::measure(&meter);
            }
            if !at_el2() {
                other::measure(&meter, word("beside-sleeper"));
            }
            Event::new("bench-end").send();
        }
        Err(text) => Event::new("error").text("text", &text).send(),
    }
    guest_bare::psci::system_off()
}

/// The program runs in a machine of its own only.
#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("a bare-metal program: build it for aarch64-unknown-none-softfloat");
    std::process::exit(2);
}
