// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Answers for people.

use super::answer::Answer;
use super::json::now;
use super::system::{
    Counts, CpuFigures, MemoryFigures, SharedPages, TeeFigures, VmDetails, VmSummary,
};
use core::fmt::{self, Write};
use mediator::RpcKind;
use postern_base::ids::{MAX_PCPUS, PcpuIndex};
use postern_monitor::specs::SPECS;

/// Puts the tag in front of each line, so that a program finds them among others.
pub struct Tagged<'o, 't> {
    out: &'o mut dyn Write,
    tag: Option<&'t str>,
    in_line: bool,
}

impl<'o, 't> Tagged<'o, 't> {
    /// Lines for `out`, at the beginning of one.
    pub fn new(out: &'o mut dyn Write, tag: Option<&'t str>) -> Self {
        Self {
            out,
            tag,
            in_line: false,
        }
    }
}

impl Write for Tagged<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let Some(tag) = self.tag else {
            return self.out.write_str(text);
        };
        for piece in text.split_inclusive('\n') {
            if !self.in_line {
                write!(self.out, "#{tag} ")?;
            }
            self.out.write_str(piece)?;
            self.in_line = !piece.ends_with('\n');
        }
        Ok(())
    }
}

/// Writes an answer, whole lines. Not `log`, whose lines go out one by one.
pub fn answer(out: &mut impl Write, answer: &Answer<'_>) -> fmt::Result {
    match answer {
        Answer::Vms(vms) => list(out, vms),
        Answer::Vm(vm) => details(out, vm),
        Answer::Done { vm, what } => writeln!(out, "vm {vm} {what}"),
        Answer::Tee(vms, shared) => {
            vms.iter().try_for_each(|vm| tee(out, vm))?;
            shared_pages(out, *shared)
        }
        Answer::Cpus(cpus) => pcpus(out, cpus),
        Answer::Memory(figures, shared) => memory(out, figures, *shared),
        Answer::Help => SPECS.iter().try_for_each(|spec| writeln!(out, "{spec}")),
        Answer::Terminal(on) => writeln!(out, "terminal is {}", if *on { "on" } else { "off" }),
        Answer::Log(_) | Answer::Stats(_) => Ok(()),
    }
}

const fn yes_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

/// RAM: MiB, or KiB where it is not whole.
struct Kib(u64);

impl fmt::Display for Kib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, unit) = if self.0.is_multiple_of(1024) {
            (self.0 / 1024, "MiB")
        } else {
            (self.0, "KiB")
        };
        match f.width() {
            // The unit and its blank take four columns.
            Some(width) => write!(f, "{number:>0$} {unit}", width.saturating_sub(4)),
            None => write!(f, "{number} {unit}"),
        }
    }
}

/// A time: days where there are some, hours, minutes, seconds.
struct Up(u64);

impl fmt::Display for Up {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1000;
        let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
        if days > 0 {
            write!(f, "{days}d ")?;
        }
        write!(f, "{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60)
    }
}

fn list(out: &mut impl Write, vms: &[VmSummary<'_>]) -> fmt::Result {
    let names = vms.iter().map(|vm| vm.name.len());
    let width = names.max().unwrap_or(0).max("NAME".len());
    writeln!(
        out,
        "{:width$}  {:8}  {:>5}  {:>10}  {:3}  {:10}  {:>6}  UP",
        "NAME", "STATE", "VCPUS", "MEMORY", "TEE", "PRIVILEGED", "STARTS"
    )?;
    for vm in vms {
        writeln!(
            out,
            "{:width$}  {:8}  {:>5}  {:>10}  {:3}  {:10}  {:>6}  {}",
            vm.name,
            vm.phase,
            vm.vcpus,
            Kib(vm.memory_kib),
            yes_no(vm.tee),
            yes_no(vm.privileged),
            vm.starts,
            Up(vm.up_ms)
        )?;
    }
    Ok(())
}

fn details(out: &mut impl Write, vm: &VmDetails<'_>) -> fmt::Result {
    let line = &vm.summary;
    writeln!(out, "vm {}: {}", line.name, line.phase)?;
    writeln!(out, "  starts      {}, up {}", line.starts, Up(line.up_ms))?;
    write!(out, "  memory      {}", Kib(line.memory_kib))?;
    if vm.next_memory_kib != line.memory_kib {
        write!(out, ", {} at its next start", Kib(vm.next_memory_kib))?;
    }
    writeln!(out, "; {} pages held by OP-TEE", vm.pages_held)?;
    writeln!(out, "  tee         {}", yes_no(line.tee))?;
    writeln!(out, "  privileged  {}", yes_no(line.privileged))?;
    writeln!(out, "  channel     {}", vm.channel)?;
    for (index, vcpu) in vm.vcpus.iter().enumerate() {
        write!(out, "  vcpu {index}      ")?;
        match (vcpu.on, vcpu.pcpu) {
            (_, Some(pcpu)) => writeln!(out, "on CPU {pcpu}")?,
            (true, None) => writeln!(out, "waits")?,
            (false, None) => writeln!(out, "off")?,
        }
    }
    out.write_str("  may use     CPUs")?;
    for cpu in (0..MAX_PCPUS).filter_map(PcpuIndex::new) {
        if vm.affinity.contains(cpu) {
            write!(out, " {}", cpu.get())?;
        }
    }
    out.write_char('\n')?;
    counts(out, "exits", &vm.exits)?;
    counts(out, "refused", &vm.refused)
}

/// What was counted at all.
fn counts(out: &mut impl Write, what: &str, counts: &Counts<'_>) -> fmt::Result {
    write!(out, "  {what:11} ")?;
    let mut comma = "";
    for (name, count) in counts.iter().filter(|&(_, count)| count > 0) {
        write!(out, "{comma}{name} {count}")?;
        comma = ", ";
    }
    writeln!(out, "{}", if comma.is_empty() { "none" } else { "" })
}

fn tee(out: &mut impl Write, vm: &TeeFigures<'_>) -> fmt::Result {
    let stats = &vm.stats;
    writeln!(out, "vm {}:", vm.vm)?;
    writeln!(
        out,
        "  calls       fast {}, yielding {}, SMCs {}, foreign interrupts {}, refused {}",
        stats.fast, stats.yielding, stats.smcs, stats.foreign_intr, stats.denied
    )?;
    out.write_str("  now         ")?;
    for (index, (name, count)) in now(vm).into_iter().enumerate() {
        write!(out, "{}{name} {count}", if index == 0 { "" } else { ", " })?;
    }
    out.write_char('\n')?;
    writeln!(
        out,
        "  at most     pages_pinned {}, buffers {}",
        stats.pages_pinned_max, stats.buffers_max
    )?;
    let kinds = RpcKind::ALL.map(RpcKind::name);
    counts(out, "RPCs", &Counts::new(&kinds, &stats.rpc))?;
    writeln!(
        out,
        "  lasting     withheld {}, lost {}, leaked {}, kept {}",
        stats.withheld, stats.lost, stats.leaked, stats.kept
    )
}

fn shared_pages(out: &mut impl Write, shared: SharedPages) -> fmt::Result {
    writeln!(
        out,
        "pages shared with OP-TEE: {} of {}",
        shared.used, shared.total
    )
}

fn pcpus(out: &mut impl Write, cpus: &[CpuFigures<'_>]) -> fmt::Result {
    writeln!(
        out,
        "CPU  IDLE NOW  IDLE IN ALL  LONGEST MASKED           RUNS"
    )?;
    for (index, cpu) in cpus.iter().enumerate() {
        write!(
            out,
            "{index:>3}  {:>6} %  {:>9} s  {:>8} us, {:9}  ",
            cpu.idle_percent,
            cpu.idle_ms / 1000,
            cpu.masked_ns / 1000,
            cpu.masked_by
        )?;
        match cpu.runs {
            Some((vm, vcpu)) => write!(out, "vm {vm}, vCPU {vcpu}")?,
            None => out.write_str("nothing")?,
        }
        writeln!(
            out,
            "{}",
            if cpu.secure {
                ", in the secure world"
            } else {
                ""
            }
        )?;
    }
    Ok(())
}

fn memory(out: &mut impl Write, figures: &MemoryFigures, shared: SharedPages) -> fmt::Result {
    for (what, kib) in [
        ("RAM", figures.total_kib),
        ("hypervisor", figures.hypervisor_kib),
        ("guests", figures.guests_kib),
        ("free", figures.free_kib),
    ] {
        writeln!(out, "{what:10}  {:>10}", Kib(kib))?;
    }
    writeln!(
        out,
        "heap: {} of {} bytes used",
        figures.heap_used_bytes, figures.heap_total_bytes
    )?;
    shared_pages(out, shared)
}
