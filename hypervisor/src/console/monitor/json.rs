// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Answers for programs: one line, `@postern ` and a JSON object (RFC 8259).

use super::answer::Answer;
use super::system::{
    Counts, CpuFigures, MemoryFigures, SharedPages, System, TeeFigures, VcpuState, VmDetails,
    VmSummary,
};
use core::fmt::{self, Display, Write};
use mediator::{RpcKind, Stats};
use postern_base::ids::{MAX_PCPUS, PcpuIndex};
use postern_monitor::MARK;
use postern_monitor::specs::SPECS;
use postern_monitor::write::Escaped;

/// An object or an array that is being written.
pub struct Json<'o> {
    out: &'o mut dyn Write,
    first: bool,
    close: char,
}

impl<'o> Json<'o> {
    fn open(out: &'o mut dyn Write, open: char, close: char) -> Result<Self, fmt::Error> {
        out.write_char(open)?;
        Ok(Self {
            out,
            first: true,
            close,
        })
    }

    /// Begins an object.
    pub fn object(out: &'o mut dyn Write) -> Result<Self, fmt::Error> {
        Self::open(out, '{', '}')
    }

    fn comma(&mut self) -> fmt::Result {
        if !core::mem::replace(&mut self.first, false) {
            self.out.write_char(',')?;
        }
        Ok(())
    }

    fn name(&mut self, name: &str) -> fmt::Result {
        self.comma()?;
        write!(self.out, "\"{name}\":")
    }

    /// A number, `true`, `false` or `null`: what JSON writes as Rust does.
    pub fn value(&mut self, name: &str, value: impl Display) -> fmt::Result {
        self.name(name)?;
        write!(self.out, "{value}")
    }

    /// A string.
    pub fn text(&mut self, name: &str, text: impl Display) -> fmt::Result {
        self.name(name)?;
        write!(self.out, "\"{}\"", Escaped(text))
    }

    /// An object.
    pub fn nested(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut Json<'_>) -> fmt::Result,
    ) -> fmt::Result {
        self.name(name)?;
        let mut object = Json::open(self.out, '{', '}')?;
        write(&mut object)?;
        object.end()
    }

    /// An array.
    pub fn array(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut Json<'_>) -> fmt::Result,
    ) -> fmt::Result {
        self.name(name)?;
        let mut array = Json::open(self.out, '[', ']')?;
        write(&mut array)?;
        array.end()
    }

    /// An object in an array.
    pub fn item(&mut self, write: impl FnOnce(&mut Json<'_>) -> fmt::Result) -> fmt::Result {
        self.comma()?;
        let mut object = Json::open(self.out, '{', '}')?;
        write(&mut object)?;
        object.end()
    }

    /// A string in an array.
    pub fn text_item(&mut self, text: impl Display) -> fmt::Result {
        self.comma()?;
        write!(self.out, "\"{}\"", Escaped(text))
    }

    /// A number in an array.
    pub fn value_item(&mut self, value: impl Display) -> fmt::Result {
        self.comma()?;
        write!(self.out, "{value}")
    }

    /// Ends it.
    pub fn end(self) -> fmt::Result {
        self.out.write_char(self.close)
    }

    fn counts(&mut self, name: &str, counts: &Counts<'_>) -> fmt::Result {
        self.nested(name, |object| {
            counts
                .iter()
                .try_for_each(|(name, count)| object.value(name, count))
        })
    }
}

/// The members of an answer that tell what was asked for.
pub fn members(json: &mut Json<'_>, answer: &Answer<'_>, system: &impl System) -> fmt::Result {
    match answer {
        Answer::Vms(vms) => json.array("vms", |array| {
            vms.iter()
                .try_for_each(|vm| array.item(|object| summary(object, vm)))
        }),
        Answer::Vm(vm) => json.nested("vm", |object| details(object, vm)),
        Answer::Done { vm, .. } => json.text("vm", vm),
        Answer::Tee(vms, shared) => {
            json.array("vms", |array| {
                vms.iter()
                    .try_for_each(|vm| array.item(|object| tee(object, vm, *shared)))
            })?;
            shared_pages(json, *shared)
        }
        Answer::Cpus(cpus) => json.array("cpus", |array| {
            let mut cpus = cpus.iter().enumerate();
            cpus.try_for_each(|(index, cpu)| array.item(|object| pcpu(object, index, cpu)))
        }),
        Answer::Memory(figures, shared) => {
            memory(json, figures)?;
            shared_pages(json, *shared)
        }
        Answer::Log(lines) => json.array("lines", |array| {
            system.log(*lines, &mut |line| array.text_item(line))
        }),
        Answer::Help => json.array("commands", |array| {
            SPECS.iter().try_for_each(|spec| {
                array.item(|object| {
                    object.text("command", spec.path)?;
                    object.text("arguments", spec.arguments.text().trim_start())
                })
            })
        }),
        Answer::Terminal(on) => json.value("terminal", on),
        Answer::Stats(_) => Ok(()),
    }
}

fn summary(json: &mut Json<'_>, vm: &VmSummary<'_>) -> fmt::Result {
    json.text("name", vm.name)?;
    json.value("index", vm.index)?;
    json.text("phase", vm.phase)?;
    json.value("vcpus", vm.vcpus)?;
    json.value("memory_kib", vm.memory_kib)?;
    json.value("tee", vm.tee)?;
    json.value("privileged", vm.privileged)?;
    json.value("starts", vm.starts)?;
    json.value("up_ms", vm.up_ms)
}

fn details(json: &mut Json<'_>, vm: &VmDetails<'_>) -> fmt::Result {
    summary(json, &vm.summary)?;
    json.value("channel", vm.channel)?;
    json.array("vcpu", |array| {
        vm.vcpus.iter().try_for_each(|VcpuState { on, pcpu }| {
            array.item(|object| {
                object.value("on", on)?;
                match pcpu {
                    Some(pcpu) => object.value("cpu", pcpu),
                    None => object.value("cpu", "null"),
                }
            })
        })
    })?;
    json.array("affinity", |array| {
        let cpus = (0..MAX_PCPUS).filter_map(PcpuIndex::new);
        let mut allowed = cpus.filter(|cpu| vm.affinity.contains(*cpu));
        allowed.try_for_each(|cpu| array.value_item(cpu.get()))
    })?;
    json.value("next_memory_kib", vm.next_memory_kib)?;
    json.value("pages_held", vm.pages_held)?;
    json.counts("exits", &vm.exits)?;
    json.counts("refused", &vm.refused)
}

fn shared_pages(json: &mut Json<'_>, shared: SharedPages) -> fmt::Result {
    json.value("shared_pages_used", shared.used)?;
    json.value("shared_pages_total", shared.total)
}

/// The members of the `stats` event but its name.
fn tee(json: &mut Json<'_>, vm: &TeeFigures<'_>, shared: SharedPages) -> fmt::Result {
    json.text("vm", vm.vm)?;
    for (name, value) in now(vm).into_iter().chain(so_far(&vm.stats)) {
        json.value(name, value)?;
    }
    let kinds = RpcKind::ALL.map(RpcKind::name);
    json.counts("rpc", &Counts::new(&kinds, &vm.stats.rpc))?;
    json.counts("exits", &vm.exits)?;
    json.counts("refused", &vm.refused)?;
    json.value("shared_pages", shared.used)
}

/// What is held now.
pub fn now(vm: &TeeFigures<'_>) -> [(&'static str, u64); 7] {
    let stats = &vm.stats;
    [
        ("pages_pinned", stats.pages_pinned),
        ("pages_held", vm.pages_held),
        ("buffers", stats.buffers),
        ("rpc_buffers", stats.rpc_buffers),
        ("sessions", stats.sessions),
        ("calls", stats.calls),
        ("mapped_pages", stats.mapped_pages),
    ]
}

/// What has been counted.
pub fn so_far(stats: &Stats) -> [(&'static str, u64); 11] {
    [
        ("smc_fast", stats.fast),
        ("smc_yielding", stats.yielding),
        ("smcs", stats.smcs),
        ("foreign_intr", stats.foreign_intr),
        ("pages_pinned_max", stats.pages_pinned_max),
        ("buffers_max", stats.buffers_max),
        ("denied", stats.denied),
        ("withheld", stats.withheld),
        ("lost", stats.lost),
        ("leaked", stats.leaked),
        ("kept", stats.kept),
    ]
}

fn pcpu(json: &mut Json<'_>, index: usize, cpu: &CpuFigures<'_>) -> fmt::Result {
    json.value("cpu", index)?;
    match cpu.runs {
        Some((vm, vcpu)) => {
            json.text("vm", vm)?;
            json.value("vcpu", vcpu)?;
        }
        None => {
            json.value("vm", "null")?;
            json.value("vcpu", "null")?;
        }
    }
    json.value("secure", cpu.secure)?;
    json.value("idle_percent", cpu.idle_percent)?;
    json.value("idle_ms", cpu.idle_ms)?;
    json.value("masked_ns", cpu.masked_ns)?;
    json.text("masked_by", cpu.masked_by)
}

fn memory(json: &mut Json<'_>, figures: &MemoryFigures) -> fmt::Result {
    json.value("total_kib", figures.total_kib)?;
    json.value("hypervisor_kib", figures.hypervisor_kib)?;
    json.value("guests_kib", figures.guests_kib)?;
    json.value("free_kib", figures.free_kib)?;
    json.value("heap_used_bytes", figures.heap_used_bytes)?;
    json.value("heap_total_bytes", figures.heap_total_bytes)
}

/// The `stats` event of a VM, a whole line.
pub fn stats_event(out: &mut dyn Write, vm: &TeeFigures<'_>, shared: SharedPages) -> fmt::Result {
    out.write_str(MARK)?;
    let mut json = Json::object(out)?;
    json.text("event", "stats")?;
    tee(&mut json, vm, shared)?;
    json.end()?;
    out.write_char('\n')
}
