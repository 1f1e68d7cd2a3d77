// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The life cycle of a VM as a state machine: which event may come when, and which action follows.
//!
//! It touches nothing: [`Lifecycle::request`] and [`Lifecycle::handle`] return the next action, and the caller carries it
//! out. Each VM has one lock for it, so each event meets one state.
//!
//! ```text
//!          start           loaded            pause
//!   Off ─────────► Starting ────► Running ◄────────► Paused
//!    ▲                │              │      resume      │
//!    │                │ kill, error  │ off, reset, kill │ kill, reset
//!    │   torn down    ▼              ▼                  │
//!    └───────────── Ending ◄────────────────────────────┘
//!                     │ OP-TEE does not let go
//!                     ▼
//!                   Failed
//! ```
//!
//! A reset goes from `Ending` to `Starting`.

pub use postern_monitor::lifecycle::{LifecycleError, LifecycleRequest, Phase, SetMemoryError};

/// What happens to a VM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LifecycleEvent {
    /// All is in its memory that it boots from.
    Loaded,
    /// It cannot be started.
    CannotStart,
    /// A guest's PSCI call: SYSTEM_OFF.
    GuestOff,
    /// A guest's PSCI call: SYSTEM_RESET or SYSTEM_RESET2.
    GuestReset,
    /// The last of its vCPUs has stopped: it was told to, or the guest turned it off.
    VcpusStopped,
    /// Nothing of it is left.
    TornDown,
    /// OP-TEE does not let go of it.
    TeeNotDestroyed,
    /// The hardware has lost some of its state: an error that it has consumed.
    LostState,
}

/// How a VM ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EndReason {
    /// The guest turned itself off.
    Off,
    /// It starts again.
    Reset,
    /// It could not be started, or not go on, or not be ended as it should.
    Error,
    /// A user's order.
    Killed,
}

impl EndReason {
    /// Its name, as users see it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Reset => "reset",
            Self::Error => "error",
            Self::Killed => "killed",
        }
    }
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LifecycleAction {
    /// Nothing.
    Nothing,
    /// Begin to start it.
    Start,
    /// Let its first vCPU run.
    Run,
    /// Press the guest's power button.
    PressButton,
    /// Keep its vCPUs off the pCPUs.
    Pause,
    /// Let its vCPUs run again.
    Resume,
    /// Stop its vCPUs. [`LifecycleEvent::VcpusStopped`] comes when they have.
    StopVcpus,
    /// Take it down. [`LifecycleEvent::TornDown`] or [`LifecycleEvent::TeeNotDestroyed`] comes when that is done.
    TearDown,
    /// Say that it has ended so.
    Ended(EndReason),
    /// Say that it has ended, and begin to start it.
    Again,
}

/// A VM's phase, and what comes after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lifecycle {
    phase: Phase,
    /// What the end that is under way is.
    ending: EndReason,
    /// Its vCPUs have not all stopped.
    has_vcpus: bool,
}

impl Lifecycle {
    /// Off.
    pub const fn new() -> Self {
        Self {
            phase: Phase::Off,
            ending: EndReason::Off,
            has_vcpus: false,
        }
    }

    /// Where it is.
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// A user wants something.
    ///
    /// # Errors
    /// Where that makes no sense now; nothing has changed then.
    pub fn request(
        &mut self,
        request: LifecycleRequest,
    ) -> Result<LifecycleAction, LifecycleError> {
        use LifecycleRequest::{Kill, Pause, Reset, Resume, Start, Stop};
        match (self.phase, request) {
            (Phase::Off, Start) => {
                self.phase = Phase::Starting;
                Ok(LifecycleAction::Start)
            }
            (Phase::Failed, _) => Err(LifecycleError::Failed),
            (Phase::Off, _) => Err(LifecycleError::Off),
            (Phase::Starting, Start) => Err(LifecycleError::Already(Phase::Starting)),
            (Phase::Running | Phase::Paused, Start) => Err(LifecycleError::Already(Phase::Running)),
            // What the reset of a VM that has hardly begun would change is nothing.
            (Phase::Starting, Stop | Reset | Pause | Resume) => Err(LifecycleError::Starting),
            (Phase::Starting, Kill) => Ok(self.end(EndReason::Killed)),
            (Phase::Running, Stop) => Ok(LifecycleAction::PressButton),
            (Phase::Running, Pause) => {
                self.phase = Phase::Paused;
                Ok(LifecycleAction::Pause)
            }
            (Phase::Running, Resume) => Err(LifecycleError::NotPaused),
            (Phase::Paused, Stop) => Err(LifecycleError::Paused),
            (Phase::Paused, Pause) => Err(LifecycleError::Already(Phase::Paused)),
            (Phase::Paused, Resume) => {
                self.phase = Phase::Running;
                Ok(LifecycleAction::Resume)
            }
            (Phase::Running | Phase::Paused, Reset) => Ok(self.end(EndReason::Reset)),
            (Phase::Running | Phase::Paused, Kill) => Ok(self.end(EndReason::Killed)),
            // It ends in any case; who wants it dead does not want it to come back.
            (Phase::Ending, Kill) => {
                self.ending = match self.ending {
                    EndReason::Reset => EndReason::Killed,
                    other => other,
                };
                Ok(LifecycleAction::Nothing)
            }
            (Phase::Ending, _) => Err(LifecycleError::Ending),
        }
    }

    /// Something has happened.
    pub fn handle(&mut self, event: LifecycleEvent) -> LifecycleAction {
        match (self.phase, event) {
            (Phase::Starting, LifecycleEvent::Loaded) => {
                self.phase = Phase::Running;
                self.has_vcpus = true;
                LifecycleAction::Run
            }
            (Phase::Starting, LifecycleEvent::CannotStart) => self.end(EndReason::Error),
            // A vCPU may be on its way into the call when its VM is paused.
            (Phase::Running | Phase::Paused, LifecycleEvent::GuestOff) => self.end(EndReason::Off),
            (Phase::Running | Phase::Paused, LifecycleEvent::GuestReset) => {
                self.end(EndReason::Reset)
            }
            (Phase::Running | Phase::Paused, LifecycleEvent::LostState) => {
                self.end(EndReason::Error)
            }
            // The guest turned off one vCPU after the other.
            (Phase::Running | Phase::Paused, LifecycleEvent::VcpusStopped) => {
                self.has_vcpus = false;
                self.end(EndReason::Off)
            }
            (Phase::Ending, LifecycleEvent::VcpusStopped) if self.has_vcpus => {
                self.has_vcpus = false;
                LifecycleAction::TearDown
            }
            (Phase::Ending, LifecycleEvent::TornDown) if !self.has_vcpus => match self.ending {
                EndReason::Reset => {
                    self.phase = Phase::Starting;
                    LifecycleAction::Again
                }
                ending => {
                    self.phase = Phase::Off;
                    LifecycleAction::Ended(ending)
                }
            },
            (Phase::Ending, LifecycleEvent::TeeNotDestroyed) if !self.has_vcpus => {
                self.phase = Phase::Failed;
                LifecycleAction::Ended(EndReason::Error)
            }
            // What comes too late, of several vCPUs that turn the VM off at once for instance.
            _ => LifecycleAction::Nothing,
        }
    }

    fn end(&mut self, ending: EndReason) -> LifecycleAction {
        self.phase = Phase::Ending;
        self.ending = ending;
        if self.has_vcpus {
            LifecycleAction::StopVcpus
        } else {
            LifecycleAction::TearDown
        }
    }
}

#[cfg(test)]
mod tests;
