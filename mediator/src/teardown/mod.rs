// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The end of a VM in OP-TEE, step by step.
//!
//! The order of the end is what keeps a neighbour safe. OP-TEE may use the VM's pages until it
//! has answered VM_DESTROYED and no pCPU is in it for the VM any more. So: no vCPU inside, then
//! VM_DESTROYED, once, and only then are pages unpinned.
//!
//! Before that, what the VM left open is wound up as far as OP-TEE lets us: OP-TEE does not do
//! it, and every trusted application that is left in memory keeps an address space number, of
//! which all VMs together have few.
//!
//! An OP-TEE that is not virtualised has no VM_DESTROYED. It is asked for each thing that it has
//! of the VM's, and what it does not give back stays pinned.
//!
//! Each step is one entry of OP-TEE's at most, up to the next interrupt, so that whoever takes a VM
//! down does other things in between.
//!
//! * [`calls`]: which call goes on next, and for how long all of them may.
//! * [`leaks`]: sessions, applications and buffers that OP-TEE still has.
//! * [`release`]: VM_DESTROYED, and what comes after it.

mod calls;
mod leaks;
mod release;

use crate::host::{Host, Leak};
use crate::memory::Cookie;
use crate::smc::{TableCreation, TableStep};
use crate::sync::Ordering;
use crate::vm_state::{App, Phase};
use crate::{DestroyError, Mediator};
use alloc::vec::Vec;
use calls::Budget;
use release::Remains;

/// Whether there is more to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// There is: go on.
    More,
    /// There is, once so many milliseconds have passed: a call sleeps until then. Going on earlier
    /// does no harm but to the call, which is given up sooner.
    Later(u32),
    /// There is not. The VM may be created again.
    Done,
}

/// How far the end of a VM is.
#[derive(Debug)]
pub(crate) struct Teardown {
    budget: Budget,
    /// Where the next look for a suspended call begins.
    slot: usize,
    stage: TeardownStage,
}

#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "a box would have to be allocated, and the end must not fail"
)]
enum TeardownStage {
    /// The VM has not come to live: the call is ended in which OP-TEE makes its tables.
    Tables(TableCreation),
    /// Calls that wait for the guest are cancelled, those of these slots.
    Cancel(usize),
    /// They are ended.
    Calls,
    /// Sessions are closed, one after the other.
    Sessions(After),
    /// Applications that OP-TEE has loaded are opened once more; one of them is being opened.
    Apps(Vec<App>, Option<App>),
    /// What calls that do not end may leave behind is counted.
    Count,
    /// An OP-TEE that is not virtualised gives back memory for RPC messages.
    Cache,
    /// It forgets these registered buffers.
    Buffers(Vec<Cookie>),
    /// OP-TEE is to forget the VM.
    Forget,
    /// OP-TEE has forgotten it.
    Release(Remains),
}

/// What comes after sessions are closed.
#[derive(Debug)]
enum After {
    /// The question which applications stay.
    Ask,
    /// The next of these.
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
    /// Ends the VM in OP-TEE, then unpins and frees all that it had: [`Mediator::destroy_step`]
    /// to the end.
    ///
    /// # Errors
    /// As [`Mediator::destroy_step`].
    pub fn destroy<H: Host>(&self, host: &H) -> Result<(), DestroyError> {
        while self.destroy_step(host)? != Progress::Done {}
        Ok(())
    }

    /// Does a step of the VM's end: ends it in OP-TEE, then unpins and frees all that it had. To be
    /// called after all its vCPUs have stopped and have left [`Mediator::smc`], until it is done. A VM that is on its way
    /// ([`Mediator::create_step`]) ends, too. Without a VM it does nothing.
    ///
    /// # Errors
    /// [`DestroyError::Busy`] when a vCPU is still in [`Mediator::smc`], or another pCPU in this:
    /// try again.
    /// [`DestroyError::BeginError`] and [`DestroyError::Held`] when OP-TEE does not let go of the VM:
    /// its pages stay pinned. Trying again asks it once more.
    pub fn destroy_step<H: Host>(&self, host: &H) -> Result<Progress, DestroyError> {
        {
            let mut state = self.state.lock();
            match state.phase {
                // The end is over, or there was no beginning.
                Phase::Absent => return Ok(Progress::Done),
                Phase::Live => {
                    state.phase = Phase::Destroying;
                    state.notify = false;
                    *self.teardown.lock() = Some(Teardown::new(TeardownStage::Cancel(0)));
                    self.live.store(false, Ordering::SeqCst);
                }
                Phase::Creating => {
                    // Where they are not there, another pCPU does a step.
                    let tables = state.tables.take().ok_or(DestroyError::Busy)?;
                    state.phase = Phase::Destroying;
                    *self.teardown.lock() = Some(Teardown::new(TeardownStage::Tables(tables)));
                }
                Phase::Destroying => {}
            }
        }
        // From here on nobody begins. Who began before is counted.
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
                teardown.stage = if self.tee.virtualised {
                    TeardownStage::Forget
                } else {
                    TeardownStage::Cache
                };
                *self.teardown.lock() = Some(teardown);
                Err(error)
            }
        }
    }

    /// OP-TEE is to forget a VM that has not come to live.
    pub(crate) fn begin_forgetting(&self) {
        let mut state = self.state.lock();
        state.phase = Phase::Destroying;
        *self.teardown.lock() = Some(Teardown::new(TeardownStage::Forget));
    }

    /// Does a step. Where the end is then; `None` when it is over.
    fn step_stage<H: Host>(
        &self,
        host: &H,
        teardown: &mut Teardown,
    ) -> Result<Option<TeardownStage>, DestroyError> {
        let stage = core::mem::replace(&mut teardown.stage, TeardownStage::Forget);
        Ok(Some(match stage {
            TeardownStage::Release(old) => {
                return Ok(self.release_some(host, old).map(TeardownStage::Release));
            }
            TeardownStage::Forget => TeardownStage::Release(self.forget(host)?),
            TeardownStage::Tables(mut making) => {
                if making.is_under_way()
                    && let TableStep::Some = self.early_step(host, &mut making)
                {
                    TeardownStage::Tables(making)
                } else {
                    self.state.lock().tables = Some(making);
                    TeardownStage::Forget
                }
            }
            // What calls are under way is first, but that those which sleep are cancelled.
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
