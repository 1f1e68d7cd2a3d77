// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An OP-TEE that does not return is noticed and reported, and a guest without a TEE goes on.
//!
//! QEMU's debugger stops a CPU inside OP-TEE, which looks to the others like an OP-TEE that hangs
//! with its interrupts masked or has panicked.

use anyhow::{Context, Result, ensure};
use guest_agent::event::Event;
use postern_ctl::messages::HypervisorEvent;
use postern_qemu::config::{System, Tee};
use postern_qemu::console::Channel;
use postern_qemu::prepare::Flavour;
use postern_qemu::session::Session;
use postern_tests::gdb::{CpuPosition, Gdb};
use postern_tests::{BOOT, Lab, SOON, in_case};
use std::fmt::Write;
use std::time::{Duration, Instant};

/// The addresses of OP-TEE's core at S-EL1 and of its applications at S-EL0. Guests' kernels and what runs on them are
/// above 4 GiB, but for static programs such as BusyBox, from 4 MiB on.
const OPTEE: std::ops::Range<u64> = 0x100_0000..0x1_0000_0000;
/// S-EL0. A CPU that stops there holds none of the core's spin locks. One that stops in the core may: then OP-TEE's own
/// timer interrupt takes a second CPU, which waits for the lock, whatever EL2 was at on that CPU.
const APPLICATION: u8 = 0;
/// S-EL1.
const CORE: u8 = 1;
/// An address at which OP-TEE maps nothing.
const NOWHERE: u64 = 0x10;

/// Waits until the hypervisor reports this event for the CPU that runs VM a. When a secure
/// interrupt takes another CPU into OP-TEE, the event comes for that one, too.
fn told(session: &mut Session, event: &str) -> Result<()> {
    session
        .expect(Channel::Hypervisor, SOON)
        .hypervisor(event, |found| {
            match found {
                HypervisorEvent::TeeStuck { vm, .. } if event == "tee-stuck" => Some(vm),
                HypervisorEvent::TeeBack { vm, .. } if event == "tee-back" => Some(vm),
                _ => None,
            }
            .filter(|vm| *vm == "a")
            .map(|_| ())
        })
}

/// Collects what can be known when nothing answers: the positions of all CPUs, twice; whether the
/// monitor still reads; and whether the guest answers when the CPU in the secure world goes on.
fn diagnosis(session: &mut Session, mut gdb: Gdb, others: &[u32]) -> Result<String> {
    let mut text = String::new();
    for _ in 0..2 {
        gdb.stop()?;
        for cpu in gdb.cpus()? {
            let CpuPosition { pc, level } = gdb.position(cpu)?;
            writeln!(text, "CPU {cpu} is at {pc:#x} in EL{level}")?;
        }
        gdb.go_on(others)?;
        std::thread::sleep(Duration::from_secs(1));
    }
    session.send(Channel::Hypervisor, "stats")?;
    let heard = session
        .expect(Channel::Hypervisor, SOON)
        .hypervisor("an answer", |event| Some(format!("{event:?}")));
    writeln!(text, "the monitor: {heard:?}")?;
    gdb.stop()?;
    gdb.leave()?;
    let later = answers(session, "b", "later");
    writeln!(text, "b, when all CPUs run: {later:?}")?;
    Ok(text)
}

fn answers(session: &mut Session, vm: &str, text: &str) -> Result<()> {
    let guest = session.vm(vm)?;
    session.send(guest, &format!("ping {text}"))?;
    session
        .expect(guest, SOON)
        .event("a pong", |event| match event {
            Event::Pong { text: found } if found == text => Some(()),
            _ => None,
        })
}

/// A system of two VMs of which one has the TEE and works with it, with QEMU's debugger.
struct Stage {
    session: Session,
    gdb: Gdb,
    cpus: Vec<u32>,
}

impl Stage {
    /// Boots the system.
    fn boot(lab: &Lab, system: &System) -> Result<Self> {
        let mut machine = lab.machine(system, Flavour::Shared)?;
        // A socket's path has to be short, a checkout's may be long.
        let sockets = tempfile::tempdir()?;
        let socket = sockets.path().join("gdb");
        machine.extra.extend([
            "-gdb".into(),
            format!("unix:{},server=on,wait=off", socket.display()).into(),
        ]);
        let mut session = Session::boot(&machine, &lab.folder)?;
        let (a, b) = (session.vm("a")?, session.vm("b")?);
        for guest in [a, b] {
            session.expect(guest, BOOT).ready()?;
        }
        let mut gdb = Gdb::connect(&socket)?;
        let cpus = gdb.cpus()?;
        ensure!(cpus.len() == 4, "CPUs: {cpus:?}");
        gdb.go_on(&cpus)?;
        Ok(Self { session, gdb, cpus })
    }

    /// Boots two guests of which b has no TEE, and stops all CPUs when one is in an application of a's; returns that
    /// one as well.
    fn stopped_in_application(lab: &Lab) -> Result<(Self, u32)> {
        let mut system = lab.system("two.toml")?;
        system.vms[1].tee = Tee::None;
        let mut stage = Self::boot(lab, &system)?;
        let inside = stage.stop_in_optee(APPLICATION)?;
        Ok((stage, inside))
    }

    /// Makes VM a work with the TEE, and stops all CPUs when one is in OP-TEE at this level, and none writes to OP-TEE's
    /// log, for which it holds a lock that a panic needs; returns that one.
    fn stop_in_optee(&mut self, level: u8) -> Result<u32> {
        let Self { session, gdb, cpus } = self;
        let a = session.vm("a")?;
        session.send(a, "xtest -t regression 4006")?;
        in_case(session, a, "regression_4006")?;
        let log = session.folder().join("optee.log");
        gdb.stop()?;
        let deadline = Instant::now() + SOON;
        loop {
            for &cpu in cpus.iter() {
                let position = gdb.position(cpu)?;
                let is_there = position.level == level && OPTEE.contains(&position.pc);
                if is_there && std::fs::read(&log)?.ends_with(b"\n") {
                    return Ok(cpu);
                }
            }
            ensure!(Instant::now() < deadline, "no CPU was found in OP-TEE");
            gdb.go_on(cpus)?;
            std::thread::sleep(Duration::from_millis(15));
            gdb.stop()?;
        }
    }
}

#[test]
fn hanging_secure_world_is_reported_and_others_go_on() -> Result<()> {
    let lab = Lab::new("stuck-tee")?;
    let (stage, inside) = Stage::stopped_in_application(&lab)?;
    let Stage {
        mut session,
        mut gdb,
        cpus,
    } = stage;
    let others: Vec<u32> = cpus.iter().copied().filter(|&cpu| cpu != inside).collect();
    gdb.go_on(&others)?;
    let first =
        told(&mut session, "tee-stuck").and_then(|()| answers(&mut session, "b", "still-here"));
    if let Err(error) = first {
        let known = diagnosis(&mut session, gdb, &others)?;
        return Err(error.context(known));
    }

    gdb.stop()?;
    gdb.leave()?;
    told(&mut session, "tee-back")?;
    answers(&mut session, "b", "and-now")?;
    Ok(())
}

/// A second CPU can follow into an OP-TEE that hangs. Other CPUs then have the UART's interrupt.
#[test]
fn monitor_answers_while_two_cpus_hang() -> Result<()> {
    let lab = Lab::new("two-stuck")?;
    let (stage, inside) = Stage::stopped_in_application(&lab)?;
    let Stage {
        mut session,
        mut gdb,
        cpus,
    } = stage;
    // The one that has the UART's interrupt since boot, or its neighbour. In a guest, or idle as others are, it holds no
    // lock of EL2's.
    let second = if inside == cpus[0] { cpus[1] } else { cpus[0] };
    let deadline = Instant::now() + SOON;
    loop {
        let position = gdb.position(second)?;
        let mut is_idle = false;
        for &cpu in cpus.iter().filter(|&&cpu| cpu != second) {
            is_idle |= gdb.position(cpu)? == position;
        }
        let in_guest = position.level < 2 && !OPTEE.contains(&position.pc);
        if in_guest || position.level == 2 && is_idle {
            break;
        }
        ensure!(
            Instant::now() < deadline,
            "CPU {second} is neither idle nor in a guest"
        );
        gdb.go_on(&[second])?;
        std::thread::sleep(Duration::from_millis(5));
        gdb.stop()?;
    }
    let others: Vec<u32> = cpus
        .iter()
        .copied()
        .filter(|&cpu| cpu != inside && cpu != second)
        .collect();
    gdb.go_on(&others)?;
    told(&mut session, "tee-stuck")?;
    session.send(Channel::Hypervisor, "vm pause b")?;
    session
        .expect(Channel::Hypervisor, SOON)
        .hypervisor("b stands", |event| match event {
            HypervisorEvent::VmPaused { vm } if vm == "b" => Some(()),
            _ => None,
        })?;
    gdb.stop()?;
    gdb.leave()?;
    told(&mut session, "tee-back")
}

/// A guest without a TEE may use the CPU that hangs, and was using it: its vCPUs, both those that
/// ran and those that slept, go on elsewhere.
#[test]
fn vcpus_of_a_hanging_cpu_go_on_elsewhere() -> Result<()> {
    const VCPUS: u32 = 4;
    let lab = Lab::new("shared-with-stuck-tee")?;
    let mut system = lab.system("two.toml")?;
    system.vms[0].vcpus = 1;
    system.vms[0].affinity = Some(vec![0]);
    system.vms[1].vcpus = VCPUS;
    system.vms[1].affinity = Some(vec![0, 1]);
    system.vms[1].tee = Tee::None;
    let mut stage = Stage::boot(&lab, &system)?;
    let b = stage.session.vm("b")?;
    stage.session.send(b, "shell")?;
    stage.session.expect(b, SOON).line("A shell")?;
    // Two spin, so that neither CPU is ever idle, and the others sleep for short times.
    stage.session.send(
        b,
        "for cpu in 0 1; do taskset -c $cpu sh -c 'while :; do :; done' & done; \
         for cpu in 2 3; do taskset -c $cpu sh -c 'while :; do sleep 0.01; done' & done; \
         echo busy: $((40 + 2))",
    )?;
    stage.session.expect(b, SOON).line("busy: 42")?;
    let inside = stage.stop_in_optee(APPLICATION)?;
    let Stage {
        mut session,
        mut gdb,
        cpus,
    } = stage;
    ensure!(inside == cpus[0], "CPU {inside} of {cpus:?} is in OP-TEE");
    let others: Vec<u32> = cpus.iter().copied().filter(|&cpu| cpu != inside).collect();
    gdb.go_on(&others)?;
    // Each of its vCPUs works, and has its timer: before the CPU counts as stuck, and while it
    // does.
    for round in ["soon", "then"] {
        session.send(
            b,
            &format!(
                "for cpu in 0 1 2 3; do taskset -c $cpu sleep 0.1 && taskset -c $cpu echo; done; \
                 echo {round}: all $((2 * 2))"
            ),
        )?;
        session.expect(b, SOON).line(&format!("{round}: all 4"))?;
        if round == "soon" {
            told(&mut session, "tee-stuck")?;
        }
    }
    gdb.stop()?;
    gdb.leave()?;
    told(&mut session, "tee-back")
}

/// A panic of OP-TEE itself: its core is made to fetch an instruction from an unmapped address.
/// This OP-TEE is built here, because the packaged ones then halt all CPUs.
#[test]
fn optee_panic_is_reported_and_others_go_on() -> Result<()> {
    let lab = Lab::new("panicked-tee")?;
    let mut system = lab.system("two.toml")?;
    system.machine.optee_guests = Some(2);
    system.vms[1].tee = Tee::None;
    let mut stage = Stage::boot(&lab, &system)?;
    let inside = stage.stop_in_optee(CORE)?;
    let Stage {
        mut session,
        mut gdb,
        ..
    } = stage;
    gdb.jump(inside, NOWHERE)?;
    gdb.leave()?;
    told(&mut session, "tee-stuck")?;
    let log = std::fs::read_to_string(session.folder().join("optee.log"))?;
    let panic = log.lines().find(|line| line.contains("Panic"));
    println!("OP-TEE: {}", panic.context("it has not panicked")?);
    answers(&mut session, "b", "still-here")?;
    // The monitor works, too.
    session.send(Channel::Hypervisor, "vm pause b")?;
    session
        .expect(Channel::Hypervisor, SOON)
        .hypervisor("b stands", |event| match event {
            HypervisorEvent::VmPaused { vm } if vm == "b" => Some(()),
            _ => None,
        })?;
    session.send(Channel::Hypervisor, "vm resume b")?;
    answers(&mut session, "b", "and-now")?;
    Ok(())
}
