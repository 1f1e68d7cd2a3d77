// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Counts the instructions of calls into hypervisor, firmware and OP-TEE, from the calling
//! instruction to the one after it.
//!
//! It runs as a guest, or on the bare machine at EL2 in the hypervisor's place. The latter is the
//! baseline, which no mediator can beat: the program itself talks to the virtualised OP-TEE. QEMU
//! must count instructions (`-icount shift=0`) on one CPU.
//!
//! It needs no input. After `ready` there is one event per measurement,
//! `{"event":"bench","name":"…","instructions":N,"samples":N,"calls":N}`, with the instructions and
//! the counted calls or accesses per sample, or `{"event":"bench-failed","name":"…","text":"…"}`
//! where there is no figure; then `bench-end`, and the program powers its machine off.
//!
//! With `sleeper` on its command line it is the other VM, which answers frames, and whose wake-ups are measured;
//! `beside-sleeper` says that there is one.
//!
//! With `device` it measures how long the interrupt of an assigned device takes, then waits for ever.
//!
//! With `hold` it measures nothing, and holds the buffers that the host makes it register.
//!
//! With `watched` on its command line it counts nothing, waits for a line of input, and makes each
//! call once, for a host that traces the machine's instructions: [`guest_bare::count::mark_call`]
//! runs before and after each call, [`guest_bare::count::mark_item`] after all calls of one name,
//! and the event is `{"event":"bench-shown","name":"…"}`.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod device;
#[cfg(target_os = "none")]
mod ffa;
#[cfg(target_os = "none")]
mod foreign;
#[cfg(target_os = "none")]
mod hold;
#[cfg(target_os = "none")]
mod link;
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
        link::answer();
        other::sleep();
    }
    if word("hold") {
        hold::run();
    }
    if word("device") {
        match meter::Meter::new(false) {
            Ok(meter) => device::measure_own(&meter),
            Err(text) => Event::new("error").text("text", &text).send(),
        }
        loop {
            guest_bare::timer::wait_for_interrupt();
        }
    }
    if word("watched") {
        // The host has to start tracing first.
        guest_bare::console::read_line();
    }
    match meter::Meter::new(word("watched")) {
        Ok(meter) => {
            plain::measure(&meter);
            device::measure(&meter);
            if at_el2() {
                device::measure_own(&meter);
            }
            // The bare machine's tree does not name the TEE, and no tree does over FF-A.
            if ffa::is_there() {
                ffa::measure(&meter);
            } else if machine().tee || at_el2() {
                tee::measure(&meter);
            }
            if !at_el2() {
                link::measure(&meter);
                other::measure(&meter, word("beside-sleeper"));
            }
            Event::new("bench-end").send();
        }
        Err(text) => Event::new("error").text("text", &text).send(),
    }
    guest_bare::psci::system_off()
}

/// The program runs only in a machine of its own.
#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("a bare-metal program: build it for aarch64-unknown-none-softfloat");
    std::process::exit(2);
}
