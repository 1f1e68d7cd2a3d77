// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The lifecycle of a VM as users see it: phases, requests, and reasons for a refusal.

use core::fmt;
use thiserror::Error;

/// A request to change a VM's lifecycle state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LifecycleRequest {
    /// Boot the VM.
    Start,
    /// Let the guest shut itself down.
    Stop,
    /// Restart the VM without asking its guest.
    Reset,
    /// Stop the VM without asking its guest.
    Kill,
    /// Pause the vCPUs.
    Pause,
    /// Let the vCPUs continue.
    Resume,
}

impl LifecycleRequest {
    /// All requests.
    pub const ALL: [Self; 6] = [
        Self::Start,
        Self::Stop,
        Self::Reset,
        Self::Kill,
        Self::Pause,
        Self::Resume,
    ];

    /// Returns the name that users write.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Reset => "reset",
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Resume => "resume",
        }
    }
}

/// The phase of a VM's lifecycle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// The VM has no memory, and does not exist in OP-TEE.
    Off,
    /// The VM gets memory, is created in OP-TEE, and is loaded with what it boots.
    Starting,
    /// The vCPUs run.
    Running,
    /// The vCPUs do not run, and keep their state.
    Paused,
    /// The vCPUs stop; then the VM is torn down in steps.
    Ending,
    /// The VM has stopped, but OP-TEE has not released it, so the VM keeps its memory.
    Failed,
}

impl Phase {
    /// All phases.
    pub const ALL: [Self; 6] = [
        Self::Off,
        Self::Starting,
        Self::Running,
        Self::Paused,
        Self::Ending,
        Self::Failed,
    ];

    /// Returns the name that users see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Ending => "ending",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The reason why a request is refused. Each text says what to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum LifecycleError {
    /// The VM is off.
    #[error("it is off: start it first")]
    Off,
    /// The VM is in the requested phase already.
    #[error("it is {0} already")]
    Already(Phase),
    /// The VM has not booted yet.
    #[error("it is starting: wait until it runs, or kill it")]
    Starting,
    /// The VM is paused, so its guest cannot answer.
    #[error("it is paused: resume it, or kill it")]
    Paused,
    /// The VM is running, so it cannot be resumed.
    #[error("it is not paused")]
    NotPaused,
    /// The VM is being torn down.
    #[error("it is ending: wait until it is off")]
    Ending,
    /// OP-TEE has not released the VM.
    #[error("OP-TEE has not released it, so its memory stays in use: restart the machine")]
    Failed,
}

/// The reason why a VM's memory size cannot be changed. Each text says what to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum SetMemoryError {
    /// The VM cannot have this size. The value is the largest size in bytes.
    #[error("not a number of 2 MiB blocks, at most {} KiB, which its description gives it", .0 / 1024)]
    Size(u64),
    /// The VM has its memory already.
    #[error("it is {0}: a VM gets its memory when it starts, so stop it first")]
    NotOff(Phase),
}
