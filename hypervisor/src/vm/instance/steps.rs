//! What it takes to start a VM and to take one down, piece by piece, so that nobody waits for it.
//!
//! Pieces are done by pCPUs that have nothing else to do, and by busy ones now and then
//! ([`crate::sched::run`]). One pCPU at a time works for a VM. An order only notes what is wanted;
//! so it never waits for the work's lock.

use super::Vm;
use crate::arch::{guest_bytes, mmu, timer};
use crate::boot::BLOCK_SIZE;
use crate::sched::run;
use crate::services::tee::VmHost;
use crate::vm::guest_image::Loader;
use crate::vm::life::{Event, Phase, SetMemoryError, Then};
use crate::vm::ram;
use core::sync::atomic::Ordering;
use mediator::addr::Pa;
use mediator::{DestroyError, Progress};

/// `Vm::wanted`: that the VM starts.
const START: u8 = 1;
/// `Vm::wanted`: that it is taken down.
const TEAR_DOWN: u8 = 2;

/// What a VM waits for.
pub(super) enum Work {
    Nothing,
    /// It gets its memory, its tables and its TEE.
    Prepare,
    /// Its memory is cleared, from this offset on; then it is loaded.
    Clear(u64),
    Load(Loader),
    /// OP-TEE is to let go of it.
    Leave,
    /// So is it, but not before this time, in ticks.
    Wait(u64),
    /// What it had in its memory is overwritten, from this offset on.
    Scrub(u64),
}

impl Vm {
    /// Whether some pCPU is to do a piece of work for it.
    #[inline]
    pub fn has_work(&self) -> bool {
        self.wanted.load(Ordering::Acquire) != 0 || self.busy.load(Ordering::Acquire)
    }

    /// Asks for its start.
    pub(super) fn want_start(&self) {
        self.wanted.store(START, Ordering::Release);
        run::work_waits();
    }

    /// Asks for its end. None of its vCPUs runs.
    pub(super) fn want_tear_down(&self) {
        self.wanted.store(TEAR_DOWN, Ordering::Release);
        run::work_waits();
    }

    /// Does a piece of what the VM waits for; `false` where there is nothing, or another pCPU is
    /// at it.
    pub fn step(&'static self) -> bool {
        if !self.has_work() {
            return false;
        }
        let Some(mut work) = self.work.try_lock() else {
            return false;
        };
        self.busy.store(true, Ordering::Release);
        match self.wanted.swap(0, Ordering::AcqRel) {
            START => *work = Work::Prepare,
            TEAR_DOWN => *work = Work::Leave,
            _ => {}
        }
        let now = core::mem::replace(&mut *work, Work::Nothing);
        *work = match now {
            Work::Nothing => Work::Nothing,
            Work::Prepare => self.prepare(),
            Work::Clear(offset) => match self.zero(offset) {
                Some(offset) => Work::Clear(offset),
                None => {
                    ram::cleared(&self.memory);
                    Work::Load(Loader::new())
                }
            },
            Work::Load(loader) => self.load(loader),
            Work::Wait(until) if timer::now() < until => {
                *work = Work::Wait(until);
                return false;
            }
            Work::Leave | Work::Wait(_) => self.leave_tee(),
            Work::Scrub(offset) => match self.zero(offset) {
                Some(offset) => Work::Scrub(offset),
                None => {
                    ram::cleared(&self.memory);
                    self.memory.reclaim();
                    self.happened(Event::TornDown);
                    Work::Nothing
                }
            },
        };
        if matches!(*work, Work::Nothing) {
            self.busy.store(false, Ordering::Release);
        }
        true
    }

    fn cannot_start(&'static self, why: core::fmt::Arguments<'_>) -> Work {
        crate::error!("vm {}: {why}", self.name);
        self.happened(Event::CannotStart);
        Work::Nothing
    }

    /// Memory, tables, TEE.
    fn prepare(&'static self) -> Work {
        if let Err(error) = self.take_memory() {
            return self.cannot_start(format_args!("{error}"));
        }
        match self.mapping.map(&self.memory) {
            Ok(vttbr) => self.vttbr.store(vttbr, Ordering::Relaxed),
            Err(error) => return self.cannot_start(format_args!("stage 2: {error}")),
        }
        match self.create_tee() {
            Err(error) if self.needs_tee => {
                return self.cannot_start(format_args!("tee = \"required\": {error}"));
            }
            Err(error) => crate::warn!("vm {}: starts without a TEE: {error}", self.name),
            Ok(()) => {}
        }
        if ram::is_clear(&self.memory) {
            Work::Load(Loader::new())
        } else {
            Work::Clear(0)
        }
    }

    /// Gets its memory, if it has none.
    ///
    /// # Errors
    /// When there is not so much left.
    pub fn take_memory(&self) -> Result<(), ram::TakeError> {
        if self.memory.bytes() == 0 {
            ram::take(&self.memory, self.next_bytes.load(Ordering::Relaxed))?;
        }
        Ok(())
    }

    fn load(&'static self, mut loader: Loader) -> Work {
        match loader.step(&self.images, &self.memory, self.guest_tee()) {
            Ok(None) => Work::Load(loader),
            Ok(Some(entry)) => {
                // Another VM's kernel may have been where this one's is now.
                mmu::forget_instructions();
                match self.transition(Event::Loaded) {
                    Then::Run => self.run(entry),
                    other => self.carry_out(other),
                }
                Work::Nothing
            }
            Err(error) => self.cannot_start(format_args!("{error}")),
        }
    }

    /// OP-TEE lets go of it, then what is EL2's is reset.
    fn leave_tee(&'static self) -> Work {
        if let Some(mediator) = &self.mediator {
            match mediator.destroy_step(&VmHost { vm: self }) {
                Ok(Progress::More) => return Work::Leave,
                Ok(Progress::Later(milliseconds)) => {
                    let ticks = u64::from(milliseconds) * (timer::frequency() / 1000);
                    return Work::Wait(timer::now() + ticks);
                }
                Ok(Progress::Done) => {}
                // Its vCPUs have stopped, so this is the hypervisor's own mistake; trying again
                // does no harm.
                Err(DestroyError::Busy) => return Work::Leave,
                Err(error) => {
                    crate::error!("vm {}: {error}", self.name);
                    self.has_tee.store(false, Ordering::Release);
                    self.happened(Event::Held);
                    return Work::Nothing;
                }
            }
        }
        self.has_tee.store(false, Ordering::Release);
        self.vgic.reset();
        self.console.reset();
        self.devices.reset();
        self.mapping.unmap();
        Work::Scrub(0)
    }

    /// Clears its memory from `offset` on, to the end of the block. Where to go on; `None` at the
    /// end.
    fn zero(&self, offset: u64) -> Option<u64> {
        let mut done = 0;
        for (range, to) in self.memory.mappings() {
            if offset < done + range.bytes {
                let at = Pa::new(to.get() + (offset - done));
                // SAFETY: RAM of this VM, which EL2 maps and refers to nowhere. It has no vCPU
                // that runs, and OP-TEE does not know it.
                unsafe { guest_bytes::zero(at, BLOCK_SIZE) };
                // A guest starts with its caches off.
                mmu::clean_to_memory(at.get(), BLOCK_SIZE);
                return Some(offset + BLOCK_SIZE);
            }
            done += range.bytes;
        }
        None
    }

    /// Its memory is another's to have, where all of it is free.
    pub(super) fn give_memory_back(&self) {
        if let Some(chunks) = self.memory.release() {
            ram::give_back(&chunks);
        }
    }
}

impl Vm {
    /// The memory that it gets when it starts next.
    ///
    /// # Errors
    /// When it was not made for so much, or it is not off.
    pub fn set_memory(&self, bytes: u64) -> Result<(), SetMemoryError> {
        let most = self.memory.most_bytes();
        if bytes == 0 || !bytes.is_multiple_of(BLOCK_SIZE) || bytes > most {
            return Err(SetMemoryError::Size(most));
        }
        let life = self.life.lock();
        if life.phase() != Phase::Off {
            return Err(SetMemoryError::NotOff(life.phase()));
        }
        self.next_bytes.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// The memory that it gets when it starts: bytes.
    pub fn next_memory_bytes(&self) -> u64 {
        self.next_bytes.load(Ordering::Relaxed)
    }

    /// The memory that it has, or gets when it starts: bytes.
    pub fn memory_bytes(&self) -> u64 {
        match self.memory.bytes() {
            0 => self.next_memory_bytes(),
            bytes => bytes,
        }
    }
}
