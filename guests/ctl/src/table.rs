// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Formats answers of the monitor as tables and sentences.

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt::{self, Write};

/// The fields that every answer has.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    command: String,
    ok: bool,
    error: Option<String>,
}

/// Formats an answer, a JSON object, as whole lines of text.
///
/// # Errors
/// Fails when the command was not executed; says why.
pub fn text(json: &str) -> Result<String, String> {
    let unreadable = |why: serde_json::Error| format!("the answer cannot be read: {why}");
    let head: Head = serde_json::from_str(json).map_err(unreadable)?;
    if !head.ok {
        return Err(head.error.unwrap_or_else(|| "refused".into()));
    }
    let mut out = String::new();
    let written = match &*head.command {
        "vm list" => read(json).map(|answer: Vms<Summary>| list(&mut out, &answer.vms)),
        "vm info" => read(json).map(|answer: One<Details>| details(&mut out, &answer.vm)),
        "tee stats" => read(json).map(|answer: TeeStats| {
            answer.vms.iter().try_for_each(|vm| tee(&mut out, vm))?;
            answer.shared.write(&mut out)
        }),
        "cpu" => read(json).map(|answer: Cpus| pcpus(&mut out, &answer.cpus)),
        "mem" => read(json).map(|answer: Memory| answer.write(&mut out)),
        "log" => read(json).map(|answer: Log| {
            answer
                .lines
                .iter()
                .try_for_each(|line| writeln!(out, "{line}"))
        }),
        command => match consequence(command) {
            Some(what) => {
                read(json).map(|answer: One<String>| writeln!(out, "vm {} {what}", answer.vm))
            }
            // The answer comes from a newer hypervisor.
            None => Ok(writeln!(out, "{json}")),
        },
    };
    // Writing to a string cannot fail.
    let _ = written.map_err(unreadable)?;
    Ok(out)
}

fn read<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, serde_json::Error> {
    serde_json::from_str(json)
}

/// Returns a sentence about the effect of a command that changes a VM.
fn consequence(command: &str) -> Option<&'static str> {
    Some(match command {
        "vm start" => "starts",
        "vm stop" => "was asked to shut down",
        "vm reset" => "ends and starts again",
        "vm kill" => "ends",
        "vm pause" => "pauses",
        "vm resume" => "goes on",
        "vm mem" => "has this much memory from its next start on",
        _ => return None,
    })
}

#[derive(Deserialize)]
struct Vms<T> {
    vms: Vec<T>,
}

#[derive(Deserialize)]
struct One<T> {
    vm: T,
}

#[derive(Deserialize)]
struct Summary {
    name: String,
    phase: String,
    vcpus: u64,
    memory_kib: u64,
    tee: bool,
    privileged: bool,
    starts: u64,
    up_ms: u64,
}

#[derive(Deserialize)]
struct Details {
    #[serde(flatten)]
    summary: Summary,
    channel: u64,
    vcpu: Vec<Vcpu>,
    affinity: Vec<u64>,
    pages_held: u64,
    next_memory_kib: u64,
    exits: Counts,
    refused: Counts,
    frames: Counts,
    bytes: Counts,
}

#[derive(Deserialize)]
struct Vcpu {
    on: bool,
    cpu: Option<u64>,
}

#[derive(Deserialize)]
struct TeeStats {
    vms: Vec<Tee>,
    #[serde(flatten)]
    shared: SharedPages,
}

#[derive(Deserialize)]
struct Tee {
    vm: String,
    smc_fast: u64,
    smc_yielding: u64,
    smcs: u64,
    foreign_intr: u64,
    denied: u64,
    pages_pinned: u64,
    pages_held: u64,
    buffers: u64,
    rpc_buffers: u64,
    sessions: u64,
    calls: u64,
    mapped_pages: u64,
    pages_pinned_max: u64,
    buffers_max: u64,
    withheld: u64,
    poisoned: u64,
    leaked: u64,
    kept: u64,
    rpc: Counts,
}

#[derive(Deserialize)]
struct SharedPages {
    shared_pages_used: u64,
    shared_pages_total: u64,
}

#[derive(Deserialize)]
struct Cpus {
    cpus: Vec<Cpu>,
}

#[derive(Deserialize)]
struct Cpu {
    cpu: u64,
    vm: Option<String>,
    vcpu: Option<u64>,
    secure: bool,
    idle_percent: u64,
    idle_ms: u64,
    masked_ns: u64,
    masked_by: String,
}

#[derive(Deserialize)]
struct Memory {
    total_kib: u64,
    hypervisor_kib: u64,
    guests_kib: u64,
    free_kib: u64,
    heap_used_bytes: u64,
    heap_total_bytes: u64,
    #[serde(flatten)]
    shared: SharedPages,
}

#[derive(Deserialize)]
struct Log {
    lines: Vec<String>,
}

/// Counters by name, in the order of the answer.
struct Counts(Vec<(String, u64)>);

impl<'de> Deserialize<'de> for Counts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Counts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("counts by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Counts, A::Error> {
                let mut counts = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    counts.push(entry);
                }
                Ok(Counts(counts))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

impl Counts {
    /// Writes the counters that are not zero.
    fn write(&self, out: &mut String, what: &str) -> fmt::Result {
        let some: Vec<String> = self
            .0
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        let some = if some.is_empty() {
            "none".to_owned()
        } else {
            some.join(", ")
        };
        writeln!(out, "  {what:11} {some}")
    }
}

const fn yes_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

/// Formats an amount of RAM in MiB, or in KiB if it is not a whole number.
fn kib(kib: u64) -> String {
    if kib.is_multiple_of(1024) {
        format!("{} MiB", kib / 1024)
    } else {
        format!("{kib} KiB")
    }
}

/// Formats a time as days, if any, hours, minutes and seconds.
fn up(ms: u64) -> String {
    let seconds = ms / 1000;
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let days = if days > 0 {
        format!("{days}d ")
    } else {
        String::new()
    };
    format!("{days}{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60)
}

fn list(out: &mut String, vms: &[Summary]) -> fmt::Result {
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
            kib(vm.memory_kib),
            yes_no(vm.tee),
            yes_no(vm.privileged),
            vm.starts,
            up(vm.up_ms)
        )?;
    }
    Ok(())
}

fn details(out: &mut String, vm: &Details) -> fmt::Result {
    let line = &vm.summary;
    writeln!(out, "vm {}: {}", line.name, line.phase)?;
    writeln!(out, "  starts      {}, up {}", line.starts, up(line.up_ms))?;
    write!(out, "  memory      {}", kib(line.memory_kib))?;
    if vm.next_memory_kib != line.memory_kib {
        write!(out, ", {} at its next start", kib(vm.next_memory_kib))?;
    }
    writeln!(out, "; {} pages held by OP-TEE", vm.pages_held)?;
    writeln!(out, "  tee         {}", yes_no(line.tee))?;
    writeln!(out, "  privileged  {}", yes_no(line.privileged))?;
    writeln!(out, "  channel     {}", vm.channel)?;
    for (index, vcpu) in vm.vcpu.iter().enumerate() {
        write!(out, "  vcpu {index}      ")?;
        match (vcpu.on, vcpu.cpu) {
            (_, Some(cpu)) => writeln!(out, "on CPU {cpu}")?,
            (true, None) => writeln!(out, "waits")?,
            (false, None) => writeln!(out, "off")?,
        }
    }
    write!(out, "  may use     CPUs")?;
    for cpu in &vm.affinity {
        write!(out, " {cpu}")?;
    }
    writeln!(out)?;
    vm.exits.write(out, "exits")?;
    vm.refused.write(out, "refused")?;
    vm.frames.write(out, "frames")?;
    vm.bytes.write(out, "bytes")
}

fn tee(out: &mut String, vm: &Tee) -> fmt::Result {
    writeln!(out, "vm {}:", vm.vm)?;
    writeln!(
        out,
        "  calls       fast {}, yielding {}, SMCs {}, foreign interrupts {}, refused {}",
        vm.smc_fast, vm.smc_yielding, vm.smcs, vm.foreign_intr, vm.denied
    )?;
    writeln!(
        out,
        "  now         pages_pinned {}, pages_held {}, buffers {}, rpc_buffers {}, sessions {}, calls {}, \
         mapped_pages {}",
        vm.pages_pinned,
        vm.pages_held,
        vm.buffers,
        vm.rpc_buffers,
        vm.sessions,
        vm.calls,
        vm.mapped_pages
    )?;
    writeln!(
        out,
        "  at most     pages_pinned {}, buffers {}",
        vm.pages_pinned_max, vm.buffers_max
    )?;
    vm.rpc.write(out, "RPCs")?;
    writeln!(
        out,
        "  lasting     withheld {}, poisoned {}, leaked {}, kept {}",
        vm.withheld, vm.poisoned, vm.leaked, vm.kept
    )
}

impl SharedPages {
    fn write(&self, out: &mut String) -> fmt::Result {
        writeln!(
            out,
            "pages shared with OP-TEE: {} of {}",
            self.shared_pages_used, self.shared_pages_total
        )
    }
}

fn pcpus(out: &mut String, cpus: &[Cpu]) -> fmt::Result {
    writeln!(
        out,
        "CPU  IDLE NOW  IDLE IN ALL  LONGEST MASKED           RUNS"
    )?;
    for cpu in cpus {
        write!(
            out,
            "{:>3}  {:>6} %  {:>9} s  {:>8} us, {:9}  ",
            cpu.cpu,
            cpu.idle_percent,
            cpu.idle_ms / 1000,
            cpu.masked_ns / 1000,
            cpu.masked_by
        )?;
        match (&cpu.vm, cpu.vcpu) {
            (Some(vm), Some(vcpu)) => write!(out, "vm {vm}, vCPU {vcpu}")?,
            _ => write!(out, "nothing")?,
        }
        let secure = if cpu.secure {
            ", in the secure world"
        } else {
            ""
        };
        writeln!(out, "{secure}")?;
    }
    Ok(())
}

impl Memory {
    fn write(&self, out: &mut String) -> fmt::Result {
        for (what, size) in [
            ("RAM", self.total_kib),
            ("hypervisor", self.hypervisor_kib),
            ("guests", self.guests_kib),
            ("free", self.free_kib),
        ] {
            writeln!(out, "{what:10}  {:>10}", kib(size))?;
        }
        writeln!(
            out,
            "heap: {} of {} bytes used",
            self.heap_used_bytes, self.heap_total_bytes
        )?;
        self.shared.write(out)
    }
}

#[cfg(test)]
mod tests;
