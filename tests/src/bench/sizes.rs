// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Measures Postern's other costs: image, memory at EL2, the instructions of its boot, lines of
//! code.

use super::place;
use crate::Lab;
use anyhow::{Context, Result, bail};
use guest_agent::event::Event;
use postern_ctl::messages::Answer;
use postern_qemu::config::System;
use postern_qemu::console::Channel;
use postern_qemu::elf;
use postern_qemu::prepare::Flavour;
use postern_qemu::session::{Session, What};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

/// Enough for the machine to boot while instructions are counted.
const BOOT: Duration = Duration::from_secs(480);
/// Enough for Linux to boot then.
const LINUX: Duration = Duration::from_secs(1500);
/// Enough for an answer.
const SOON: Duration = Duration::from_secs(120);
/// The pages of the buffer whose memory is measured.
const PAGES: u64 = 1024;
/// The calls of a VM for which OP-TEE has threads; a higher quota takes no memory.
const CALLS: u64 = 2;
/// The MiB of RAM that one VM has more than another.
const MORE_MIB: u64 = 128;
/// The target for the image's constant part in bytes.
const IMAGE: u64 = 128 << 10;

/// All sizes.
#[derive(Clone, Debug, Default)]
pub struct Sizes {
    /// The sections of the image: name, bytes, whether written, whether in the file.
    pub sections: Vec<elf::Section>,
    /// Bytes at EL2 for a VM of 32 MiB.
    pub vm: u64,
    /// Bytes at EL2 for each MiB of a VM's RAM, in hundredths.
    pub mib: u64,
    /// Bytes at EL2 for each page that a guest shares, in hundredths.
    pub page: u64,
    /// Bytes at EL2 for each concurrent call that a VM may have.
    pub call: u64,
    /// Thousands of instructions from the hypervisor's first line to the start of a guest of 32
    /// MiB.
    pub boot: u64,
    /// Millions of instructions from the start of Linux's clock to its first process with the TEE:
    /// on the bare machine, and under Postern.
    pub linux: [u64; 2],
    /// Lines of code by folder: of the product, of tests.
    pub lines: Vec<(String, u64, u64)>,
}

/// Returns a system of guests on the bench's machine.
fn system(lab: &Lab, guests: u32, memory: u64, calls: u64) -> Result<System> {
    let mut text = String::new();
    for guest in 0..guests {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "[[vm]]\nname = \"vm{guest}\"\nprogram = \"bench\"\ncmdline = \"hold\"\nvcpus = 1\n\
             memory = \"{memory}M\"\ntee_quota.calls = {calls}\n"
        );
    }
    let mut system = System::parse(&text)?;
    system.machine = lab.system("bench.toml")?.machine;
    Ok(system)
}

fn ask(session: &mut Session, command: &str) -> Result<Answer> {
    session.send(Channel::Hypervisor, &format!("{command} --json"))?;
    session
        .expect(Channel::Hypervisor, SOON)
        .find(&format!("the answer to `{command}`"), |what| match what {
            What::Answer(answer) if answer.ok => Some((**answer).clone()),
            _ => None,
        })
}

/// Returns the bytes that EL2 has allocated for VMs: in its heap, and of the pages for OP-TEE.
fn taken(session: &mut Session) -> Result<u64> {
    let answer = ask(session, "mem")?;
    let figure = |name: &str| answer.more.get(name).and_then(Value::as_u64);
    let heap = figure("heap_used_bytes").context("no heap_used_bytes")?;
    Ok(heap + figure("shared_pages_used").context("no shared_pages_used")? * 4096)
}

/// Boots guests that wait for commands.
fn up(lab: &Lab, name: &str, system: &System) -> Result<Session> {
    let ready = place::ready(lab, system, Flavour::Shared)?;
    let mut session = Session::boot(&ready.machine, &lab.folder.join(name))?;
    for vm in 1..=system.vms.len() {
        session
            .expect(Channel::Vm(u8::try_from(vm)?), BOOT)
            .program("the program's start", |event| {
                (event["event"] == "ready").then_some(())
            })?;
    }
    Ok(session)
}

/// Returns the microseconds in front of the first line of the log that contains `words`.
fn time(log: &Answer, words: &str) -> Option<u64> {
    let lines = log.more.get("lines")?.as_array()?.iter();
    let line = lines
        .filter_map(Value::as_str)
        .find(|line| line.contains(words))?;
    let (seconds, micros) = line
        .strip_prefix('[')?
        .split_once(']')?
        .0
        .trim()
        .split_once('.')?;
    Some(seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?)
}

/// Measures all sizes.
///
/// # Errors
/// Fails when a system does not boot or does not answer.
pub fn measure(lab: &Lab) -> Result<Sizes> {
    let mut one = up(lab, "one", &system(lab, 1, 32, CALLS)?)?;
    let base = taken(&mut one)?;
    one.send(Channel::Vm(1), &format!("pages {PAGES}"))?;
    let held =
        one.expect(Channel::Vm(1), SOON)
            .program("the buffer", |event| match event["event"].as_str()? {
                "held" => Some(Ok(())),
                "error" => Some(Err(event.to_string())),
                _ => None,
            })?;
    if let Err(text) = held {
        bail!("{text}");
    }
    let with_buffer = taken(&mut one)?;
    let log = ask(&mut one, "log 100")?;
    let begin = time(&log, "Postern").context("the log has no first line")?;
    let start = time(&log, "vm-started").context("the log has no start of a VM")?;
    drop(one);
    let other = |name: &str, guests, memory, calls: u64| {
        let system = system(lab, guests, memory, calls)?;
        taken(&mut up(lab, name, &system)?)
    };
    let two = other("two", 2, 32, CALLS)?;
    let large = other("large", 1, 32 + MORE_MIB, CALLS)?;
    let less = other("calls", 1, 32, CALLS - 1)?;
    let hypervisor = place::ready(lab, &system(lab, 1, 32, CALLS)?, Flavour::Shared)?;
    let file = hypervisor
        .artifacts
        .hypervisor_elf
        .context("no hypervisor")?;
    let file = std::fs::read(&file).with_context(|| file.display().to_string())?;
    Ok(Sizes {
        sections: elf::sections(&file)?,
        vm: two.saturating_sub(base),
        mib: large.saturating_sub(base) * 100 / MORE_MIB,
        page: with_buffer.saturating_sub(base) * 100 / PAGES,
        call: base.saturating_sub(less),
        boot: start.saturating_sub(begin),
        linux: [linux(lab, Flavour::Native)?, linux(lab, Flavour::Shared)?],
        lines: lines(lab.paths.root())?,
    })
}

/// Boots Linux; returns the milliseconds that it reports, which are millions of instructions.
fn linux(lab: &Lab, flavour: Flavour) -> Result<u64> {
    let mut system = System::parse("[[vm]]\nname = \"linux\"\nvcpus = 1\n")?;
    system.machine = lab.system("bench.toml")?.machine;
    let ready = place::ready(lab, &system, flavour)?;
    let name = format!("linux-{flavour:?}").to_lowercase();
    let mut session = Session::boot(&ready.machine, &lab.folder.join(name))?;
    session
        .expect(Channel::Vm(1), LINUX)
        .event("Linux", |event| match event {
            Event::Ready { ms, tee: true, .. } => Some(*ms),
            _ => None,
        })
}

/// The crates whose lines are counted.
const CRATES: [&str; 13] = [
    "hypervisor",
    "mediator",
    "optee-proto",
    "guests/agent",
    "guests/bare",
    "guests/bench",
    "guests/checks",
    "guests/ctl",
    "guests/hostile",
    "guests/probe",
    "qemu",
    "tests",
    "tests/fuzz",
];

fn lines(root: &Path) -> Result<Vec<(String, u64, u64)>> {
    let one = |name: &str| {
        let (mut code, mut tests) = (0, 0);
        for part in ["src", "tests", "harness", "fuzz_targets"] {
            let folder = root.join(name).join(part);
            if folder.is_dir() {
                count(
                    &folder,
                    part == "tests" || name == "tests",
                    &mut code,
                    &mut tests,
                )?;
            }
        }
        anyhow::Ok((name.to_owned(), code, tests))
    };
    CRATES.iter().map(|name| one(name)).collect()
}

fn count(folder: &Path, all_tests: bool, code: &mut u64, tests: &mut u64) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_test = all_tests || name == "tests" || name == "tests.rs" || name == "fake";
        if path.is_dir() {
            count(&path, is_test, code, tests)?;
        } else if name.ends_with(".rs") || name.ends_with(".S") {
            let text =
                std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            let (here, test) = count_text(&text);
            *tests += test + if is_test { here } else { 0 };
            *code += if is_test { 0 } else { here };
        }
    }
    Ok(())
}

/// Counts the lines of code of the program and of its tests, without empty lines and comments. A
/// `#[cfg(test)]` at the beginning of a line, followed by a `mod … {`, begins the tests.
fn count_text(text: &str) -> (u64, u64) {
    let (mut code, mut tests, mut in_tests) = (0, 0, false);
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let next = lines.peek().unwrap_or(&"");
        in_tests |= line == "#[cfg(test)]" && next.starts_with("mod ") && next.ends_with('{');
        let line = line.trim();
        if !line.is_empty() && !line.starts_with("//") {
            *(if in_tests { &mut tests } else { &mut code }) += 1;
        }
    }
    (code, tests)
}

fn hundredths(value: u64) -> String {
    format!("{}.{:02}", value / 100, value % 100)
}

impl Sizes {
    /// Returns the constant bytes of the image, which are neither written nor only zeroes.
    #[must_use]
    pub fn constant(&self) -> u64 {
        constant(&self.sections)
    }

    /// Returns the sizes as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let sections = self.sections.iter();
        let sections: Vec<Value> = sections
            .map(|section| json!({ "name": section.name, "bytes": section.bytes }))
            .collect();
        let lines = self.lines.iter();
        let lines: Vec<Value> = lines
            .map(|(name, code, tests)| json!({ "crate": name, "code": code, "tests": tests }))
            .collect();
        json!({
            "sections": sections,
            "constant_bytes": self.constant(),
            "vm_bytes": self.vm,
            "mib_bytes_x100": self.mib,
            "page_bytes_x100": self.page,
            "call_bytes": self.call,
            "boot_instructions": self.boot * 1000,
            "linux_native_instructions": self.linux[0] * 1_000_000,
            "linux_instructions": self.linux[1] * 1_000_000,
            "lines": lines,
        })
    }

    /// Formats the sizes as Markdown tables.
    #[must_use]
    pub fn tables(&self) -> String {
        let mut text = String::from("| section of the image | bytes | |\n|---|--:|---|\n");
        for section in &self.sections {
            let kind = match (section.in_file, section.writable) {
                (false, _) => "zeroes, not in the file",
                (true, true) => "written to",
                (true, false) => "constant",
            };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| `{}` | {} | {kind} |", section.name, section.bytes);
        }
        let constant = self.constant();
        let reached = if constant <= IMAGE {
            "reached"
        } else {
            "missed"
        };
        let _ = writeln!(
            text,
            "| code and constants | {constant} | ≤ {IMAGE}: {reached} |\n"
        );
        let _ = writeln!(
            text,
            "| memory at EL2 | bytes |\n|---|--:|\n\
             | for a VM of 32 MiB with the TEE | {} |\n\
             | for each MiB of a VM's RAM | {} |\n\
             | for each page that a guest shares with OP-TEE, in a buffer of {PAGES} | {} |\n\
             | for each call that a VM may have under way | {} |\n",
            self.vm,
            hundredths(self.mib),
            hundredths(self.page),
            self.call
        );
        let [native, guest] = self.linux;
        let _ = writeln!(
            text,
            "| boot | million instructions |\n|---|--:|\n\
             | Postern, from its first line to the start of a guest of 32 MiB | {}.{:03} |\n\
             | Linux, from the start of its clock to user space with the TEE, on the bare machine | {native} |\n\
             | Linux, the same under Postern | {guest} |\n",
            self.boot / 1000,
            self.boot % 1000
        );
        text.push_str("| lines of code | program | tests |\n|---|--:|--:|\n");
        for (name, code, tests) in &self.lines {
            let _ = writeln!(text, "| `{name}` | {code} | {tests} |");
        }
        text
    }
}

/// Returns the bytes of sections that are neither written nor only zeroes.
#[must_use]
pub fn constant(sections: &[elf::Section]) -> u64 {
    let constant = sections.iter();
    let constant = constant.filter(|section| section.in_file && !section.writable);
    constant.map(|section| section.bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_count_separates_code_comments_and_tests() {
        let text = "//! About.\nuse a;\n\n/// B.\nfn b() {} // c\n#[cfg(test)]\nmod tests;\n\
                    #[cfg(test)]\nmod more {\n    // d\n    e();\n}\n";
        assert_eq!(count_text(text), (4, 4));
    }

    #[test]
    fn log_times_are_microseconds() {
        let mut log = Answer::default();
        let lines = json!([
            "[    0.014789] info: Postern 0.1.0",
            "[   12.000001] event: x"
        ]);
        log.more.insert("lines".into(), lines);
        assert_eq!(time(&log, "Postern"), Some(14_789));
        assert_eq!(time(&log, "event"), Some(12_000_001));
        assert_eq!(time(&log, "no such"), None);
    }
}
