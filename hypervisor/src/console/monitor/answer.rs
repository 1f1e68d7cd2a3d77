// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Answers a line: parses, asks the system, and only then writes, so that whatever lock guards
//! the output is not held while something is done.

use super::Entered;
use super::json::{self, Json};
use super::system::{
    CpuFigures, MemoryFigures, Order, PerCpu, PerVm, Refusal, SharedPages, System, TeeFigures,
    VmDetails, VmSummary,
};
use super::text;
use core::fmt::{self, Display, Write};
use postern_base::ids::{MAX_VMS, VmIndex};
use postern_monitor::{Command, MARK, Request};

/// What writes a piece of an answer.
pub type Written<'a> = &'a mut dyn FnMut(&mut dyn Write) -> fmt::Result;

/// What was asked for.
pub enum Answer<'a> {
    /// `vm list`
    Vms(PerVm<VmSummary<'a>>),
    /// `vm info`
    Vm(VmDetails<'a>),
    /// An order, which is taken.
    Done {
        /// The VM.
        vm: &'a str,
        /// What will happen.
        what: &'static str,
    },
    /// `tee stats`
    Tee(PerVm<TeeFigures<'a>>, SharedPages),
    /// `cpu`
    Cpus(PerCpu<CpuFigures<'a>>),
    /// `mem`
    Memory(MemoryFigures, SharedPages),
    /// `log`: so many lines
    Log(usize),
    /// `help`
    Help,
    /// `terminal`
    Terminal(bool),
    /// `stats`
    Stats(PerVm<TeeFigures<'a>>),
}

/// Answers a line. `send` is given each piece that is to go out in one. What the line makes of
/// the session, a terminal or not, if it says so.
pub fn respond<S: System>(
    entered: &Entered,
    system: &S,
    mut send: impl FnMut(Written<'_>),
) -> Option<bool> {
    let line = match entered {
        Ok(line) => line,
        Err(error) => {
            send(&mut |out| writeln!(out, "monitor: {error}"));
            return None;
        }
    };
    let request = Request::parse(line)?;
    let answer = match request.command {
        Ok(command) => execute(command, system),
        Err(mistake) => {
            fail(&request, &mistake, send);
            return None;
        }
    };
    match answer {
        Ok(answer) => {
            succeed(&request, &answer, system, send);
            match answer {
                Answer::Terminal(on) => Some(on),
                _ => None,
            }
        }
        Err(Complaint::NoVm(name)) => {
            let why = format_args!("no virtual machine is called `{name}`: see vm list");
            fail(&request, &why, send);
            None
        }
        Err(Complaint::Refused(vm, why)) => {
            fail(&request, &format_args!("vm {vm}: {why}"), send);
            None
        }
    }
}

/// Why a command is not executed.
enum Complaint<'a> {
    NoVm(&'a str),
    Refused(&'a str, Refusal),
}

fn execute<'a, S: System>(
    command: Command<'a>,
    system: &'a S,
) -> Result<Answer<'a>, Complaint<'a>> {
    let find = |name: &'a str| {
        let known = indices().find(|&vm| system.name(vm) == Some(name));
        known.ok_or(Complaint::NoVm(name))
    };
    Ok(match command {
        Command::List => Answer::Vms(indices().map_while(|vm| system.summary(vm)).collect()),
        Command::Info(name) => {
            let details = system.details(find(name)?);
            Answer::Vm(details.ok_or(Complaint::NoVm(name))?)
        }
        Command::Order(order, vm) => {
            let index = find(vm)?;
            let ordered = system.order(index, order);
            ordered.map_err(|why| Complaint::Refused(vm, why))?;
            let what = consequence(order);
            Answer::Done { vm, what }
        }
        Command::VmMemory(vm, bytes) => {
            let index = find(vm)?;
            let set = system.set_memory(index, bytes);
            set.map_err(|why| Complaint::Refused(vm, why))?;
            let what = "has this much memory from its next start on";
            Answer::Done { vm, what }
        }
        Command::TeeStats(None) => Answer::Tee(tee(system), system.shared_pages()),
        Command::TeeStats(Some(name)) => {
            let figures = system.tee(find(name)?).into_iter().collect();
            Answer::Tee(figures, system.shared_pages())
        }
        Command::Cpu => Answer::Cpus(system.cpus()),
        Command::Memory => Answer::Memory(system.memory(), system.shared_pages()),
        Command::Log(lines) => Answer::Log(lines),
        Command::Help => Answer::Help,
        Command::Terminal(on) => Answer::Terminal(on),
        Command::Stats => Answer::Stats(tee(system)),
    })
}

fn indices() -> impl Iterator<Item = VmIndex> {
    (0..MAX_VMS).filter_map(VmIndex::new)
}

fn tee<S: System>(system: &S) -> PerVm<TeeFigures<'_>> {
    indices().map_while(|vm| system.tee(vm)).collect()
}

const fn consequence(order: Order) -> &'static str {
    match order {
        Order::Start => "starts",
        Order::Stop => "was asked to shut down",
        Order::Reset => "ends and starts again",
        Order::Kill => "ends",
        Order::Pause => "pauses",
        Order::Resume => "goes on",
    }
}

fn succeed(
    request: &Request<'_>,
    answer: &Answer<'_>,
    system: &impl System,
    mut send: impl FnMut(Written<'_>),
) {
    if let Answer::Stats(vms) = answer {
        let shared = system.shared_pages();
        for vm in vms {
            send(&mut |out| json::stats_event(out, vm, shared));
        }
    }
    if request.json {
        send(&mut |out| {
            event(out, request, true, |json| {
                json::members(json, answer, system)
            })
        });
        return;
    }
    if let Answer::Log(lines) = answer {
        // A line at a time: others have something to say as well.
        let _ = system.log(*lines, &mut |line| {
            send(&mut |out| writeln!(text::Tagged::new(out, request.tag), "{line}"));
            Ok(())
        });
    } else {
        send(&mut |out| text::answer(&mut text::Tagged::new(out, request.tag), answer));
    }
    if request.tag.is_some() {
        send(&mut |out| event(out, request, true, |_| Ok(())));
    }
}

fn fail(request: &Request<'_>, why: &impl Display, mut send: impl FnMut(Written<'_>)) {
    if !request.json {
        send(&mut |out| writeln!(text::Tagged::new(out, request.tag), "monitor: {why}"));
    }
    if request.json || request.tag.is_some() {
        send(&mut |out| event(out, request, false, |json| json.text("error", why)));
    }
}

/// The `answer` event.
fn event(
    out: &mut dyn Write,
    request: &Request<'_>,
    ok: bool,
    more: impl FnOnce(&mut Json<'_>) -> fmt::Result,
) -> fmt::Result {
    out.write_str(MARK)?;
    let mut json = Json::object(out)?;
    json.text("event", "answer")?;
    if let Some(tag) = request.tag {
        json.text("tag", tag)?;
    }
    json.text("command", request.spec.map_or("", |spec| spec.path))?;
    json.value("ok", ok)?;
    more(&mut json)?;
    json.end()?;
    out.write_char('\n')
}
