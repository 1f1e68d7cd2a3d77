// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Creation of a VM in OP-TEE. [`crate::teardown`] is the reverse.

use crate::Progress;
use crate::call::Call;
use crate::creation::Creation;
use crate::ffa::{FfaCreation, LENDABLE};
use crate::host::LongOperation;
use crate::pages::SPARE_PAGES;
use crate::smc::TableStep;
use crate::sync::Ordering;
use crate::teardown::EndingHost;
use crate::vm_state::Phase;
use crate::{CreateError, Mediator};
use alloc::boxed::Box;
use alloc::vec::Vec;

impl Mediator {
    /// Creates the VM in OP-TEE: runs [`Mediator::create_step`] until it is done.
    ///
    /// # Errors
    /// As [`Mediator::create_step`].
    pub fn create<H: EndingHost>(&self, host: &H) -> Result<(), CreateError> {
        while self.create_step(host)? != Progress::Done {}
        Ok(())
    }

    /// Does one step of the VM's creation: tells OP-TEE of the VM and reserves what its calls need, so that
    /// they allocate nothing. The hypervisor calls it before the VM's first vCPU runs, until it is done. One
    /// step enters OP-TEE at most until the next interrupt. [`Mediator::destroy_step`] also ends a VM that is
    /// being created.
    ///
    /// # Errors
    /// When memory or OP-TEE's room for VMs is exhausted, or OP-TEE does not do its part. Everything is then as
    /// before. If OP-TEE does not forget the VM either, the state is that of a VM that OP-TEE refuses to
    /// release: [`Mediator::destroy_step`] asks again.
    pub fn create_step<H: EndingHost>(&self, host: &H) -> Result<Progress, CreateError> {
        let making = {
            let mut state = self.state.lock();
            match state.phase {
                Phase::Absent => None,
                // Without them, another pCPU is doing a step.
                Phase::Creating => Some(state.creation.take().ok_or(CreateError::Exists)?),
                Phase::Live | Phase::Destroying => return Err(CreateError::Exists),
            }
        };
        match making {
            None => self.begin_creation(host),
            Some(making) => self.continue_creation(host, making),
        }
    }

    /// Reserves what calls need, and tells OP-TEE of the VM.
    #[allow(
        clippy::vec_box,
        reason = "calls move from hand to hand; a pointer moves faster"
    )]
    fn begin_creation<H: EndingHost>(&self, host: &H) -> Result<Progress, CreateError> {
        let leaked = self.counters.leaked.get() + self.counters.kept.get();
        if leaked >= self.config.quotas.max_leaked_asids.into() {
            return Err(CreateError::TooManyLeakedAsids(leaked));
        }
        let creations = self.creations.load(Ordering::Relaxed);
        if self
            .config
            .max_creations
            .is_some_and(|most| creations >= most)
        {
            return Err(CreateError::TooManyCreations(creations));
        }
        let slots = self.call_limit() as usize;
        let mut idle: Vec<Box<Call>> = Vec::new();
        let (mut suspended, mut poisoned, mut spare) = (Vec::new(), Vec::new(), Vec::new());
        let reserved = idle
            .try_reserve_exact(slots)
            .and_then(|()| suspended.try_reserve_exact(slots))
            .and_then(|()| poisoned.try_reserve_exact(slots))
            .and_then(|()| spare.try_reserve_exact(SPARE_PAGES));
        if reserved.is_err() {
            return Err(CreateError::NoMemory);
        }
        if let Some(ffa) = &self.ffa {
            if !ffa.sees_tee() {
                return Err(CreateError::NoPartition(ffa.first_tee().into()));
            }
            self.state.lock().reserve_lendable(LENDABLE)?;
        }
        let give_back = |calls: Vec<Box<Call>>| {
            for call in calls {
                host.free_shared(call.shadow);
            }
        };
        let set_aside = host.long_operation(LongOperation::Reserve, || {
            (0..slots).rev().all(|slot| {
                let page = host.alloc_shared();
                idle.extend(page.map(|page| Box::new(Call::new(slot, page))));
                suspended.push(None);
                idle.len() == suspended.len()
            })
        });
        if !set_aside {
            give_back(idle);
            return Err(CreateError::NoSharedPages);
        }
        let told = match &self.ffa {
            None => self.tell_created(host),
            Some(ffa) => self.tell_created_by_ffa(host, ffa),
        };
        if let Err(why) = told {
            give_back(idle);
            return Err(CreateError::Refused(why));
        }
        // A creation that fails later costs OP-TEE as much as any other.
        self.creations.store(creations + 1, Ordering::Relaxed);
        {
            let mut state = self.state.lock();
            (state.idle, state.suspended, state.poisoned, state.spare) =
                (idle, suspended, poisoned, spare);
            state.leaked_asids = u32::try_from(leaked).unwrap_or(u32::MAX);
            state.phase = Phase::Creating;
        }
        if self.ffa.is_some() {
            let making = FfaCreation::new(self.tee.makes_tables_late());
            self.state.lock().creation = Some(Creation::Ffa(making));
            return Ok(Progress::More);
        }
        if self.tee.makes_tables_late() {
            match self.begin_tables(host) {
                Ok(making) => self.state.lock().creation = Some(Creation::Tables(making)),
                Err(error) => return Err(self.undo_creation(host, error)),
            }
            return Ok(Progress::More);
        }
        self.mark_live();
        Ok(Progress::Done)
    }

    /// Has OP-TEE create some of the VM's tables.
    fn continue_creation<H: EndingHost>(
        &self,
        host: &H,
        mut making: Creation,
    ) -> Result<Progress, CreateError> {
        let more = self.do_some(host, &mut making);
        if more == Ok(false) {
            making.give_back(host);
            self.mark_live();
            return Ok(Progress::Done);
        }
        self.state.lock().creation = Some(making);
        match more {
            Ok(_) => Ok(Progress::More),
            Err(error) => Err(self.undo_creation(host, error)),
        }
    }

    fn do_some<H: EndingHost>(&self, host: &H, making: &mut Creation) -> Result<bool, CreateError> {
        match (making, &self.ffa) {
            (Creation::Tables(making), _) => self.make_some_tables(host, making),
            (Creation::Ffa(making), Some(ffa)) => self.create_some(host, ffa, making),
            (Creation::Ffa(_), None) => Ok(false),
        }
    }

    /// Goes on with a call of a creation that is given up. Returns whether it is still under way.
    pub(crate) fn end_some<H: EndingHost>(&self, host: &H, making: &mut Creation) -> bool {
        making.is_under_way()
            && match (making, &self.ffa) {
                (Creation::Tables(making), _) => {
                    matches!(self.early_step(host, making), TableStep::Some)
                }
                (Creation::Ffa(making), Some(ffa)) => self.end_creation(host, ffa, making),
                (Creation::Ffa(_), None) => false,
            }
    }

    /// Marks the VM as complete: its calls are served.
    fn mark_live(&self) {
        let notifications_disabled =
            self.notifications_were_enabled.load(Ordering::Relaxed) && !self.tee.notifies_again();
        self.notifications_disabled
            .store(notifications_disabled, Ordering::Relaxed);
        self.state.lock().phase = Phase::Live;
        self.live.store(true, Ordering::SeqCst);
    }

    /// Ends a VM that has not made calls yet. It owns little, so this is done at once. Returns `why`.
    fn undo_creation<H: EndingHost>(&self, host: &H, why: CreateError) -> CreateError {
        self.begin_forgetting();
        // What OP-TEE does not release stays as it is, until the VM's teardown asks again.
        while let Ok(Progress::More) = self.destroy_step(host) {}
        why
    }
}
