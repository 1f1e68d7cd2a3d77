// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The teardown of a VM in OP-TEE, step by step.
//!
//! The order protects the other VMs. OP-TEE may use the VM's pages until it has answered VM_DESTROYED and no
//! pCPU is in OP-TEE for the VM. So first no vCPU is inside, then VM_DESTROYED is sent once, and only then are
//! pages unpinned.
//!
//! Before that, the mediator closes what the VM left open, as far as OP-TEE permits. OP-TEE does not do so
//! itself, and every trusted application that stays in memory keeps an ASID, of which all VMs together have
//! few.
//!
//! An OP-TEE that is not virtualised has no VM_DESTROYED. It is asked to release each object of the VM, and
//! what it keeps stays pinned.
//!
//! Each step enters OP-TEE at most once, up to the next interrupt, so that the caller can do other work in
//! between.
//!
//! * [`calls`]: which call continues next, and the budget for all of them.
//! * [`ending_call`]: one step of a call.
//! * [`leaks`]: sessions, applications and buffers that OP-TEE still has.
//! * [`release`]: VM_DESTROYED, and what follows.

mod calls;
mod ending_call;
mod leaks;
mod release;

use crate::creation::Creation;
use crate::host::Leak;
use crate::memory::Cookie;
use crate::sync::Ordering;
use crate::vm_state::{App, Phase};
use crate::{DestroyError, Mediator};
use alloc::vec::Vec;
use calls::Budget;
pub use ending_call::{EndingCall, EndingHost};
use release::Remains;

/// Whether a creation or a teardown has more steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// There are more steps.
    More,
    /// There are more steps, once this many milliseconds have passed: a call sleeps until then. An earlier step
    /// ends that call sooner and does no other harm.
    Later(u32),
    /// There are no more steps. After a teardown, the VM may be created again.
    Done,
}

/// Progress of a VM's teardown.
#[derive(Debug)]
pub(crate) struct Teardown {
    budget: Budget,
    /// The slot at which the next search for a suspended call begins.
    slot: usize,
    stage: TeardownStage,
}

#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "a box would have to be allocated, and the end must not fail"
)]
enum TeardownStage {
    /// The VM was not live yet: the call of its creation that OP-TEE is in ends.
    Creation(Creation),
    /// Calls that wait for the guest are cancelled, from this slot on.
    Cancel(usize),
    /// These calls end.
    Calls,
    /// Sessions are closed, one after the other.
    Sessions(After),
    /// Applications that OP-TEE has loaded are opened again; the second is being opened.
    Apps(Vec<App>, Option<App>),
    /// What calls that do not end may leave behind is counted.
    Count,
    /// An OP-TEE that is not virtualised returns memory for RPC messages.
    Cache,
    /// It forgets these registered buffers.
    Buffers(Vec<Cookie>),
    /// OP-TEE is to forget the VM.
    Forget,
    /// OP-TEE has forgotten the VM.
    Release(Remains),
}

/// What follows after sessions are closed.
#[derive(Debug)]
enum After {
    /// The check which applications OP-TEE keeps.
    Ask,
    /// The check of the next application.
    Apps(Vec<App>),
}

impl Teardown {
    const fn new(stage: TeardownStage) -> Self {
        Self {
            budget: Budget::new(),
            slot: 0,
            stage,
        }
    }
}

impl Mediator {
    /// Ends the VM in OP-TEE, then unpins and frees everything that it had: runs [`Mediator::destroy_step`]
    /// until it is done.
    ///
    /// # Errors
    /// As [`Mediator::destroy_step`].
    pub fn destroy<H: EndingHost>(&self, host: &H) -> Result<(), DestroyError> {
        while self.destroy_step(host)? != Progress::Done {}
        Ok(())
    }

    /// Does one step of the VM's teardown: ends it in OP-TEE, then unpins and frees everything that it had. The
    /// hypervisor calls it after all vCPUs have stopped and left [`Mediator::smc`], until it is done. It also
    /// ends a VM that is being created ([`Mediator::create_step`]). Without a VM it does nothing.
    ///
    /// # Errors
    /// [`DestroyError::Busy`] when a vCPU is still in [`Mediator::smc`], or another pCPU in this function: try
    /// again.
    /// [`DestroyError::Refused`] and [`DestroyError::Held`] when OP-TEE does not release the VM: its pages stay
    /// pinned. Another call asks OP-TEE again.
    pub fn destroy_step<H: EndingHost>(&self, host: &H) -> Result<Progress, DestroyError> {
        {
            let mut state = self.state.lock();
            match state.phase {
                // The VM is destroyed, or was never created.
                Phase::Absent => return Ok(Progress::Done),
                Phase::Live => {
                    state.phase = Phase::Destroying;
                    state.notify = false;
                    *self.teardown.lock() = Some(Teardown::new(TeardownStage::Cancel(0)));
                    self.live.store(false, Ordering::SeqCst);
                }
                Phase::Creating => {
                    // Without them, another pCPU is doing a step.
                    let making = state.creation.take().ok_or(DestroyError::Busy)?;
                    state.phase = Phase::Destroying;
                    *self.teardown.lock() = Some(Teardown::new(TeardownStage::Creation(making)));
                }
                Phase::Destroying => {}
            }
        }
        // No vCPU begins a call from here on. One that began before is counted.
        if self.inside.load(Ordering::SeqCst) != 0 {
            return Err(DestroyError::Busy);
        }
        let Some(mut teardown) = self.teardown.lock().take() else {
            return Err(DestroyError::Busy);
        };
        if let Some(milliseconds) = self.until_one_wakes(&mut teardown) {
            *self.teardown.lock() = Some(teardown);
            return Ok(Progress::Later(milliseconds));
        }
        let next = self.step_stage(host, &mut teardown);
        match next {
            Ok(Some(stage)) => {
                teardown.stage = stage;
                *self.teardown.lock() = Some(teardown);
                Ok(Progress::More)
            }
            Ok(None) => Ok(Progress::Done),
            Err(error) => {
                // OP-TEE, which has forgotten the VM, is not asked to do so again.
                if !matches!(teardown.stage, TeardownStage::Release(_)) {
                    teardown.stage = if self.tee.virtualised {
                        TeardownStage::Forget
                    } else {
                        TeardownStage::Cache
                    };
                }
                *self.teardown.lock() = Some(teardown);
                Err(error)
            }
        }
    }

    /// Begins the teardown of a VM that was not live yet, with VM_DESTROYED.
    pub(crate) fn begin_forgetting(&self) {
        let mut state = self.state.lock();
        state.phase = Phase::Destroying;
        *self.teardown.lock() = Some(Teardown::new(TeardownStage::Forget));
    }

    /// Does one step. Returns the next stage, or `None` at the end.
    fn step_stage<H: EndingHost>(
        &self,
        host: &H,
        teardown: &mut Teardown,
    ) -> Result<Option<TeardownStage>, DestroyError> {
        let stage = core::mem::replace(&mut teardown.stage, TeardownStage::Forget);
        Ok(Some(match stage {
            TeardownStage::Release(mut old) => {
                if let Err(error) = self.reclaim_some(host, &mut old) {
                    teardown.stage = TeardownStage::Release(old);
                    return Err(error);
                }
                return Ok(self.release_some(host, old).map(TeardownStage::Release));
            }
            TeardownStage::Forget => TeardownStage::Release(self.forget(host)?),
            TeardownStage::Creation(mut making) => {
                if self.end_some(host, &mut making) {
                    TeardownStage::Creation(making)
                } else {
                    self.state.lock().creation = Some(making);
                    TeardownStage::Forget
                }
            }
            // Calls in flight continue first, except that sleeping ones are cancelled before.
            TeardownStage::Cancel(slot) if !self.has_internal_call() => {
                match self.cancel_next(host, teardown, slot) {
                    Some(next) => TeardownStage::Cancel(next),
                    None => TeardownStage::Calls,
                }
            }
            stage if self.resume_one(host, teardown) => stage,
            TeardownStage::Cancel(_) => TeardownStage::Calls,
            TeardownStage::Calls => TeardownStage::Sessions(After::Ask),
            TeardownStage::Sessions(after) => match (self.close_one(host, teardown), after) {
                (true, after) => TeardownStage::Sessions(after),
                (false, After::Ask) => TeardownStage::Apps(self.loaded_apps(), None),
                (false, After::Apps(apps)) => TeardownStage::Apps(apps, None),
            },
            TeardownStage::Apps(apps, Some(opened)) => {
                let is_gone = self.state.lock().was_unloaded(opened);
                if !is_gone {
                    self.counters.kept.bump();
                    host.report_leak(Leak::Application, opened.id);
                }
                TeardownStage::Sessions(After::Apps(apps))
            }
            TeardownStage::Apps(mut apps, None) => match apps.pop() {
                Some(app) => {
                    self.open_once_more(host, teardown, app.id);
                    TeardownStage::Apps(apps, Some(app))
                }
                None => TeardownStage::Count,
            },
            TeardownStage::Count => match self.take_leaked_app() {
                Some(app) => {
                    self.count_leak(host, app);
                    TeardownStage::Count
                }
                None if self.tee.virtualised => TeardownStage::Forget,
                None => TeardownStage::Cache,
            },
            TeardownStage::Cache => {
                if self.drop_cached_rpc_buffer(host) {
                    TeardownStage::Cache
                } else {
                    let state = self.state.lock();
                    TeardownStage::Buffers(state.buffers.all_cookies())
                }
            }
            TeardownStage::Buffers(mut cookies) => match cookies.pop() {
                Some(cookie) => {
                    self.unregister(host, teardown, cookie);
                    TeardownStage::Buffers(cookies)
                }
                None => TeardownStage::Forget,
            },
        }))
    }
}
