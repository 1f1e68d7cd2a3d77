//! The commands of the host, and the answers to them.

use crate::attack::{Attack, Ending};
use crate::attacks::{ATTACKS, ENDINGS};
use crate::kit::Kit;
use alloc::format;
use alloc::string::String;
use guest_bare::event::Event;
use guest_bare::{console, psci, timer};

/// Runs on the boot vCPU for good.
pub fn main() -> ! {
    let kit = Kit::new();
    Event::new("ready").text("program", "hostile").send();
    loop {
        let line = console::read_line();
        let mut words = line.split_ascii_whitespace();
        match (words.next().unwrap_or_default(), words.next()) {
            ("list", None) => list(),
            ("run", Some(number)) => match find(number) {
                Some(attack) => run(&kit, attack),
                None => wrong(&format!("no attack {number}")),
            },
            ("end", Some(name)) => match endings().find(|ending| ending.name == name) {
                Some(ending) => end(&kit, ending),
                None => wrong(&format!("no ending {name}")),
            },
            ("alive", None) => alive(&kit),
            ("ping", text) => Event::new("pong")
                .text("text", text.unwrap_or_default())
                .send(),
            ("poweroff", None) => {
                Event::new("bye").send();
                psci::system_off()
            }
            _ => wrong(&format!("unknown command {line:?}")),
        }
    }
}

fn wrong(text: &str) {
    Event::new("error").text("text", text).send();
}

fn find(number: &str) -> Option<&'static Attack> {
    let number: u8 = number.parse().ok()?;
    ATTACKS
        .iter()
        .copied()
        .flatten()
        .find(|attack| attack.number == number)
}

fn endings() -> impl Iterator<Item = &'static Ending> {
    ENDINGS.iter().copied().flatten()
}

fn list() {
    for attack in ATTACKS.iter().copied().flatten() {
        Event::new("item")
            .number("number", attack.number.into())
            .text("title", attack.title)
            .text("expected", attack.expected)
            .send();
    }
    for ending in endings() {
        Event::new("item")
            .number("number", ending.number.into())
            .text("end", ending.name)
            .send();
    }
    Event::new("list-end").send();
}

fn run(kit: &Kit, attack: &Attack) {
    let start = timer::now();
    let verdict = (attack.run)(kit);
    let ms = timer::duration(timer::now() - start).as_millis() as u64;
    let event = Event::new("attack")
        .number("number", attack.number.into())
        .number("ms", ms);
    match verdict {
        Ok(seen) => {
            let mut event = event.text("outcome", "expected").text("text", &seen.text);
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

fn end(kit: &Kit, ending: &Ending) {
    Event::new("ending").text("name", ending.name).send();
    let text: String = (ending.run)(kit);
    wrong(&format!("the VM has not ended: {text}"));
}

fn alive(kit: &Kit) {
    let event = Event::new("alive");
    match kit.alive() {
        Ok(()) => event.flag("ok", true).send(),
        Err(text) => event.flag("ok", false).text("text", &text).send(),
    }
}
