// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The answer to a line: parses the line, executes it, and only then writes.
//!
//! A line with a tag or `--json` is answered by one line, `@postern ` and a JSON object. Any other
//! line is answered by plain text.

use super::Entered;
use super::system::{System, TeeFigures, VmControlError};
use core::fmt::{Display, Write};
use mediator::RpcKind;
use postern_base::ids::{MAX_PCPUS, MAX_VMS, PcpuIndex, VmIndex};
use postern_monitor::specs::SPECS;
use postern_monitor::{Command, MARK, Request, Writer};

/// A function that writes a piece of an answer.
pub type WriteReply<'a> = &'a mut dyn FnMut(&mut dyn Write);
/// A function that sends what a [`WriteReply`] writes, with no other output in between.
pub type SendReply<'a> = &'a mut dyn FnMut(WriteReply<'_>);

/// The kind of answer.
enum Reply<'a> {
    /// `vm list`
    List,
    /// `vm info`
    Info(VmIndex),
    /// `vm start` and the like, accepted: the name of the VM.
    Done(&'a str),
    /// `tee stats`
    Tee(Option<VmIndex>),
    /// `cpu`
    Cpus,
    /// `mem`
    Memory,
    /// `log`: the number of lines.
    Log(usize),
    /// `help`
    Help,
    /// `echo`
    Echo(bool),
    /// `stats`
    Stats,
}

/// The reason why a command is not executed.
#[derive(Debug, thiserror::Error)]
enum ExecuteError<'a> {
    #[error("no virtual machine is called `{0}`: see vm list")]
    NoVm(&'a str),
    #[error("vm {0}: {1}")]
    LifecycleError(&'a str, VmControlError),
}

/// Answers a line. `send` gets each piece that is sent without interruption. Returns the session's
/// new echo setting if the line changes it.
pub fn respond(entered: &Entered, system: &dyn System, send: SendReply<'_>) -> Option<bool> {
    let line = match entered {
        Ok(line) => line,
        Err(error) => {
            complain(&error, send);
            return None;
        }
    };
    let request = Request::parse(line)?;
    let command = match request.command {
        Ok(command) => command,
        Err(error) => {
            fail(&request, &error, send);
            return None;
        }
    };
    match execute(command, system) {
        Ok(report) => {
            succeed(&request, &report, system, send);
            match report {
                Reply::Echo(on) => Some(on),
                _ => None,
            }
        }
        Err(complaint) => {
            fail(&request, &complaint, send);
            None
        }
    }
}

fn execute<'a>(command: Command<'a>, system: &dyn System) -> Result<Reply<'a>, ExecuteError<'a>> {
    let find = |name: &'a str| {
        let known = vms(system).find(|&vm| system.name(vm) == Some(name));
        known.ok_or(ExecuteError::NoVm(name))
    };
    Ok(match command {
        Command::List => Reply::List,
        Command::Info(name) => Reply::Info(find(name)?),
        Command::Lifecycle(order, vm) => {
            let ordered = system.order(find(vm)?, order);
            ordered.map_err(|why| ExecuteError::LifecycleError(vm, why))?;
            Reply::Done(vm)
        }
        Command::VmMemory(vm, bytes) => {
            let set = system.set_memory(find(vm)?, bytes);
            set.map_err(|why| ExecuteError::LifecycleError(vm, why))?;
            Reply::Done(vm)
        }
        Command::TeeStats(None) => Reply::Tee(None),
        Command::TeeStats(Some(name)) => Reply::Tee(Some(find(name)?)),
        Command::Cpu => Reply::Cpus,
        Command::Memory => Reply::Memory,
        Command::Log(lines) => Reply::Log(lines),
        Command::Help => Reply::Help,
        Command::Echo(on) => Reply::Echo(on),
        Command::Stats => Reply::Stats,
    })
}

fn vms(system: &dyn System) -> impl Iterator<Item = VmIndex> {
    let indices = (0..MAX_VMS).filter_map(VmIndex::new);
    indices.take_while(|&vm| system.name(vm).is_some())
}

/// Returns whether a line is answered by an `answer` event.
fn is_for_programs(request: &Request<'_>) -> bool {
    request.json || request.tag.is_some()
}

fn succeed(request: &Request<'_>, report: &Reply<'_>, system: &dyn System, send: SendReply<'_>) {
    if let Reply::Stats = report {
        for vm in vms(system) {
            send(&mut |out| {
                let _ = out.write_str(MARK);
                let mut json = Writer::object(out);
                json.text("event", &"stats");
                tee(&mut json, vm, system);
                json.end();
                let _ = out.write_char('\n');
            });
        }
    }
    if is_for_programs(request) {
        event(request, true, send, &|json| members(json, report, system));
    } else if let Reply::Log(lines) = report {
        // One line per piece, so that other output can come in between.
        system.log(*lines, &mut |line| {
            send(&mut |out| {
                let _ = writeln!(out, "{line}");
            });
        });
    } else if !matches!(report, Reply::Stats) {
        send(&mut |out| {
            let mut text = Writer::plain(out);
            members(&mut text, report, system);
            text.end();
        });
    }
}

fn fail(request: &Request<'_>, why: &dyn Display, send: SendReply<'_>) {
    if is_for_programs(request) {
        event(request, false, send, &|json| json.text("error", why));
    } else {
        complain(why, send);
    }
}

fn complain(why: &dyn Display, send: SendReply<'_>) {
    send(&mut |out| {
        let _ = writeln!(out, "monitor: {why}");
    });
}

/// Sends the `answer` event.
fn event(request: &Request<'_>, ok: bool, send: SendReply<'_>, more: &dyn Fn(&mut Writer<'_>)) {
    send(&mut |out| {
        let _ = out.write_str(MARK);
        let mut json = Writer::object(out);
        json.text("event", &"answer");
        if let Some(tag) = &request.tag {
            json.text("tag", tag);
        }
        json.text("command", &request.spec.map_or("", |spec| spec.path));
        json.boolean("ok", ok);
        more(&mut json);
        json.end();
        let _ = out.write_char('\n');
    });
}

/// Writes the members of the answer.
fn members(to: &mut Writer<'_>, report: &Reply<'_>, system: &dyn System) {
    match *report {
        Reply::List => {
            to.begin_lines("vms");
            for vm in vms(system) {
                to.begin_line();
                summary(to, vm, system);
                to.end_line();
            }
            to.end_lines();
        }
        Reply::Info(vm) => {
            if to.is_json() {
                to.begin_object("vm");
                details(to, vm, system);
                to.end_object();
            } else {
                details(to, vm, system);
            }
        }
        Reply::Done(vm) if to.is_json() => to.text("vm", &vm),
        Reply::Tee(one) => {
            to.begin_lines("vms");
            for vm in vms(system).filter(|vm| one.is_none_or(|one| one == *vm)) {
                to.begin_line();
                tee(to, vm, system);
                to.end_line();
            }
            to.end_lines();
            shared_pages(to, system);
        }
        Reply::Cpus => {
            to.begin_lines("cpus");
            for cpu in (0..MAX_PCPUS).filter_map(PcpuIndex::new) {
                let Some(figures) = system.cpu(cpu) else {
                    break;
                };
                to.begin_line();
                to.number("cpu", cpu.get() as u64);
                match figures.runs {
                    Some((vm, vcpu)) => {
                        to.text("vm", &vm);
                        to.number("vcpu", vcpu as u64);
                    }
                    None => {
                        to.null("vm");
                        to.null("vcpu");
                    }
                }
                to.boolean("secure", figures.secure);
                to.number("idle_percent", figures.idle_percent);
                to.number("idle_ms", figures.idle_ms);
                to.number("masked_ns", figures.masked_ns);
                to.text("masked_by", &figures.masked_by);
                to.end_line();
            }
            to.end_lines();
        }
        Reply::Memory => {
            let figures = system.memory();
            for (name, number) in [
                ("total_kib", figures.total_kib),
                ("hypervisor_kib", figures.hypervisor_kib),
                ("guests_kib", figures.guests_kib),
                ("free_kib", figures.free_kib),
                ("heap_used_bytes", figures.heap_used_bytes),
                ("heap_total_bytes", figures.heap_total_bytes),
            ] {
                to.number(name, number);
            }
            shared_pages(to, system);
        }
        Reply::Log(lines) => {
            to.begin_lines("lines");
            system.log(lines, &mut |line| to.line(&line));
            to.end_lines();
        }
        Reply::Help => {
            to.begin_lines("commands");
            for spec in &SPECS {
                to.line(spec);
            }
            to.end_lines();
        }
        Reply::Echo(on) => to.boolean("echo", on),
        Reply::Done(_) | Reply::Stats => {}
    }
}

fn summary(to: &mut Writer<'_>, vm: VmIndex, system: &dyn System) {
    let Some(figures) = system.summary(vm) else {
        return;
    };
    to.text("name", &figures.name);
    to.number("index", vm.get() as u64);
    to.text("phase", &figures.phase);
    to.number("vcpus", figures.vcpus as u64);
    to.number("memory_kib", figures.memory_kib);
    to.boolean("tee", figures.tee);
    to.boolean("privileged", figures.privileged);
    to.number("starts", figures.starts);
    to.number("up_ms", figures.up_ms);
}

fn details(to: &mut Writer<'_>, vm: VmIndex, system: &dyn System) {
    summary(to, vm, system);
    let Some(figures) = system.details(vm) else {
        return;
    };
    to.number("channel", u64::from(figures.channel));
    to.begin_array("vcpu");
    for vcpu in &figures.vcpus {
        to.begin_item();
        to.boolean("on", vcpu.on);
        match vcpu.pcpu {
            Some(pcpu) => to.number("cpu", pcpu as u64),
            None => to.null("cpu"),
        }
        to.end_object();
    }
    to.end_array();
    to.begin_array("affinity");
    for cpu in (0..MAX_PCPUS).filter_map(PcpuIndex::new) {
        if figures.affinity.contains(cpu) {
            to.item(cpu.get() as u64);
        }
    }
    to.end_array();
    to.number("next_memory_kib", figures.next_memory_kib);
    to.number("pages_held", figures.pages_held);
    to.number("watchdog_resets", figures.watchdog_resets);
    counts(to, "exits", figures.exits.iter());
    counts(to, "refused", figures.refused.iter());
    counts(to, "frames", figures.frames.iter());
    counts(to, "bytes", figures.bytes.iter());
}

fn counts(to: &mut Writer<'_>, name: &str, counts: impl Iterator<Item = (&'static str, u64)>) {
    to.begin_object(name);
    for (name, count) in counts {
        to.number(name, count);
    }
    to.end_object();
}

fn shared_pages(to: &mut Writer<'_>, system: &dyn System) {
    let shared = system.shared_pages();
    to.number("shared_pages_used", shared.used);
    to.number("shared_pages_total", shared.total);
}

/// Writes the members of the `stats` event except its name.
fn tee(to: &mut Writer<'_>, vm: VmIndex, system: &dyn System) {
    let Some(figures) = system.tee(vm) else {
        return;
    };
    let TeeFigures {
        stats, pages_held, ..
    } = &figures;
    to.text("vm", &figures.vm);
    for (name, number) in [
        // Current holdings,
        ("pages_pinned", stats.pages_pinned),
        ("pages_held", *pages_held),
        ("buffers", stats.buffers),
        ("rpc_buffers", stats.rpc_buffers),
        ("sessions", stats.sessions),
        ("calls", stats.calls),
        ("mapped_pages", stats.mapped_pages),
        // and counters.
        ("smc_fast", stats.fast),
        ("smc_yielding", stats.yielding),
        ("smcs", stats.smcs),
        ("foreign_intr", stats.foreign_intr),
        ("pages_pinned_max", stats.pages_pinned_max),
        ("buffers_max", stats.buffers_max),
        ("denied", stats.denied),
        ("withheld", stats.withheld),
        ("poisoned", stats.poisoned),
        ("leaked", stats.leaked),
        ("kept", stats.kept),
    ] {
        to.number(name, number);
    }
    let kinds = RpcKind::ALL.iter().map(|kind| kind.name());
    counts(to, "rpc", kinds.zip(stats.rpc));
    counts(to, "exits", figures.exits.iter());
    counts(to, "refused", figures.refused.iter());
    to.number("shared_pages", system.shared_pages().used);
}
