// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Profiles calls: QEMU reports each instruction that the hypervisor executes, and the program
//! marks where a call begins and ends.

use super::document;
use super::place;
use super::rows;
use crate::Lab;
use anyhow::{Context, Result, ensure};
use postern_qemu::config::TeeAbi;
use postern_qemu::console::Channel;
use postern_qemu::prepare::Flavour;
use postern_qemu::{cargo, elf};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

#[cfg(test)]
mod tests;

/// The address of the program in a guest: the start of its RAM, `RAM` in
/// `hypervisor/guest-tree/src/layout.rs`. It is compared with the address that the program reports.
const PROGRAM: u64 = 0x1_0000_0000;
const BARE_TARGET: &str = "aarch64-unknown-none-softfloat";
/// The tool that converts addresses to functions and lines; it comes with the cross compiler.
const ADDR2LINE: &str = "aarch64-linux-gnu-addr2line";
/// The most time for an answer of QEMU's monitor.
const MONITOR: Duration = Duration::from_secs(60);
/// Parts of the paths of other projects' sources.
const FOREIGN: [&str; 3] = ["/rustc/", "/library/", "/registry/"];
/// The rows of a call that are printed; the file has all of them.
const PRINTED: usize = 24;

/// The hypervisor's instructions during one call: offsets into its image, in order.
pub struct Trace {
    /// The program's name for the call.
    pub name: String,
    /// The offsets.
    pub offsets: Vec<u32>,
}

/// The traces of all calls.
pub struct Traces {
    /// The traces, one per call.
    pub calls: Vec<Trace>,
    /// The hypervisor's ELF file.
    pub elf: PathBuf,
}

/// The addresses that QEMU's lines are compared with.
struct TraceMarks {
    mark_item: u64,
    mark_call: u64,
    image: u64,
    bytes: u64,
}

/// The state of reading QEMU's lines.
#[derive(Default)]
struct TraceReader {
    counting: bool,
    called: bool,
    item: Vec<u32>,
    items: Vec<Vec<u32>>,
    last: u64,
}

impl TraceReader {
    fn add(&mut self, watch: &TraceMarks, pc: u64) {
        match pc.checked_sub(watch.image) {
            Some(offset) if offset < watch.bytes => {
                // An access to a device may make QEMU restart an instruction.
                let again = std::mem::replace(&mut self.last, pc) == pc;
                if self.counting && !again {
                    self.item.push(offset as u32);
                }
            }
            _ if pc == watch.mark_call => {
                self.counting = !self.counting;
                self.called = true;
                self.last = 0;
            }
            // Before the first call of an item this mark ends nothing.
            _ if pc == watch.mark_item && std::mem::take(&mut self.called) => {
                self.items.push(std::mem::take(&mut self.item));
            }
            _ => {}
        }
    }
}

/// Returns the address in a line of `-d exec`: `Trace 0: 0x… [cs_base/pc/flags/cflags] …`.
fn address(line: &str) -> Option<u64> {
    let inside = line.strip_prefix("Trace ")?.split_once('[')?.1;
    u64::from_str_radix(inside.split('/').nth(1)?, 16).ok()
}

fn follow(pipe: &Path, watch: &TraceMarks) -> Result<TraceReader> {
    let file = File::open(pipe).with_context(|| pipe.display().to_string())?;
    let mut lines = BufReader::with_capacity(1 << 20, file);
    let (mut seen, mut line) = (TraceReader::default(), Vec::new());
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line)? == 0 {
            return Ok(seen);
        }
        if let Some(pc) = std::str::from_utf8(&line).ok().and_then(address) {
            seen.add(watch, pc);
        }
    }
}

/// Makes QEMU execute instructions one at a time and report them, from now on.
fn begin(monitor: &Path) -> Result<()> {
    let mut socket = UnixStream::connect(monitor).context("QEMU's monitor does not answer")?;
    socket.set_read_timeout(Some(MONITOR))?;
    // The first is for QEMU before 8.1, the second for later versions; each version rejects the
    // other.
    for command in [
        "singlestep on",
        "one-insn-per-tb on",
        "log exec,nochain",
        "info version",
    ] {
        writeln!(socket, "{command}")?;
    }
    // The last answer ends the wait: the monitor's echo does not contain a dot and a number at its
    // end.
    let (mut text, mut part) = (String::new(), [0; 4096]);
    while !text
        .rsplit("info version")
        .next()
        .is_some_and(|end| text.contains("info version") && end.contains('.'))
    {
        let read = socket
            .read(&mut part)
            .context("QEMU's monitor does not answer")?;
        ensure!(read > 0, "QEMU's monitor has ended");
        text.push_str(&String::from_utf8_lossy(&part[..read]));
    }
    Ok(())
}

/// Boots the program under Postern and traces Postern's instructions during each call.
///
/// # Errors
/// Fails when the program does not end, or the traces contradict its events.
pub fn watch(lab: &Lab) -> Result<Traces> {
    let mut system = lab.system("bench.toml")?;
    let vm = system.vms.first_mut().context("there is no VM")?;
    vm.cmdline.push_str(" watched");
    let mut ready = place::ready(lab, &system, Flavour::Shared)?;
    let file = ready.artifacts.hypervisor_elf.clone();
    let file = file.context("there is no hypervisor")?;
    let hypervisor = std::fs::read(&file).with_context(|| file.display().to_string())?;
    let progress = postern_qemu::progress::Progress::silent();
    let program = cargo::build(&lab.paths, "guest-bench", BARE_TARGET, &progress)?;
    let program = std::fs::read(&program).with_context(|| program.display().to_string())?;
    let image = ready.artifacts.loads.first().context("nothing is loaded")?;
    let watch = TraceMarks {
        mark_item: PROGRAM + elf::symbol(&program, "mark_item")?,
        mark_call: PROGRAM + elf::symbol(&program, "mark_call")?,
        image: image.address,
        bytes: elf::extent(&hypervisor)?,
    };
    let folder = lab.folder.join("watched");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    // A socket's path has to be short.
    let short = tempfile::tempdir()?;
    let (pipe, monitor) = (short.path().join("log"), short.path().join("monitor"));
    let made = Command::new("mkfifo").arg(&pipe).status()?;
    ensure!(made.success(), "{} cannot be made", pipe.display());
    let extra = &mut ready.machine.extra;
    let path = monitor.display();
    extra.extend([
        "-chardev".into(),
        format!("socket,id=log,path={path},server=on,wait=off").into(),
    ]);
    extra.extend(["-mon", "chardev=log,mode=readline", "-D"].map(Into::into));
    extra.push(pipe.clone().into());
    let TraceMarks {
        mark_item,
        mark_call,
        image,
        bytes,
    } = watch;
    let filter = format!("{image:#x}+{bytes:#x},{mark_item:#x}+0x4,{mark_call:#x}+0x4");
    extra.extend(["-dfilter".into(), filter.into()]);
    let seen = std::thread::spawn(move || follow(&pipe, &watch));
    let mut names = Vec::new();
    ready.run(
        &folder,
        |event, session| {
            ensure!(
                event["image"] == PROGRAM,
                "the program is at another address: {event}"
            );
            begin(&monitor)?;
            session.send(Channel::Vm(1), "go")
        },
        |event| match event["event"].as_str()? {
            "bench-shown" => {
                names.push(event["name"].as_str()?.to_owned());
                None
            }
            "bench-end" => Some(()),
            _ => None,
        },
    )?;
    let seen = seen.join().ok().context("the reader panicked")??;
    ensure!(
        seen.items.len() == names.len() && !names.is_empty(),
        "{} calls were traced, and {} named: {names:?}",
        seen.items.len(),
        names.len()
    );
    let traces = names.into_iter().zip(seen.items);
    let traces = traces.map(|(name, offsets)| Trace { name, offsets });
    Ok(Traces {
        calls: traces.collect(),
        elf: file,
    })
}

/// A function whose source contains an instruction, inlined or not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct SourceFunction {
    /// The function's name without the crate and generic arguments.
    function: String,
    /// The file and line.
    line: String,
}

/// Returns the innermost function of each offset.
fn places(elf: &Path, offsets: &[u32]) -> Result<BTreeMap<u32, SourceFunction>> {
    let mut child = Command::new(ADDR2LINE)
        .args(["-a", "-i", "-f", "-C", "-e"])
        .arg(elf)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{ADDR2LINE} cannot be run"))?;
    let mut input = child.stdin.take().context("no input")?;
    let text: String = offsets.iter().fold(String::new(), |mut text, offset| {
        let _ = writeln!(text, "{offset:#x}");
        text
    });
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output()?;
    writer.join().ok().context("the writer panicked")??;
    Ok(read_places(&String::from_utf8_lossy(&output.stdout)))
}

fn read_places(text: &str) -> BTreeMap<u32, SourceFunction> {
    let mut found: BTreeMap<u32, SourceFunction> = BTreeMap::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let offset = line
            .strip_prefix("0x")
            .and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let Some(offset) = offset else {
            continue;
        };
        // An address is followed by the innermost function and its line, then by those into which
        // it is inlined. The instruction belongs to the innermost one of this project.
        let mut frames = Vec::new();
        while lines.peek().is_some_and(|line| !line.starts_with("0x")) {
            let function = lines.next().unwrap_or_default();
            frames.push((function, lines.next().unwrap_or_default()));
        }
        let ours = |line: &str| !FOREIGN.iter().any(|part| line.contains(part));
        let frame = frames.iter().find(|(_, line)| ours(line));
        if let Some((function, line)) = frame.or(frames.first()) {
            let (function, line) = (short_name(function), short_line(line));
            found.insert(offset, SourceFunction { function, line });
        }
    }
    found
}

/// Shortens `<a::b::C<D> as e::F>::g::h` to `C::g::h`, and `a::b::c::d` to `c::d`.
fn short_name(name: &str) -> String {
    let (head, tail) = match name.strip_prefix('<').and_then(|rest| {
        let end = closing(rest)?;
        Some((&rest[..end], &rest[end + 1..]))
    }) {
        Some((inside, tail)) => (inside.split(" as ").next().unwrap_or_default(), tail),
        None => ("", name),
    };
    let plain = |text: &str| {
        let (mut plain, mut depth) = (String::new(), 0);
        for letter in text.chars() {
            match letter {
                '<' => depth += 1,
                '>' => depth -= 1,
                _ if depth == 0 => plain.push(letter),
                _ => {}
            }
        }
        plain
    };
    let last = |text: String, count: usize| {
        let words: Vec<&str> = text.split("::").filter(|word| !word.is_empty()).collect();
        words[words.len().saturating_sub(count)..].join("::")
    };
    match head {
        "" => last(plain(tail), 2),
        head => format!("{}::{}", last(plain(head), 1), last(plain(tail), 2)),
    }
}

/// Returns the position of the bracket that closes the one before `text`.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 1;
    for (at, letter) in text.char_indices() {
        depth += match letter {
            '<' => 1,
            '>' => -1,
            _ => 0,
        };
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// Returns the last two folders of a path, without addr2line's discriminator.
fn short_line(line: &str) -> String {
    let line = line.split(' ').next().unwrap_or_default();
    if line.starts_with("??") || line.contains("-cgu.") {
        return "assembly".into();
    }
    let words: Vec<&str> = line.split('/').collect();
    words[words.len().saturating_sub(3)..].join("/")
}

/// The profile of one call.
pub struct Share {
    /// The program's name for the call.
    pub name: String,
    /// The call's instructions in the hypervisor.
    pub instructions: usize,
    /// The instructions by function, the largest number first, with the function's file.
    pub functions: Vec<(usize, String, String)>,
}

/// Assigns the instructions of each call to functions, and writes a file per call into `folder`:
/// the functions, and below them the sequence of calls.
///
/// # Errors
/// Fails when a file cannot be written, or addresses cannot be resolved.
pub fn shares(traces: &[Trace], elf: &Path, folder: &Path) -> Result<Vec<Share>> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let mut offsets: Vec<u32> = traces
        .iter()
        .flat_map(|trace| trace.offsets.iter().copied())
        .collect();
    offsets.sort_unstable();
    offsets.dedup();
    let places = places(elf, &offsets)?;
    let unknown = SourceFunction {
        function: "?".into(),
        line: "?".into(),
    };
    let mut shares = Vec::new();
    for trace in traces {
        let place = |offset: &u32| places.get(offset).unwrap_or(&unknown);
        let mut by_function: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        let mut way: Vec<(&SourceFunction, usize)> = Vec::new();
        for at in trace.offsets.iter().map(place) {
            let file = at.line.split(':').next().unwrap_or_default();
            *by_function.entry((&at.function, file)).or_default() += 1;
            match way.last_mut() {
                Some((last, count)) if *last == at => *count += 1,
                _ => way.push((at, 1)),
            }
        }
        let mut functions: Vec<_> = by_function
            .into_iter()
            .map(|((function, file), count)| (count, function.to_owned(), file.to_owned()))
            .collect();
        functions.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.cmp(b)));
        let share = Share {
            name: trace.name.clone(),
            instructions: trace.offsets.len(),
            functions,
        };
        let mut text = markdown(&share, usize::MAX);
        text.push_str("\nThe sequence of calls:\n\n");
        for (at, count) in way {
            let _ = writeln!(text, "{count:6}  {:50} {}", at.function, at.line);
        }
        let file = folder.join(format!("{}.md", trace.name));
        std::fs::write(&file, text).with_context(|| file.display().to_string())?;
        shares.push(share);
    }
    Ok(shares)
}

/// Formats the largest `most` functions of a call as a table.
#[must_use]
pub fn markdown(share: &Share, most: usize) -> String {
    let mut text = format!(
        "### {}: {} instructions\n\n| instructions | function | in |\n|--:|---|---|\n",
        rows::title(&share.name),
        share.instructions
    );
    for (count, function, file) in share.functions.iter().take(most) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {count} | `{function}` | `{file}` |");
    }
    let rest = share.functions.iter().skip(most);
    match rest.map(|(count, ..)| count).sum() {
        0_usize => {}
        rest => {
            let _ = writeln!(text, "| {rest} | all others | |");
        }
    }
    text
}

/// The calls whose tables are in the document.
const SHOWN: [&str; 4] = ["psci-version", "calls-uid", "invoke", "register-128"];

/// Runs `make bench-profile`: prints the tables of the wanted calls, or of all when none is named.
/// With `update` the document gets those of some calls.
///
/// # Errors
/// Fails as [`watch`] and [`shares`] do.
pub fn run(lab: &Lab, wanted: &[String], update: bool) -> Result<()> {
    ensure!(
        !update || lab.system("bench.toml")?.machine.tee_abi == TeeAbi::Smc,
        "ABI=ffa: BASELINE is for the SMC ABI, whose figures are stored; leave it out"
    );
    let watched = watch(lab)?;
    let folder = lab.paths.out().join("bench/profile");
    let shares = shares(&watched.calls, &watched.elf, &folder)?;
    println!("Instructions that Postern executes during one call, by function.\n");
    println!("| call | instructions in Postern |\n|---|--:|");
    for share in &shares {
        println!("| {} | {} |", rows::title(&share.name), share.instructions);
    }
    println!();
    let tables = |wanted: &dyn Fn(&str) -> bool| -> Vec<String> {
        let shown = shares.iter().filter(|share| wanted(&share.name));
        shown.map(|share| markdown(share, PRINTED)).collect()
    };
    let asked = |name: &str| wanted.is_empty() || wanted.iter().any(|one| one == name);
    println!("{}", tables(&asked).join("\n"));
    println!(
        "All functions and the sequence of each call: {}",
        folder.display()
    );
    if update {
        let shown = tables(&|name| SHOWN.contains(&name));
        document::write(lab, "profile", &shown.join("\n"))?;
    }
    Ok(())
}
