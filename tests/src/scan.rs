// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The host side of the scan guest: compares what two VMs on one pCPU see of each system register
//! with each other and with the hypervisor's table, for each CPU model. Then checks that Linux
//! guests and OP-TEE work there.

use crate::{BOOT, Lab, SOON, power_off, without_firmware, xtest_end};
use anyhow::{Context, Result, bail, ensure};
use postern_exceptions::decode::SysReg;
use postern_exceptions::registers::architecture::{Register, registers};
use postern_exceptions::registers::table::{Decision, decision};
use postern_qemu::config::{CPUS, System, Tee};
use postern_qemu::console::Channel;
use postern_qemu::launch::Machine;
use postern_qemu::parts::{newer_qemu, version};
use postern_qemu::prepare::Flavour;
use postern_qemu::progress::Progress;
use postern_qemu::session::Session;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// A CPU model to scan.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// The argument of QEMU's `-cpu`.
    pub cpu: &'static str,
    /// The same, without features that are too slow to emulate once Linux runs.
    with_tee: &'static str,
    /// Whether `make test` scans it.
    pub quick: bool,
}

/// Returns all models that are scanned. `max` has all of QEMU's features, SVE, SME and MTE among them.
fn models() -> impl Iterator<Item = Model> {
    CPUS.into_iter().map(|cpu| Model {
        cpu,
        with_tee: if cpu == "max" {
            "max,pauth-impdef=on"
        } else {
            cpu
        },
        quick: ["cortex-a72", "max"].contains(&cpu),
    })
}

/// Enough for a VM to access all registers.
const SCAN: Duration = Duration::from_secs(240);
/// Registers that differ at each read: clocks, a timer's distance, random numbers.
const MOVING: &[&str] = &[
    "CNTPCT_EL0",
    "CNTPCTSS_EL0",
    "CNTVCT_EL0",
    "CNTVCTSS_EL0",
    "CNTV_TVAL_EL0",
    "CNTV_CVAL_EL0",
    "CNTP_TVAL_EL0",
    "RNDR",
    "RNDRRS",
    // Values from the last undefined instruction of a scan, and from the program's own code and
    // stack.
    "ELR_EL1",
    "SPSR_EL1",
    "NZCV",
];

/// The first QEMU with HCR_EL2.TIDCP, 8.1, as a number.
const TIDCP: u32 = 801;
/// A lower bound for the registers that every model has and that keep a written value.
const LEAST_MARKS: u64 = 12;

/// The values that a VM reads, by encoding.
type Values = BTreeMap<u32, u64>;

/// Returns the guest's number for a register.
fn number(reg: SysReg) -> u32 {
    let part = |value: u8, low: u32| u32::from(value) << low;
    part(reg.op0 & 1, 14)
        | part(reg.op1, 11)
        | part(reg.crn, 7)
        | part(reg.crm, 3)
        | part(reg.op2, 0)
}

fn encoding_name(number: u32) -> String {
    let part = |low: u32, mask: u32| number >> low & mask;
    format!(
        "S{}_{}_C{}_C{}_{}",
        part(14, 1) + 2,
        part(11, 7),
        part(7, 15),
        part(3, 15),
        part(0, 7)
    )
}

/// The names of all registers.
struct Names(BTreeMap<u32, Register>);

impl Names {
    fn new() -> Self {
        Self(
            registers()
                .into_iter()
                .map(|found| (number(found.reg), found))
                .collect(),
        )
    }

    fn of(&self, number: u32) -> String {
        match self.0.get(&number) {
            Some(register) => format!("{} ({})", register.name, encoding_name(number)),
            None => encoding_name(number),
        }
    }

    /// Returns whether the register is in that list.
    fn is_one_of(&self, number: u32, list: &[&str]) -> bool {
        self.0
            .get(&number)
            .is_some_and(|found| list.contains(&found.name))
    }

    /// Returns what is wrong about a register that a guest can read, if anything is.
    fn judge(&self, number: u32, value: u64, qemu: u32) -> Option<String> {
        if qemu < TIDCP && self.is_shown_by_old_qemu(number) {
            return None;
        }
        let Some(register) = self.0.get(&number) else {
            // The reserved encodings of the ID space read as zero (DDI 0487, D24.2).
            let is_reserved_id = (encoding_name(number).starts_with("S3_0_C0_C")) && value == 0;
            return (!is_reserved_id).then(|| "the hypervisor's table does not have it".into());
        };
        match decision(register) {
            Decision::Absent(_)
            | Decision::Optional { .. }
            | Decision::AbsentBy(_)
            | Decision::AbsentYet { .. } => Some("guests must not have it".into()),
            Decision::Trapped(_)
                if ["REVIDR_EL1", "AIDR_EL1", "ACTLR_EL1"].contains(&register.name) =>
            {
                (value != 0).then(|| format!("it has the machine's value: {value:#x}"))
            }
            _ => None,
        }
    }

    /// Returns whether a QEMU before 8.1 shows the register although its trap is set: such a QEMU
    /// lacks HCR_EL2.TIDCP, which traps implementation-defined registers, and has FEAT_SME without
    /// FEAT_FGT, where SMPRI_EL1 reads as zero.
    fn is_shown_by_old_qemu(&self, number: u32) -> bool {
        matches!(number >> 7 & 15, 11 | 15) || self.is_one_of(number, &["SMPRI_EL1"])
    }

    /// Returns what every guest should find but this one does not.
    fn missing(&self, values: &Values) -> Vec<String> {
        // Registers that all Armv8.0 CPUs have.
        let always = [
            "TTBR0_EL1",
            "TPIDR_EL0",
            "TPIDR_EL1",
            "CSSELR_EL1",
            "FPCR",
            "MIDR_EL1",
            "ICC_SRE_EL1",
        ];
        let all = self.0.iter();
        all.filter(|(number, found)| always.contains(&found.name) && !values.contains_key(number))
            .map(|(number, _)| self.of(*number))
            .collect()
    }
}

/// A VM with the program.
struct ScanGuest {
    name: &'static str,
    channel: Channel,
}

impl ScanGuest {
    fn new(session: &mut Session, name: &'static str) -> Result<Self> {
        let channel = session.vm(name)?;
        session.expect(channel, SCAN).ready()?;
        Ok(Self { name, channel })
    }

    /// Sends a command; returns the fields of the events of that name, up to the event `end`.
    fn ask(
        &self,
        session: &mut Session,
        command: &str,
        each: &str,
        end: &str,
    ) -> Result<(Vec<Value>, u64)> {
        session.send(self.channel, command)?;
        let mut found = Vec::new();
        let count = session.expect(self.channel, SCAN).program(
            &format!("the end of {command}"),
            |event| {
                let name = event["event"].as_str()?;
                if name == each {
                    found.push(event.clone());
                }
                (name == end).then(|| event["registers"].as_u64().unwrap_or_default())
            },
        )?;
        Ok((found, count))
    }

    fn scan(&self, session: &mut Session) -> Result<Values> {
        let (found, count) = self.ask(session, "scan", "register", "scanned")?;
        ensure!(
            found.len() as u64 == count,
            "{}: lines were lost",
            self.name
        );
        found.iter().map(value_of).collect()
    }

    /// Leaves marks; returns how many.
    fn mark(&self, session: &mut Session, salt: u32) -> Result<u64> {
        let (_, count) = self.ask(session, &format!("mark {salt}"), "", "marked")?;
        Ok(count)
    }

    /// Returns the marks that are lost.
    fn check(&self, session: &mut Session, names: &Names) -> Result<Vec<String>> {
        let (lost, _) = self.ask(session, "check", "lost", "checked")?;
        lost.iter()
            .map(|event| {
                let number = u32::try_from(event["encoding"].as_u64().context("no encoding")?)?;
                Ok(format!(
                    "{}: {} was {}",
                    names.of(number),
                    event["value"],
                    event["wrote"]
                ))
            })
            .collect()
    }
}

fn value_of(event: &Value) -> Result<(u32, u64)> {
    let number = u32::try_from(event["encoding"].as_u64().context("no encoding")?)?;
    let text = event["value"].as_str().context("no value")?;
    Ok((
        number,
        u64::from_str_radix(text.trim_start_matches("0x"), 16)?,
    ))
}

/// Returns the differences between two readings.
fn differences(names: &Names, before: &Values, after: &Values) -> Vec<String> {
    let numbers: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    numbers
        .into_iter()
        .filter(|&&number| before.get(&number) != after.get(&number))
        .filter(|&&number| !names.is_one_of(number, MOVING))
        .map(|number| {
            let text = |values: &Values| {
                values
                    .get(number)
                    .map_or("undefined".into(), |value| format!("{value:#x}"))
            };
            format!(
                "{}: {}, then {}",
                names.of(*number),
                text(before),
                text(after)
            )
        })
        .collect()
}

/// Returns whether QEMU knows the model.
fn knows(qemu: &Path, cpu: &str) -> Result<bool> {
    let output = Command::new(qemu)
        .args(["-M", "virt", "-cpu", "help"])
        .output()
        .with_context(|| format!("{} cannot be run", qemu.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let model = cpu.split(',').next().unwrap_or(cpu);
    Ok(text.split_whitespace().any(|word| word == model))
}

/// Scans the models and prints one line for each; returns whether no fault was found. With `newest`
/// all run in the newer QEMU, which traps more, otherwise only those that the machine's QEMU does
/// not know.
///
/// # Errors
///
/// Fails when a machine cannot be prepared, or ends early.
pub fn play(lab: &Lab, newest: bool, wanted: impl Fn(&Model) -> bool) -> Result<bool> {
    let names = Names::new();
    let mut good = true;
    for model in models().filter(|model| wanted(model)) {
        let found = scan(lab, &names, model, newest).with_context(|| model.cpu.to_string())?;
        let verdict = if found.is_empty() { "ok" } else { "LEAKS" };
        println!("{:<12} {verdict}", model.cpu);
        for line in &found {
            println!("    {line}");
        }
        good &= found.is_empty();
    }
    Ok(good)
}

/// Has two VMs on one pCPU fill their SVE registers, of different lengths, and lose none of them to the other, to a call or
/// to a SIMD instruction, in turns. `machine` has the program in two VMs that have SVE.
///
/// # Errors
///
/// Fails when a register was lost, or a VM does not have the length of its description.
pub fn vectors(machine: &Machine, system: &System, folder: &Path) -> Result<()> {
    let mut session = Session::boot(machine, folder)?;
    let session = &mut session;
    let guests = [ScanGuest::new(session, "a")?, ScanGuest::new(session, "b")?];
    for (guest, vm) in guests.iter().zip(&system.vms) {
        // The trap of the first use, and a length of its own.
        let (_, bits) = guest.ask(session, "fill 1", "", "filled")?;
        ensure!(
            Some(bits) == vm.sve.map(u64::from),
            "{}: vectors have {bits} bits, not {:?}",
            guest.name,
            vm.sve
        );
    }
    for round in 0..4 {
        for (guest, salt) in guests.iter().zip([10 + round, 20 + round]) {
            guest.ask(session, &format!("fill {salt}"), "", "filled")?;
        }
        for how in ["compare", "compare 1", "compare", "compare 2", "compare"] {
            for guest in &guests {
                let (_, lost) = guest.ask(session, how, "", "compared")?;
                ensure!(lost == 0, "{}: {how}: {lost} bytes are lost", guest.name);
            }
        }
    }
    for guest in &guests {
        session.send(guest.channel, "poweroff")?;
    }
    ensure!(session.exit(SOON)?.success(), "QEMU failed");
    Ok(())
}

/// Runs two cases of xtest in two Linux guests at once, with TF-A and OP-TEE, on each of the models, where guests must find
/// the CPU's extensions. On those with SVE both have it, and then the program's two VMs, too. Returns whether all passed.
///
/// # Errors
///
/// Fails when a machine cannot be prepared.
pub fn with_tee(lab: &Lab, wanted: impl Fn(&Model) -> bool) -> Result<bool> {
    let mut good = true;
    for model in models().filter(|model| wanted(model)) {
        let mut came = on_model(lab, model, "two.toml", two_guests);
        if model.sve().is_some() {
            came = came.and_then(|()| on_model(lab, model, "scan.toml", vectors_of));
        }
        let word = came.as_ref().map_or_else(
            |error| format!("WRONG: {error:#}"),
            |()| format!("passes in two guests at once{}", model.reduced()),
        );
        println!("{:<12} xtest: {word}", model.cpu);
        good &= came.is_ok();
    }
    Ok(good)
}

/// What is tried on a machine, in this folder.
type Trial = fn(&Machine, &System, &Model, &Path) -> Result<()>;

/// Boots the whole machine with a description's VMs, which all have the TEE, and SVE if the model has it.
fn on_model(lab: &Lab, model: Model, file: &str, trial: Trial) -> Result<()> {
    let mut system = lab.system(file)?;
    for (index, vm) in system.vms.iter_mut().enumerate() {
        vm.tee = Tee::Required;
        vm.sve = model.sve().map(|lengths| lengths[index]);
    }
    let mut machine = lab.machine(&system, Flavour::Shared)?;
    // The machine's QEMU, which only generates the tree, may not know the model.
    machine.cpu = model.with_tee.into();
    machine.qemu = newer_qemu(&lab.paths, &Progress::on_stderr())?;
    let folder = lab.folder.join(format!("{}-tee-{file}", model.cpu));
    trial(&machine, &system, &model, &folder)
}

fn vectors_of(machine: &Machine, system: &System, _: &Model, folder: &Path) -> Result<()> {
    vectors(machine, system, folder)
}

fn two_guests(machine: &Machine, _: &System, model: &Model, folder: &Path) -> Result<()> {
    let mut session = Session::boot(machine, folder)?;
    let guests = [session.vm("a")?, session.vm("b")?];
    for guest in guests {
        session.expect(guest, BOOT).ready()?;
    }
    for guest in guests {
        session.send(guest, "xtest -t regression 1001 1006")?;
    }
    for guest in guests {
        xtest_end(&mut session, guest, 2)?;
    }
    for guest in guests {
        has_features(&mut session, guest, model.features())?;
    }
    power_off(session, &["a", "b"])
}

/// Checks that a Linux guest has found these features of its CPU.
fn has_features(session: &mut Session, guest: Channel, features: &[&str]) -> Result<()> {
    session.send(guest, "shell")?;
    session.expect(guest, SOON).line("A shell")?;
    // The typed line is echoed, too.
    session.send(guest, "grep -m1 Features /proc/cpuinfo; exit")?;
    let line = session.expect(guest, SOON).line("Features\t")?;
    session.expect(guest, SOON).ready()?;
    for feature in features {
        ensure!(
            line.split_whitespace().any(|word| word == *feature),
            "Linux has not found {feature}: {line}"
        );
    }
    Ok(())
}

impl Model {
    /// Returns the features, besides those of the other models, that Linux finds.
    fn features(self) -> &'static [&'static str] {
        match self.cpu {
            "neoverse-n2" | "neoverse-v1" | "max" => &["paca", "pacg", "sve"],
            _ => &[],
        }
    }

    /// Returns the lengths of SVE's vectors in the two VMs, if the model has SVE.
    fn sve(self) -> Option<[u32; 2]> {
        match self.cpu {
            "neoverse-n2" => Some([128, 128]),
            "neoverse-v1" => Some([256, 128]),
            "max" => Some([512, 256]),
            _ => None,
        }
    }

    /// Describes how the CPU with the TEE differs from the scanned one.
    fn reduced(&self) -> String {
        match self.with_tee.strip_prefix(self.cpu) {
            Some("") | None => String::new(),
            Some(without) => format!(" ({})", without.trim_start_matches(',')),
        }
    }
}

/// Returns the faults on one model.
fn scan(lab: &Lab, names: &Names, model: Model, newest: bool) -> Result<Vec<String>> {
    let system = lab.system("scan.toml")?;
    let machine = lab.machine(&system, Flavour::Shared)?;
    let mut machine = without_firmware(lab, machine, "virt,virtualization=on,gic-version=3")?;
    machine.cpu = model.cpu.into();
    if newest || !knows(&machine.qemu, model.cpu)? {
        let newer = newer_qemu(&lab.paths, &Progress::on_stderr())?;
        if !knows(&newer, model.cpu)? {
            bail!("{} does not know this CPU", newer.display());
        }
        machine.qemu = newer;
    }
    let (major, minor) = version(&machine.qemu)?;
    let qemu = major * 100 + minor;
    let mut session = Session::boot(&machine, &lab.folder.join(model.cpu))?;
    let session = &mut session;
    let (a, b) = (ScanGuest::new(session, "a")?, ScanGuest::new(session, "b")?);
    let mut wrong = Vec::new();
    // Both find the same at their start, and what they should find.
    let of_a = a.scan(session)?;
    let of_b = b.scan(session)?;
    wrong.extend(
        differences(names, &of_a, &of_b)
            .into_iter()
            .map(|line| format!("a and b differ: {line}")),
    );
    for (&number, &value) in &of_a {
        wrong.extend(
            names
                .judge(number, value, qemu)
                .map(|why| format!("{}: {why}", names.of(number))),
        );
    }
    wrong.extend(
        names
            .missing(&of_a)
            .into_iter()
            .map(|name| format!("{name} is missing")),
    );
    // b does not see a's marks; and after b has left its own, a's are still there.
    let marks = a.mark(session, 1)?;
    let after = b.scan(session)?;
    wrong.extend(
        differences(names, &of_b, &after)
            .into_iter()
            .map(|line| format!("b sees a's: {line}")),
    );
    let also = b.mark(session, 2)?;
    wrong.extend(
        a.check(session, names)?
            .into_iter()
            .map(|line| format!("a has lost: {line}")),
    );
    wrong.extend(
        b.check(session, names)?
            .into_iter()
            .map(|line| format!("b has lost: {line}")),
    );
    println!(
        "{:<12} QEMU {}.{}: {} registers can be read, {marks} keep a mark",
        model.cpu,
        qemu / 100,
        qemu % 100,
        of_a.len()
    );
    if marks != also {
        wrong.push(format!(
            "a has {marks} registers that keep a mark, b {also}"
        ));
    }
    if marks < LEAST_MARKS {
        wrong.push(format!(
            "only {marks} registers keep a mark: the scan is broken"
        ));
    }
    for guest in [&a, &b] {
        session.send(guest.channel, "poweroff")?;
    }
    ensure!(session.exit(SOON)?.success(), "QEMU failed");
    Ok(wrong)
}
