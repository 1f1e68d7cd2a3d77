// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The lifecycle of a VM as a state machine: which event may come when, and which action follows.
//!
//! The state machine has no side effects: [`Lifecycle::request`] and [`Lifecycle::handle`] return
//! the next action, and the caller carries it out. Each VM has one lock for its state, so events
//! come one at a time.
//!
//! ```text
//!          start           loaded            pause
//!   Off ─────────► Starting ────► Running ◄────────► Paused
//!    ▲                │              │      resume      │
//!    │                │ kill, error  │ off, reset, kill │ kill, reset
//!    │   torn down    ▼              ▼                  │
//!    └───────────── Ending ◄────────────────────────────┘
//!                     │ OP-TEE does not destroy the VM, or an SMMU fails
//!                     ▼
//!                   Failed
//! ```
//!
//! A reset goes from `Ending` to `Starting`.

pub use postern_monitor::lifecycle::{LifecycleError, LifecycleRequest, Phase, SetMemoryError};

/// An event in the life of a VM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LifecycleEvent {
    /// The VM's memory holds everything that it boots from.
    Loaded,
    /// The VM cannot be started.
    CannotStart,
    /// A guest's PSCI call: SYSTEM_OFF.
    GuestOff,
    /// A guest's PSCI call: SYSTEM_RESET or SYSTEM_RESET2.
    GuestReset,
    /// The VM's watchdog has expired.
    WatchdogExpired,
    /// The last of the VM's vCPUs has stopped: EL2 stopped it, or the guest turned it off.
    VcpusStopped,
    /// The VM is torn down completely.
    TornDown,
    /// OP-TEE has not destroyed the VM, or an SMMU has not stopped its devices' accesses.
    NotTornDown,
    /// The hardware has lost some of the VM's state: an error that it has consumed.
    LostState,
}

/// The reason for a VM's end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EndReason {
    /// The guest turned its VM off.
    Off,
    /// The VM resets: it starts again.
    Reset,
    /// The VM's watchdog has reset it: it starts again.
    Watchdog,
    /// The VM could not be started, could not continue, or could not be torn down.
    Error,
    /// A user killed the VM.
    Killed,
}

impl EndReason {
    /// Returns the reason's name, as users see it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Reset => "reset",
            Self::Watchdog => "watchdog",
            Self::Error => "error",
            Self::Killed => "killed",
        }
    }
}

/// The action that follows a request or an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LifecycleAction {
    /// No action.
    Nothing,
    /// Begin to start the VM.
    Start,
    /// Let the VM's first vCPU run.
    Run,
    /// Press the guest's power button.
    PressButton,
    /// Keep the VM's vCPUs off the pCPUs.
    Pause,
    /// Let the VM's vCPUs run again.
    Resume,
    /// Stop the VM's vCPUs. [`LifecycleEvent::VcpusStopped`] comes when all have stopped.
    StopVcpus,
    /// Tear the VM down. [`LifecycleEvent::TornDown`] or [`LifecycleEvent::NotTornDown`] comes
    /// when that is done.
    TearDown,
    /// Report that the VM has ended, with this reason.
    Ended(EndReason),
    /// Report that the VM has ended with a reset, for this reason, and begin to start it.
    Again(EndReason),
}

/// A VM's phase, and what follows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lifecycle {
    phase: Phase,
    /// The reason for the end that is under way.
    ending: EndReason,
    /// Whether some of the VM's vCPUs have not stopped yet.
    has_vcpus: bool,
}

impl Lifecycle {
    /// Returns the state of a VM that is off.
    pub const fn new() -> Self {
        Self {
            phase: Phase::Off,
            ending: EndReason::Off,
            has_vcpus: false,
        }
    }

    /// Returns the VM's phase.
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Handles a user's request: changes the phase, and returns the next action.
    ///
    /// # Errors
    /// Where the VM's phase does not allow the request; nothing has changed then.
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
            // A reset of a VM that has hardly begun to start would change nothing.
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
            // The VM ends in any case, but a kill cancels the restart after a reset.
            (Phase::Ending, Kill) => {
                self.ending = match self.ending {
                    EndReason::Reset | EndReason::Watchdog => EndReason::Killed,
                    other => other,
                };
                Ok(LifecycleAction::Nothing)
            }
            (Phase::Ending, _) => Err(LifecycleError::Ending),
        }
    }

    /// Handles an event: changes the phase, and returns the next action. An event that the phase
    /// does not expect changes nothing.
    pub fn handle(&mut self, event: LifecycleEvent) -> LifecycleAction {
        match (self.phase, event) {
            (Phase::Starting, LifecycleEvent::Loaded) => {
                self.phase = Phase::Running;
                self.has_vcpus = true;
                LifecycleAction::Run
            }
            (Phase::Starting, LifecycleEvent::CannotStart) => self.end(EndReason::Error),
            // A vCPU may already be in the call when its VM is paused.
            (Phase::Running | Phase::Paused, LifecycleEvent::GuestOff) => self.end(EndReason::Off),
            (Phase::Running | Phase::Paused, LifecycleEvent::GuestReset) => {
                self.end(EndReason::Reset)
            }
            // The time of a paused VM stands still, so its watchdog cannot expire.
            (Phase::Running, LifecycleEvent::WatchdogExpired) => self.end(EndReason::Watchdog),
            (Phase::Running | Phase::Paused, LifecycleEvent::LostState) => {
                self.end(EndReason::Error)
            }
            // The guest turned off its vCPUs one by one.
            (Phase::Running | Phase::Paused, LifecycleEvent::VcpusStopped) => {
                self.has_vcpus = false;
                self.end(EndReason::Off)
            }
            (Phase::Ending, LifecycleEvent::VcpusStopped) if self.has_vcpus => {
                self.has_vcpus = false;
                LifecycleAction::TearDown
            }
            (Phase::Ending, LifecycleEvent::TornDown) if !self.has_vcpus => match self.ending {
                ending @ (EndReason::Reset | EndReason::Watchdog) => {
                    self.phase = Phase::Starting;
                    LifecycleAction::Again(ending)
                }
                ending => {
                    self.phase = Phase::Off;
                    LifecycleAction::Ended(ending)
                }
            },
            (Phase::Ending, LifecycleEvent::NotTornDown) if !self.has_vcpus => {
                self.phase = Phase::Failed;
                LifecycleAction::Ended(EndReason::Error)
            }
            // An event that comes too late, for instance when several vCPUs turn the VM off at
            // once.
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
