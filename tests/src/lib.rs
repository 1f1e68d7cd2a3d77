// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Functions that the scenarios share: a folder for their logs, a machine prepared from a system's
//! description, and simple exchanges with guests.
//!
//! A scenario boots real firmware, OP-TEE and Linux in QEMU and takes seconds to minutes, so they
//! run one after the other. A failed one says what it waited for and prints the last lines of the
//! consoles and the folder of all logs: `out/tests/NAME`.

pub mod bench;
pub mod cases;
pub mod gdb;
pub mod guest_shell;
pub mod hostile;
pub mod masked;
pub mod meter;
pub mod mutants;
pub mod neighbour;
pub mod scan;
pub mod soak;
pub mod tee_log;
pub mod u_boot;
pub mod watch;

use anyhow::{Context, Result, bail, ensure};
use guest_agent::event::{CaseState, Event, XtestEnd};
use postern_ctl::messages::{HypervisorEvent, Stats};
use postern_qemu::board::BoardName;
use postern_qemu::config::{System, TeeAbi};
use postern_qemu::console::Channel;
use postern_qemu::folder::{Claim, empty};
use postern_qemu::launch::{Firmware, Machine};
use postern_qemu::paths::Paths;
use postern_qemu::prepare::{Artifacts, Flavour, PrepareOptions, Suite, Versions, prepare};
use postern_qemu::progress::Progress;
use postern_qemu::session::{Session, What};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Enough for a guest to boot beside others on a busy host.
pub const BOOT: Duration = Duration::from_secs(480);
/// Enough for an answer.
pub const SOON: Duration = Duration::from_secs(60);
/// Enough for a VM to end: its calls in OP-TEE run to their end, and case 1006, for example, is one
/// call.
pub const END: Duration = Duration::from_secs(240);
/// Enough for a handful of cases beside another guest.
pub const WORK: Duration = Duration::from_secs(800);

/// A scenario's checkout and folder.
pub struct Lab {
    /// The checkout.
    pub paths: Paths,
    /// The folder of its logs.
    pub folder: PathBuf,
    _claim: Claim,
}

impl Lab {
    /// Makes the empty folder of the scenario of that name, and of the board and the ABI in
    /// `POSTERN_TEST_BOARD` and `POSTERN_TEST_ABI` if there are any.
    ///
    /// # Errors
    ///
    /// Fails outside a checkout, when the folder cannot be made, or when the same scenario runs in
    /// this checkout.
    pub fn new(name: &str) -> Result<Self> {
        let mut name = match board()? {
            Some(board) => format!("{name}-{board}"),
            None => name.to_owned(),
        };
        if let Some(abi) = abi()? {
            name = format!("{name}-{abi}");
        }
        let paths = Paths::discover()?;
        let folder = paths.out().join("tests").join(&name);
        let claim = Claim::take(
            &folder,
            &format!("the scenario {name}"),
            "or run this one in another checkout",
        )?;
        empty(&folder)?;
        println!("logs: {}", folder.display());
        Ok(Self {
            paths,
            folder,
            _claim: claim,
        })
    }

    /// Loads a description in `guests/`, for the board in `POSTERN_TEST_BOARD` and the ABI in
    /// `POSTERN_TEST_ABI` if there are any.
    ///
    /// # Errors
    ///
    /// Fails when it cannot be read.
    pub fn system(&self, file: &str) -> Result<System> {
        let system = System::load(&self.paths.guests().join(file))?;
        let system = match board()? {
            Some(board) => system.on_board(board).map_err(anyhow::Error::msg)?,
            None => system,
        };
        match abi()? {
            Some(abi) => system.with_abi(abi).map_err(anyhow::Error::msg),
            None => Ok(system),
        }
    }

    /// Returns the machine for a system, with everything fetched and built.
    ///
    /// # Errors
    ///
    /// Fails when a part cannot be fetched or built.
    pub fn machine(&self, system: &System, flavour: Flavour) -> Result<Machine> {
        self.parts(system, flavour).map(|(machine, _)| machine)
    }

    /// Returns the machine and the versions of its parts.
    ///
    /// # Errors
    ///
    /// Fails when a part cannot be fetched or built.
    pub fn parts(&self, system: &System, flavour: Flavour) -> Result<(Machine, Versions)> {
        let artifacts = self.artifacts(system, flavour)?;
        Ok((
            Machine::new(&artifacts, system, flavour.wiring()),
            artifacts.versions,
        ))
    }

    /// Returns all parts of a machine.
    ///
    /// # Errors
    ///
    /// Fails when a part cannot be fetched or built.
    pub fn artifacts(&self, system: &System, flavour: Flavour) -> Result<Artifacts> {
        let options = PrepareOptions {
            paths: self.paths.clone(),
            suite: suite()?,
            flavour,
            system: system.clone(),
            folder: self.folder.clone(),
        };
        prepare(&options, &Progress::on_stderr())
    }

    /// Boots a system described in `guests/` and waits until all its guests are ready.
    ///
    /// # Errors
    ///
    /// Fails when it does not boot.
    pub fn up(&self, file: &str) -> Result<Session> {
        let machine = self.machine(&self.system(file)?, Flavour::Shared)?;
        let mut session = Session::boot(&machine, &self.folder)?;
        for number in 1..=machine.vms.len() {
            session
                .expect(Channel::Vm(u8::try_from(number)?), BOOT)
                .ready()?;
        }
        Ok(session)
    }
}

/// Returns the Debian suite of OP-TEE and Linux: `POSTERN_TEST_SUITE`, otherwise trixie, whose
/// cases the scenarios know.
///
/// # Errors
///
/// Fails when there is no suite of that name.
pub(crate) fn suite() -> Result<Suite> {
    match std::env::var("POSTERN_TEST_SUITE") {
        Ok(name) => name.parse().map_err(anyhow::Error::msg),
        Err(_) => Ok(Suite::default()),
    }
}

/// Returns the board in `POSTERN_TEST_BOARD`, which `make test-hostile BOARD=…` sets.
///
/// # Errors
///
/// Fails when there is no board of that name.
pub(crate) fn board() -> Result<Option<BoardName>> {
    match std::env::var("POSTERN_TEST_BOARD") {
        Ok(name) if !name.is_empty() => name.parse().map(Some).map_err(anyhow::Error::msg),
        _ => Ok(None),
    }
}

/// Returns the ABI in `POSTERN_TEST_ABI`, which `make optee-facts ABI=…` sets.
///
/// # Errors
///
/// Fails when there is no ABI of that name.
pub fn abi() -> Result<Option<TeeAbi>> {
    match std::env::var("POSTERN_TEST_ABI") {
        Ok(name) if !name.is_empty() => name.parse().map(Some).map_err(anyhow::Error::msg),
        _ => Ok(None),
    }
}

/// Adds QEMU's `edu` to the PCIe bus, a device that accesses memory and interrupts as it is told.
pub fn with_edu(machine: &mut Machine) {
    // All addresses: the device's own mask is 28 bits.
    let device = "edu,addr=4,dma_mask=0xffffffffffffffff";
    machine.extra.extend(["-device".into(), device.into()]);
    // QEMU starts the device only where there is an MSI controller. The guest's tree names none.
    machine.model = machine.model.replace(",its=off", "");
}

/// Returns the machine as QEMU itself starts it, without TF-A and OP-TEE. QEMU would place its tree
/// where the guests' kernel and initramfs are. So they become one file at their addresses, which
/// QEMU takes for an initrd and places the tree after it.
///
/// # Errors
///
/// Fails when there is nothing to load, or a file cannot be read or written.
pub fn without_firmware(lab: &Lab, mut machine: Machine, model: &str) -> Result<Machine> {
    let mut loads = machine.loads.drain(..);
    let hypervisor = loads.next().context("nothing to load")?;
    let mut modules = Vec::new();
    let mut start = None;
    for load in loads {
        let start = *start.get_or_insert(load.address);
        modules.resize(usize::try_from(load.address - start)?, 0);
        modules.extend(std::fs::read(&load.file)?);
    }
    let file = lab.folder.join("modules.bin");
    std::fs::write(&file, modules)?;
    machine.model = model.into();
    machine.firmware = Firmware::Kernel(hypervisor.file);
    machine.extra = vec!["-initrd".into(), file.into()];
    Ok(machine)
}

/// Waits for the line that says why a boot is impossible, and for the machine to power off after
/// it; returns the line.
///
/// # Errors
///
/// Fails when either does not come.
pub fn boot_error(session: &mut Session) -> Result<String> {
    let deadline = Instant::now() + BOOT;
    let mut text = None;
    while let Some(item) = session.next(deadline.saturating_duration_since(Instant::now()))? {
        match item.what {
            What::Hypervisor(HypervisorEvent::BootError { text: found }) => {
                ensure!(text.is_none(), "two reasons: {text:?} and {found:?}");
                text = Some(found);
            }
            What::Guest(_) => bail!("a guest runs although the boot should be impossible"),
            What::Closed => {
                ensure!(session.exit(SOON)?.success(), "QEMU failed");
                return text.context("the machine powered off without saying why");
            }
            _ => {}
        }
    }
    let folder = session.folder().display();
    bail!(
        "the machine still runs {} s after its start ({text:?}); logs: {folder}",
        BOOT.as_secs()
    )
}

/// Runs xtest in a guest to its end; fails when a case does, or when another number of cases ran.
///
/// # Errors
///
/// Fails when the run does.
pub fn xtest(
    session: &mut Session,
    guest: Channel,
    arguments: &str,
    cases: u32,
) -> Result<XtestEnd> {
    session.send(guest, &format!("xtest {arguments}"))?;
    xtest_end(session, guest, cases)
}

/// Waits for the end of a run of xtest, as [`xtest`] does.
///
/// # Errors
///
/// Fails when the run does.
pub fn xtest_end(session: &mut Session, guest: Channel, cases: u32) -> Result<XtestEnd> {
    let mut failed = Vec::new();
    let end = session
        .expect(guest, WORK)
        .event("the end of xtest", |event| match event {
            Event::Case {
                name,
                state: CaseState::Failed,
                ..
            } => {
                failed.push(name.clone());
                None
            }
            Event::XtestEnd(end) => Some(end.clone()),
            _ => None,
        })?;
    ensure!(
        failed.is_empty() && end.exit == 0,
        "{}: failed: {failed:?}, {end:?}",
        session.name(guest)
    );
    ensure!(
        end.cases == cases,
        "{}: {} cases, not {cases}",
        session.name(guest),
        end.cases
    );
    Ok(end)
}

/// Waits until a case of xtest runs in a guest.
///
/// # Errors
///
/// Fails when the case does not begin.
pub fn in_case(session: &mut Session, guest: Channel, case: &str) -> Result<()> {
    session
        .expect(guest, WORK)
        .event(&format!("the start of {case}"), |event| match event {
            Event::Case {
                name,
                state: CaseState::Start,
                ..
            } if name == case => Some(()),
            _ => None,
        })
}

/// Returns the hypervisor's current counters of a VM: the answer to this question and not to an
/// earlier one.
///
/// # Errors
///
/// Fails when there is no answer.
pub fn stats(session: &mut Session, vm: &str) -> Result<Stats> {
    static ASKED: AtomicU32 = AtomicU32::new(0);
    let tag = format!("s{}", ASKED.fetch_add(1, Ordering::Relaxed));
    session.send(
        Channel::Hypervisor,
        &format!("#{tag} tee stats {vm} --json"),
    )?;
    let answer = session.expect(Channel::Hypervisor, SOON).answer(&tag)?;
    let counters = answer
        .more
        .get("vms")
        .and_then(|vms| vms.get(0))
        .with_context(|| format!("no counters of {vm}: {answer:?}"))?;
    Ok(serde_json::from_value(counters.clone())?)
}

/// Waits until the hypervisor reports that a VM has stopped, and compares the reason.
///
/// # Errors
///
/// Fails when it does not, or for another reason.
pub fn stopped(session: &mut Session, vm: &str, reason: &str) -> Result<()> {
    let found =
        session
            .expect(Channel::Hypervisor, END)
            .hypervisor(&format!("{vm} to stop"), |event| match event {
                HypervisorEvent::VmOff { vm: name, reason } if name == vm => Some(reason.clone()),
                _ => None,
            })?;
    ensure!(
        found == reason,
        "{vm} stopped for {found:?}, not {reason:?}"
    );
    Ok(())
}

/// Powers guests off, and waits for the hypervisor's report and for the machine's end.
///
/// # Errors
///
/// Fails when part of it does not happen.
pub fn power_off(mut session: Session, guests: &[&str]) -> Result<()> {
    for name in guests {
        let guest = session.vm(name)?;
        session.send(guest, "poweroff")?;
        stopped(&mut session, name, "off")?;
    }
    session
        .expect(Channel::Hypervisor, SOON)
        .hypervisor("all guests to be off", |event| {
            (*event == HypervisorEvent::AllOff).then_some(())
        })?;
    ensure!(session.exit(SOON)?.success(), "QEMU failed");
    Ok(())
}
