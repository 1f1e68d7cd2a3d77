// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Orders to a VM.

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
