// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The life cycle of a VM, as users see it: phases, requests, and why a request is refused.

use core::fmt;
use thiserror::Error;

/// What a user wants of a VM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LifecycleRequest {
    /// That it boots.
    Start,
    /// That its guest shuts itself down.
    Stop,
    /// That it starts anew, without asking its guest.
    Reset,
    /// That it is off, without asking its guest.
    Kill,
    /// That its vCPUs stand still.
    Pause,
    /// That they go on.
    Resume,
}

impl LifecycleRequest {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Start,
        Self::Stop,
        Self::Reset,
        Self::Kill,
        Self::Pause,
        Self::Resume,
    ];

    /// Its name, as users write it.
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

/// Where a VM is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// It has no memory, and OP-TEE does not know it.
    Off,
    /// It gets memory, a TEE, and what it boots from.
    Starting,
    /// Its vCPUs run.
    Running,
    /// Its vCPUs stay where they are.
    Paused,
    /// Its vCPUs stop; then it is taken down step by step.
    Ending,
    /// It has ended, and OP-TEE has not let go of it: what it had stays its own.
    Failed,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Off,
        Self::Starting,
        Self::Running,
        Self::Paused,
        Self::Ending,
        Self::Failed,
    ];

    /// Its name, as users see it.
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

/// Why an order is not carried out. Each text says what to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum LifecycleError {
    /// It is off.
    #[error("it is off: start it first")]
    Off,
    /// It is there already.
    #[error("it is {0} already")]
    Already(Phase),
    /// It has not booted yet.
    #[error("it is starting: wait until it runs, or kill it")]
    Starting,
    /// Its guest cannot answer while it is paused.
    #[error("it is paused: resume it, or kill it")]
    Paused,
    /// It is running, and was to be resumed.
    #[error("it is not paused")]
    NotPaused,
    /// It is being taken down.
    #[error("it is ending: wait until it is off")]
    Ending,
    /// OP-TEE has not let go of it.
    #[error("OP-TEE has not let go of it, so its memory is nobody else's: restart the machine")]
    Failed,
}

/// Why a VM's memory cannot be changed. Each text says what to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum SetMemoryError {
    /// Not a size that it can have; this is the largest, in bytes.
    #[error("not a number of 2 MiB blocks, at most {} KiB, which its description gives it", .0 / 1024)]
    Size(u64),
    /// It has its memory.
    #[error("it is {0}: a VM gets its memory when it starts, so stop it first")]
    NotOff(Phase),
}
