// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kinds of calls that can be measured.

use crate::tee::{self, Device, Memory, Param, Session};
use std::io::{Error, Result};
use std::path::Path;

/// The bytes of a memory reference.
const PASSED: u64 = 64;
/// The bytes of a buffer that is registered: two pages.
const BUFFER: u64 = 8192;

/// A kind of call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// INVOKE without parameters.
    Plain,
    /// INVOKE with a value that OP-TEE adds up.
    #[default]
    Values,
    /// INVOKE with shared memory.
    Memref,
    /// INVOKE with an RPC that Linux answers.
    Time,
    /// Registering and unregistering a buffer.
    Buffer,
    /// Opening and closing a session.
    Session,
    /// Opening and closing a session with a TA that is loaded.
    Application,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Plain,
        Self::Values,
        Self::Memref,
        Self::Time,
        Self::Buffer,
        Self::Session,
        Self::Application,
    ];

    /// Returns the kind's name, for options.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Values => "values",
            Self::Memref => "memref",
            Self::Time => "time",
            Self::Buffer => "buffer",
            Self::Session => "session",
            Self::Application => "application",
        }
    }

    /// Returns a description of the kind.
    pub const fn what(self) -> &'static str {
        match self {
            Self::Plain => {
                "one TEE_IOC_INVOKE of OP-TEE's invoke-tests pseudo TA (no parameters, no RPC)"
            }
            Self::Values => {
                "one TEE_IOC_INVOKE of OP-TEE's invoke-tests pseudo TA (one value in and out, no \
                 shared memory, no RPC)"
            }
            Self::Memref => {
                "one TEE_IOC_INVOKE of OP-TEE's invoke-tests pseudo TA (64 bytes of registered \
                 shared memory, no RPC)"
            }
            Self::Time => {
                "one TEE_IOC_INVOKE of OP-TEE's statistics pseudo TA (two values out, one RPC that \
                 the driver answers)"
            }
            Self::Buffer => "TEE_IOC_SHM_ALLOC of 8 KiB, which registers them, and their release",
            Self::Session => "a session with OP-TEE's invoke-tests pseudo TA, opened and closed",
            Self::Application => {
                "a session with xtest's TA crypt, opened and closed, which the supplicant loads"
            }
        }
    }

    /// Returns the kind of that name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Everything that repeated calls of one kind need.
pub struct Calls {
    device: Device,
    ready: Ready,
    number: u64,
}

enum Ready {
    Plain(Session),
    Values(Session),
    Memref(Session, Memory),
    Time(Session),
    Buffer,
    Session(tee::Uuid),
}

impl Calls {
    /// Opens what the calls need.
    ///
    /// # Errors
    ///
    /// Fails when the TEE cannot be reached or refuses.
    pub fn prepare(device: &Path, kind: Kind) -> Result<Self> {
        let device = Device::open(device)?;
        let tests = || device.open_session(tee::INVOKE_TESTS);
        let ready = match kind {
            Kind::Plain => Ready::Plain(tests()?),
            Kind::Values => Ready::Values(tests()?),
            Kind::Memref => Ready::Memref(tests()?, device.allocate(PASSED)?),
            Kind::Time => Ready::Time(device.open_session(tee::STATS)?),
            Kind::Buffer => Ready::Buffer,
            Kind::Session => Ready::Session(tee::INVOKE_TESTS),
            Kind::Application => Ready::Session(tee::CRYPT),
        };
        Ok(Self {
            device,
            ready,
            number: 0,
        })
    }

    /// Makes one call. The result is checked, so that only the TEE can have answered.
    ///
    /// # Errors
    ///
    /// Fails when the TEE cannot be reached or answers wrongly.
    pub fn once(&mut self) -> Result<()> {
        let device = &self.device;
        let mut params = [Param::default(); 4];
        match &self.ready {
            Ready::Plain(session) => {
                let (command, code) = (tee::INVOKE_TESTS_NONE, tee::BAD_PARAMETERS);
                device.invoke(*session, command, &mut params, code)
            }
            Ready::Values(session) => {
                self.number += 1;
                let number = self.number;
                params[0] = Param::value(number, 7);
                device.invoke(*session, tee::INVOKE_TESTS_PARAMS, &mut params, 0)?;
                let sum = params[0].a;
                if sum == number + 7 {
                    Ok(())
                } else {
                    Err(Error::other(format!("the TEE says {number} + 7 = {sum}")))
                }
            }
            Ready::Memref(session, memory) => {
                let (command, code) = (tee::INVOKE_TESTS_NONE, tee::BAD_PARAMETERS);
                params[0] = Param::memory(memory, PASSED);
                device.invoke(*session, command, &mut params, code)
            }
            Ready::Time(session) => {
                params[0] = Param::output();
                params[1] = Param::output();
                device.invoke(*session, tee::STATS_TIME, &mut params, 0)
            }
            Ready::Buffer => device.allocate(BUFFER).map(drop),
            Ready::Session(application) => {
                let session = device.open_session(*application)?;
                device.close_session(session)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_names_are_unique() {
        for kind in Kind::ALL {
            assert_eq!(Kind::find(kind.name()), Some(kind));
            assert!(!kind.what().is_empty());
        }
        assert_eq!(Kind::find("fast"), None);
    }

    #[test]
    fn call_without_tee_is_an_error() {
        for kind in Kind::ALL {
            let calls = Calls::prepare(Path::new("/dev/null"), kind);
            assert!(
                calls.and_then(|mut calls| calls.once()).is_err(),
                "{kind:?}"
            );
        }
    }
}
