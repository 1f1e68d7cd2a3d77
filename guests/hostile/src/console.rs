// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Executes the host's commands and answers them.

use crate::attack::Attack;
use crate::attacks::ATTACKS;
use crate::devices;
use crate::ffa::{self, Ending, FfaKit};
use crate::flood::{FLOODS, Flood};
use crate::kit::Kit;
use crate::measure::{Measured, measure, measure_ffa};
use crate::states::{DEVICE_STATES, LONG, STATES, State};
use alloc::format;
use alloc::string::String;
use guest_bare::event::Event;
use guest_bare::machine::machine;
use guest_bare::{console, pages, psci, timer};

/// Runs on the boot vCPU; never returns.
pub fn main() -> ! {
    let traces = pages::look_for_traces();
    match FfaKit::new() {
        Some(Ok(kit)) => serve_ffa(&kit, traces),
        Some(Err(text)) => wrong(&text),
        None => {}
    }
    let kit = Kit::new();
    if traces > 0 {
        wrong(&format!("{traces} pages hold data of an earlier user"));
    }
    if has_devices() {
        devices::target();
    }
    Event::new("ready").text("program", "hostile").send();
    loop {
        let line = console::read_line();
        let mut words = line.split_ascii_whitespace();
        match (words.next().unwrap_or_default(), words.next()) {
            ("list", None) => {
                list(ATTACKS);
                for state in states() {
                    Event::new("item").text("state", state.name).send();
                }
                Event::new("list-end").send();
            }
            ("run", Some(number)) => match find(ATTACKS, number) {
                Some(attack) => run(&kit, attack),
                None => wrong(&format!("no attack {number}")),
            },
            ("park", Some(name)) => match state(name) {
                Some(state) => park(name, || reach(&kit, state)),
                None => wrong(&format!("no state {name}")),
            },
            ("end", Some(name)) => match state(name) {
                Some(state) => end(&kit, state),
                None => wrong(&format!("no state {name}")),
            },
            ("flood", Some(name)) => match FLOODS.iter().find(|flood| flood.name == name) {
                Some(flood) => tell_flood(&kit, flood),
                None => wrong(&format!("no flood {name}")),
            },
            ("measure", Some(instances)) => {
                tell_measures(instances, |instances| measure(&kit, instances));
            }
            ("alive", None) => alive(kit.alive()),
            ("devices", None) => match devices::check() {
                Ok(()) => Event::new("devices").send(),
                Err(text) => wrong(&text),
            },
            _ => of_every_program(&line),
        }
    }
}

/// Executes a command that all programs know.
fn of_every_program(line: &str) {
    let mut words = line.split_ascii_whitespace();
    match (words.next().unwrap_or_default(), words.next()) {
        ("ping", text) => Event::new("pong")
            .text("text", text.unwrap_or_default())
            .send(),
        ("reset", None) => {
            Event::new("bye").send();
            psci::system_reset()
        }
        ("poweroff", None) => {
            Event::new("bye").send();
            psci::system_off()
        }
        _ => wrong(&format!("unknown command {line:?}")),
    }
}

/// Does so where OP-TEE is reached over FF-A.
fn serve_ffa(kit: &FfaKit, traces: u64) -> ! {
    if traces > 0 {
        wrong(&format!("{traces} pages hold data of an earlier user"));
    }
    if has_devices() {
        devices::target();
    }
    Event::new("ready").text("program", "hostile").send();
    loop {
        let line = console::read_line();
        let mut words = line.split_ascii_whitespace();
        match (words.next().unwrap_or_default(), words.next()) {
            ("list", None) => {
                list(ffa::ATTACKS);
                for ending in ffa::ENDINGS {
                    Event::new("item").text("state", ending.name).send();
                }
                Event::new("list-end").send();
            }
            ("run", Some(number)) => match find(ffa::ATTACKS, number) {
                Some(attack) => run(kit, attack),
                None => wrong(&format!("no attack {number}")),
            },
            ("park", Some(name)) => match ending(name) {
                // As at the states over SMCs, a session is open.
                Some(ending) => park(name, || {
                    kit.open_tests()?;
                    (ending.reach)(kit)
                }),
                None => wrong(&format!("no state {name}")),
            },
            ("end", Some(name)) => match ending(name) {
                Some(ending) => reset_in(name, || (ending.reach)(kit)),
                None => wrong(&format!("no ending {name}")),
            },
            ("measure", Some(instances)) => {
                tell_measures(instances, |instances| measure_ffa(kit, instances));
            }
            ("alive", None) => alive(kit.alive()),
            _ => of_every_program(&line),
        }
    }
}

fn wrong(text: &str) {
    Event::new("error").text("text", text).send();
}

fn find<K>(attacks: &[&'static [Attack<K>]], number: &str) -> Option<&'static Attack<K>> {
    let number: u8 = number.parse().ok()?;
    attacks
        .iter()
        .copied()
        .flatten()
        .find(|attack| attack.number == number)
}

fn has_devices() -> bool {
    machine().pci.is_some() && !machine().virtio.is_empty()
}

/// Returns the states into which this VM can be brought.
fn states() -> impl Iterator<Item = &'static State> {
    let of_devices = if has_devices() { DEVICE_STATES } else { &[] };
    STATES.iter().copied().flatten().chain(of_devices)
}

fn state(name: &str) -> Option<&'static State> {
    states().chain(LONG).find(|state| state.name == name)
}

fn ending(name: &str) -> Option<&'static Ending> {
    ffa::ENDINGS.iter().find(|ending| ending.name == name)
}

fn list<K>(attacks: &[&'static [Attack<K>]]) {
    for attack in attacks.iter().copied().flatten() {
        Event::new("item")
            .number("number", attack.number.into())
            .text("title", attack.title)
            .text("expected", attack.expected)
            .send();
    }
}

fn run<K>(kit: &K, attack: &Attack<K>) {
    let start = timer::now();
    let verdict = (attack.run)(kit);
    let event = Event::new("attack")
        .number("number", attack.number.into())
        .number("ms", since(start));
    match verdict {
        Ok(seen) => {
            let outcome = if seen.not_applicable {
                "not-applicable"
            } else {
                "expected"
            };
            let mut event = event.text("outcome", outcome).text("text", &seen.text);
            for (key, count) in [("denied", seen.denied), ("smcs", seen.smcs)] {
                if let Some(count) = count {
                    event = event.number(key, count);
                }
            }
            event.send();
        }
        Err(text) => event
            .text("outcome", "unexpected")
            .text("text", &text)
            .send(),
    }
}

fn since(start: u64) -> u64 {
    timer::duration(timer::now() - start).as_millis() as u64
}

/// Brings about a state. Each has an open session, so that something has to be closed when the VM
/// ends.
fn reach(kit: &Kit, state: &State) -> Result<(), String> {
    kit.open_tests()?;
    (state.reach)(kit)
}

/// Brings about a state and stays in it, while the console goes on working.
fn park(name: &str, reach: impl FnOnce() -> Result<(), String>) {
    let start = timer::now();
    match reach() {
        Ok(()) => Event::new("parked")
            .text("state", name)
            .number("ms", since(start))
            .send(),
        Err(text) => wrong(&format!("no way to {name}: {text}")),
    }
}

/// Brings about a state and resets the VM in it.
fn end(kit: &Kit, state: &State) {
    reset_in(state.name, || reach(kit, state));
}

/// Brings about a situation and resets the VM in it.
fn reset_in(name: &str, reach: impl FnOnce() -> Result<(), String>) {
    Event::new("ending").text("name", name).send();
    match reach() {
        Ok(()) => psci::system_reset(),
        Err(text) => wrong(&format!("the VM has not ended: {text}")),
    }
}

/// Runs a flood until the next line of input.
fn tell_flood(kit: &Kit, flood: &Flood) {
    Event::new("flooding").text("flood", flood.name).send();
    let start = timer::now();
    match flood.run(kit) {
        Ok(rounds) => Event::new("flooded")
            .text("flood", flood.name)
            .number("ms", since(start))
            .number("rounds", rounds)
            .send(),
        Err(text) => wrong(&format!("flood {}: {text}", flood.name)),
    }
}

fn tell_measures(instances: &str, measure: impl FnOnce(usize) -> Result<Measured, String>) {
    let start = timer::now();
    let measured = instances
        .parse()
        .map_err(|_| format!("{instances:?} is no number"))
        .and_then(measure);
    match measured {
        Ok(measured) => measured
            .add_to(Event::new("measured").number("ms", since(start)))
            .send(),
        Err(text) => wrong(&text),
    }
}

fn alive(result: Result<(), String>) {
    let event = Event::new("alive");
    match result {
        Ok(()) => event.flag("ok", true).send(),
        Err(text) => event.flag("ok", false).text("text", &text).send(),
    }
}
