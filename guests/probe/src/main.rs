// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Asks the real OP-TEE what its sources only suggest. The program runs at EL2 in the hypervisor's
//! place, so it can do what no guest may: create VMs, forge a7, pass physical addresses.
//!
//! The experiments over FF-A are in [`ffa`]; they need a machine whose OP-TEE is the SPMC.
//!
//! It reads the name of an experiment from its console, runs it once, and describes OP-TEE's
//! behaviour in one sentence: `{"event":"fact","name":"…","saw":"…"}`. Some experiments make OP-TEE
//! panic, so the host restarts the machine for each (`tests/src/bin/optee-facts`). The results are
//! in `docs/optee-facts.md`.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod facts;
#[cfg(target_os = "none")]
mod ffa;
#[cfg(target_os = "none")]
mod lab;

#[cfg(target_os = "none")]
guest_bare::program!(start);

#[cfg(target_os = "none")]
fn start() -> ! {
    use guest_bare::event::Event;

    Event::new("ready").text("program", "probe").send();
    loop {
        let name = guest_bare::console::read_line();
        let over_smc = facts::ALL.iter().find(|(known, _)| *known == name);
        let over_ffa = ffa::ALL.iter().find(|(known, _)| *known == name);
        // The last line when OP-TEE does not return.
        Event::new("begin").text("name", &name).send();
        let event = match (over_smc, over_ffa) {
            (Some((_, experiment)), _) => {
                Event::new("fact").text("saw", &experiment(&lab::Lab::new()))
            }
            (None, Some((_, experiment))) => Event::new("fact").text("saw", &experiment()),
            (None, None) => Event::new("error").text("text", "there is no such experiment"),
        };
        event.text("name", &name).send();
    }
}

/// The program runs only on the bare machine.
#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("a bare-metal program: build it for aarch64-unknown-none-softfloat");
    std::process::exit(2);
}
