// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An SMMU, from its start on.

use super::commands::{Command, CommandQueue};
use super::error::SmmuError;
use super::events::{Event, EventQueue, TakenEvents};
use super::identify::{Features, Unsupported};
use super::registers::*;
use super::stream_table::{ReserveError, StreamTable, Translation, vmid};
use super::{Hardware, wait_until};
use mediator::addr::Ipa;
use postern_base::ids::{MAX_VMS, VmIndex};
use thiserror::Error;

/// The events that a VM may cause from its start on. Then its streams abort, so that a device that faults without end
/// costs neither EL2 nor others any time.
pub const MAX_EVENTS: u64 = 4096;

/// The reason that an SMMU has not been started. All transactions abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StartError {
    /// It cannot do what is needed.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// There is no memory for tables and queues.
    #[error("gets no memory for tables and queues")]
    OutOfMemory,
    /// A register does not change within a second.
    #[error("does not answer: its register at {0:#x} does not change within a second")]
    Register(u32),
    /// It does not execute commands.
    #[error("fails: {0}")]
    Failure(#[from] SmmuError),
}

/// Errors that are not of one transaction (IHI 0070F.b 7.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GlobalErrors {
    /// The bits of GERROR that have become active.
    pub bits: u32,
}

/// Makes all transactions abort, whatever firmware has left. It is safe at any time, and comes first.
///
/// # Errors
/// The SMMU does not answer: devices may access all memory.
pub fn abort_all<H: Hardware>(hardware: &mut H) -> Result<(), StartError> {
    let wait = |hardware: &mut H, register, done: fn(u32) -> bool| {
        let is_done = wait_until(&*hardware, |hardware| done(hardware.read(register)));
        is_done.then_some(()).ok_or(StartError::Register(register))
    };
    wait(hardware, GBPA, |gbpa| gbpa & GBPA_UPDATE == 0)?;
    let others = hardware.read(GBPA);
    hardware.write(GBPA, others | GBPA_UPDATE | GBPA_ABORT);
    wait(hardware, GBPA, |gbpa| gbpa & GBPA_UPDATE == 0)?;
    // From here on GBPA counts.
    hardware.write(CR0, 0);
    wait(hardware, CR0ACK, |on| {
        on & (CR0_SMMUEN | CR0_EVENTQEN | CR0_CMDQEN) == 0
    })?;
    hardware.write(IRQ_CTRL, 0);
    wait(hardware, IRQ_CTRLACK, |on| on & IRQ_CTRL_WANTED == 0)
}

/// An SMMU that translates.
#[derive(Debug)]
pub struct Smmu<H> {
    hardware: H,
    table: StreamTable,
    commands: CommandQueue,
    events: EventQueue,
    /// The number of events of each VM from its start on.
    counts: [u64; MAX_VMS],
    has_failed: bool,
}

impl<H: Hardware> Smmu<H> {
    /// Starts an SMMU, with all streams aborting. Called after [`abort_all`].
    ///
    /// # Errors
    /// It cannot be used, and goes on to abort.
    pub fn start(mut hardware: H) -> Result<Self, StartError> {
        let features = Features::read(&hardware)?;
        let table = StreamTable::new(&mut hardware, features.stream_bits);
        let table = table.ok_or(StartError::OutOfMemory)?;
        hardware.write(CR1, CR1_CACHED);
        hardware.write(CR2, CR2_PTM);
        hardware.write_double(STRTAB_BASE, BASE_ALLOCATE | table.root().get());
        hardware.write(STRTAB_BASE_CFG, STRTAB_TWO_LEVELS | features.stream_bits);
        let commands = CommandQueue::new(&mut hardware, features.command_bits);
        let events = EventQueue::new(&mut hardware, features.event_bits);
        // An error that firmware has left would stop the queue.
        let errors = hardware.read(GERROR);
        hardware.write(GERRORN, errors);
        if features.has_messages {
            // Wires, not messages.
            hardware.write_double(GERROR_IRQ_CFG0, 0);
            hardware.write_double(EVENTQ_IRQ_CFG0, 0);
        }
        let mut smmu = Self {
            hardware,
            table,
            commands: commands.ok_or(StartError::OutOfMemory)?,
            events: events.ok_or(StartError::OutOfMemory)?,
            counts: [0; MAX_VMS],
            has_failed: false,
        };
        smmu.hardware.order();
        smmu.enable(CR0_CMDQEN)?;
        smmu.execute(&[Command::CFGI_ALL, Command::TLBI_NSNH_ALL])?;
        smmu.enable(CR0_CMDQEN | CR0_EVENTQEN)?;
        smmu.change(IRQ_CTRL, IRQ_CTRLACK, IRQ_CTRL_WANTED)?;
        let check = if features.has_ats { CR0_ATSCHK } else { 0 };
        smmu.enable(CR0_CMDQEN | CR0_EVENTQEN | check)?;
        smmu.enable(CR0_CMDQEN | CR0_EVENTQEN | CR0_SMMUEN | check)?;
        Ok(smmu)
    }

    fn enable(&mut self, parts: u32) -> Result<(), StartError> {
        self.change(CR0, CR0ACK, parts)
    }

    fn change(&mut self, register: u32, answer: u32, value: u32) -> Result<(), StartError> {
        self.hardware.write(register, value);
        let is_done = wait_until(&self.hardware, |hardware| hardware.read(answer) == value);
        is_done.then_some(()).ok_or(StartError::Register(register))
    }

    /// Executes commands. Once it has failed, the SMMU is not relied on any more.
    fn execute(&mut self, commands: &[Command]) -> Result<(), SmmuError> {
        if self.has_failed {
            return Err(SmmuError::Failed);
        }
        let result = self.commands.execute(&mut self.hardware, commands);
        self.has_failed = result.is_err();
        result
    }

    /// Makes `count` streams from `first` on a VM's. They abort until [`Smmu::attach`].
    ///
    /// # Errors
    /// They cannot be: see [`ReserveError`].
    pub fn reserve(&mut self, vm: VmIndex, first: u32, count: u32) -> Result<(), ReserveError> {
        self.table.reserve(&mut self.hardware, vm, first, count)?;
        // A failure is remembered, and is that of the VM's `attach`.
        let _ = self.execute(&[Command::CFGI_ALL]);
        Ok(())
    }

    /// Lets a VM's streams access what the VM's tables map. The VM's RAM is mapped, and its own.
    ///
    /// # Errors
    /// The SMMU fails. The streams may abort or be translated.
    pub fn attach(&mut self, vm: VmIndex, to: Translation) -> Result<(), SmmuError> {
        if !self.table.has_streams(vm) {
            return Ok(());
        }
        if let Some(count) = self.counts.get_mut(vm.get()) {
            *count = 0;
        }
        self.table.prepare(&mut self.hardware, vm, to);
        // The SMMU may have read some of an entry before: all of it is new before any of it counts (3.21.3).
        self.execute(&[Command::CFGI_ALL, Command::tlbi_s12_vmall(vmid(vm))])?;
        self.table.translate(&mut self.hardware, vm);
        self.execute(&[Command::CFGI_ALL])
    }

    /// Makes a VM's streams abort. On return, no access of theirs is under way.
    ///
    /// # Errors
    /// The SMMU fails, and may still access what the VM's tables map or mapped.
    pub fn detach(&mut self, vm: VmIndex) -> Result<(), SmmuError> {
        if !self.table.has_streams(vm) {
            return Ok(());
        }
        self.table.abort(&mut self.hardware, vm);
        self.execute(&[Command::CFGI_ALL, Command::tlbi_s12_vmall(vmid(vm))])
    }

    /// Forgets the translation of the page or block that holds `ipa`, and table entries that lead to it.
    ///
    /// # Errors
    /// The SMMU fails, and may still use it.
    pub fn invalidate_ipa(&mut self, vm: VmIndex, ipa: Ipa) -> Result<(), SmmuError> {
        if !self.table.has_streams(vm) {
            return Ok(());
        }
        self.execute(&[Command::tlbi_s2_ipa(vmid(vm), ipa)])
    }

    /// Forgets all translations of a VM.
    ///
    /// # Errors
    /// The SMMU fails, and may still use them.
    pub fn invalidate_all(&mut self, vm: VmIndex) -> Result<(), SmmuError> {
        if !self.table.has_streams(vm) {
            return Ok(());
        }
        self.execute(&[Command::tlbi_s12_vmall(vmid(vm))])
    }

    /// Takes the events that are there, a bounded number, and calls `each` for each. The streams of a VM that has caused
    /// [`MAX_EVENTS`] abort until its next start.
    pub fn take_events(&mut self, mut each: impl FnMut(Event)) -> TakenEvents {
        let Self {
            hardware,
            events,
            table,
            counts,
            ..
        } = self;
        let mut loud = None;
        let taken = events.take(hardware, |event| {
            let vm = table.owner(event.stream);
            let mut is_last = false;
            if let Some(vm) = vm {
                let count = &mut counts[vm.get()];
                *count = count.saturating_add(1);
                is_last = *count == MAX_EVENTS;
                // One at a time: another one is found by its next event.
                if *count >= MAX_EVENTS {
                    loud = Some(vm);
                }
            }
            each(Event {
                vm,
                is_last,
                ..event
            });
        });
        if let Some(vm) = loud {
            // A failure is remembered.
            let _ = self.detach(vm);
        }
        taken
    }

    /// Acknowledges the errors that are not of one transaction, and returns them.
    pub fn take_global_errors(&mut self) -> GlobalErrors {
        let (errors, acknowledged) = (self.hardware.read(GERROR), self.hardware.read(GERRORN));
        let bits = (errors ^ acknowledged) & GERROR_ALL;
        // Commands are waited for, so this is none of theirs that somebody looks after.
        self.has_failed |= bits & (GERROR_CMDQ_ERR | GERROR_SFM) != 0;
        if bits != 0 {
            self.hardware.write(GERRORN, errors);
        }
        GlobalErrors { bits }
    }
}
