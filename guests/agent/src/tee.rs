// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A client of `/dev/tee0` without libraries: sessions, invocations and shared memory, with the
//! structures of `linux/tee.h`.

use crate::sys;
use std::fs::{File, OpenOptions};
use std::io::{Error, Result};
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;

/// The UUID of an application.
#[derive(Clone, Copy, Debug)]
pub struct Uuid(pub [u8; 16]);

/// OP-TEE's own tests (`PTA_INVOKE_TESTS_UUID`, d96a5b40-c3e5-21e3-8794-1002a5d5c61b), a pseudo TA.
/// It is part of OP-TEE itself, so the supplicant loads nothing.
pub const INVOKE_TESTS: Uuid = Uuid([
    0xd9, 0x6a, 0x5b, 0x40, 0xc3, 0xe5, 0x21, 0xe3, 0x87, 0x94, 0x10, 0x02, 0xa5, 0xd5, 0xc6, 0x1b,
]);
/// `PTA_INVOKE_TESTS_CMD_PARAMS`: with one in/out value, a becomes a + b.
pub const INVOKE_TESTS_PARAMS: u32 = 1;
/// A command that the pseudo TA does not have. It then reads no parameter and answers
/// [`BAD_PARAMETERS`]; OP-TEE's work for the call is the same as for any command.
pub const INVOKE_TESTS_NONE: u32 = 0x1234;
/// OP-TEE's statistics (`STATS_UUID`, d96a5b40-e2c7-b1af-8794-1002a5d5c61b), a pseudo TA.
pub const STATS: Uuid = Uuid([
    0xd9, 0x6a, 0x5b, 0x40, 0xe2, 0xc7, 0xb1, 0xaf, 0x87, 0x94, 0x10, 0x02, 0xa5, 0xd5, 0xc6, 0x1b,
]);
/// `STATS_CMD_GET_TIME`: two output values. OP-TEE asks Linux for the time, by one RPC.
pub const STATS_TIME: u32 = 4;
/// xtest's `crypt` (`TA_CRYPT_UUID`, cb3e5ba0-adf1-11e0-998b-0002a5d5c51b), a TA that is loaded.
pub const CRYPT: Uuid = Uuid([
    0xcb, 0x3e, 0x5b, 0xa0, 0xad, 0xf1, 0x11, 0xe0, 0x99, 0x8b, 0x00, 0x02, 0xa5, 0xd5, 0xc5, 0x1b,
]);

/// `TEE_ERROR_BAD_PARAMETERS`.
pub const BAD_PARAMETERS: u32 = 0xffff_0006;
/// `TEEC_ORIGIN_TRUSTED_APP`: the application itself answered, and not Linux or OP-TEE's core.
pub const ORIGIN_APPLICATION: u32 = 4;

/// `TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_OUTPUT`.
const VALUE_OUTPUT: u64 = 2;
/// `TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT`.
const VALUE_INOUT: u64 = 3;
/// `TEE_IOCTL_PARAM_ATTR_TYPE_MEMREF_INOUT`.
const MEMREF_INOUT: u64 = 7;

/// `struct tee_ioctl_buf_data`.
#[repr(C)]
struct BufData {
    pointer: u64,
    length: u64,
}

/// `struct tee_ioctl_param`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Param {
    attr: u64,
    /// The first word of a value.
    pub a: u64,
    /// The second word of a value.
    pub b: u64,
    c: u64,
}

impl Param {
    /// Returns an input and output value.
    pub fn value(a: u64, b: u64) -> Self {
        Self {
            attr: VALUE_INOUT,
            a,
            b,
            c: 0,
        }
    }

    /// Returns an output value.
    pub fn output() -> Self {
        Self {
            attr: VALUE_OUTPUT,
            ..Self::default()
        }
    }

    /// Returns a reference to the first bytes of shared memory, to read and to write.
    pub fn memory(memory: &Memory, bytes: u64) -> Self {
        Self {
            attr: MEMREF_INOUT,
            a: 0,
            b: bytes,
            c: memory.id,
        }
    }
}

/// `struct tee_ioctl_open_session_arg` with no parameters.
#[repr(C)]
#[derive(Default)]
struct OpenArg {
    uuid: [u8; 16],
    client_uuid: [u8; 16],
    client_login: u32,
    cancel_id: u32,
    session: u32,
    ret: u32,
    origin: u32,
    num_params: u32,
}

/// `struct tee_ioctl_invoke_arg` with four parameters, the number that GlobalPlatform's client
/// library always sends.
#[repr(C)]
#[derive(Default)]
struct InvokeArg {
    func: u32,
    session: u32,
    cancel_id: u32,
    ret: u32,
    origin: u32,
    num_params: u32,
    params: [Param; 4],
}

/// `struct tee_ioctl_close_session_arg`.
#[repr(C)]
struct CloseArg {
    session: u32,
}

/// `struct tee_ioctl_shm_alloc_data`.
#[repr(C)]
#[derive(Default)]
struct AllocData {
    size: u64,
    flags: u32,
    id: i32,
}

/// `_IOR(TEE_IOC_MAGIC, number, T)`: direction read, magic 0xa4.
const fn read_request<T>(number: u32) -> u32 {
    (2 << 30) | ((size_of::<T>() as u32) << 16) | (0xa4 << 8) | number
}

/// `_IOWR(TEE_IOC_MAGIC, 1, struct tee_ioctl_shm_alloc_data)`.
const ALLOC: u32 = (1 << 30) | read_request::<AllocData>(1);
const OPEN_SESSION: u32 = read_request::<BufData>(2);
const INVOKE: u32 = read_request::<BufData>(3);
const CLOSE_SESSION: u32 = read_request::<CloseArg>(5);

/// The open device. Dropping it closes its sessions.
pub struct Device(File);

/// A session, by the driver's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session(u32);

/// Memory that is shared with the TEE, registered until this value is dropped.
pub struct Memory {
    id: u64,
    _file: OwnedFd,
}

/// An answer of the TEE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The result; `TEEC_SUCCESS` is zero.
    pub code: u32,
    /// The origin of the result.
    pub origin: u32,
}

impl Answer {
    /// Returns an error unless the answer is the expected one.
    fn wanted(self, what: &str, code: u32) -> Result<()> {
        let origin = self.origin;
        if self.code != code {
            let found = self.code;
            Err(Error::other(format!(
                "{what} failed with {found:#010x}, origin {origin}"
            )))
        } else if code != 0 && origin != ORIGIN_APPLICATION {
            Err(Error::other(format!(
                "{what}: {code:#010x} is from {origin}"
            )))
        } else {
            Ok(())
        }
    }
}

impl Device {
    /// Opens the device.
    ///
    /// # Errors
    ///
    /// Fails as open(2) does.
    pub fn open(path: &Path) -> Result<Self> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map(Self)
    }

    /// Opens a session without parameters, with the public login.
    ///
    /// # Errors
    ///
    /// Fails when the ioctl fails or the TEE refuses; the error has the result and its origin.
    pub fn open_session(&self, application: Uuid) -> Result<Session> {
        let mut argument = OpenArg {
            uuid: application.0,
            ..OpenArg::default()
        };
        let mut data = BufData {
            pointer: (&raw mut argument) as u64,
            length: size_of::<OpenArg>() as u64,
        };
        // SAFETY: TEE_IOC_OPEN_SESSION takes a `tee_ioctl_buf_data` that points to a live
        // `tee_ioctl_open_session_arg` of exactly the length it names, with no parameters behind
        // it.
        unsafe { sys::ioctl(&self.0, OPEN_SESSION, &mut data)? };
        let answer = Answer {
            code: argument.ret,
            origin: argument.origin,
        };
        answer.wanted("opening a session", 0)?;
        Ok(Session(argument.session))
    }

    /// Closes a session.
    ///
    /// # Errors
    ///
    /// Fails when the ioctl fails.
    pub fn close_session(&self, session: Session) -> Result<()> {
        let mut argument = CloseArg { session: session.0 };
        // SAFETY: TEE_IOC_CLOSE_SESSION takes a `tee_ioctl_close_session_arg`, which has no
        // pointers.
        unsafe { sys::ioctl(&self.0, CLOSE_SESSION, &mut argument).map(drop) }
    }

    /// Invokes a command, whose answer must be `code`. Output values are then in the parameters.
    ///
    /// # Errors
    ///
    /// Fails when the ioctl fails or the TEE answers otherwise; the error has the result and its
    /// origin.
    pub fn invoke(
        &self,
        session: Session,
        command: u32,
        params: &mut [Param; 4],
        code: u32,
    ) -> Result<()> {
        let mut argument = InvokeArg {
            func: command,
            session: session.0,
            num_params: 4,
            params: *params,
            ..InvokeArg::default()
        };
        let mut data = BufData {
            pointer: (&raw mut argument) as u64,
            length: size_of::<InvokeArg>() as u64,
        };
        // SAFETY: TEE_IOC_INVOKE takes a `tee_ioctl_buf_data` that points to a live
        // `tee_ioctl_invoke_arg` and the four parameters that it announces, of exactly the length
        // it names.
        unsafe { sys::ioctl(&self.0, INVOKE, &mut data)? };
        *params = argument.params;
        let answer = Answer {
            code: argument.ret,
            origin: argument.origin,
        };
        answer.wanted("invoking", code)
    }

    /// Allocates memory and shares it with the TEE.
    ///
    /// # Errors
    ///
    /// Fails when the ioctl fails.
    pub fn allocate(&self, bytes: u64) -> Result<Memory> {
        let mut argument = AllocData {
            size: bytes,
            ..AllocData::default()
        };
        // SAFETY: TEE_IOC_SHM_ALLOC takes a `tee_ioctl_shm_alloc_data`, which has no pointers.
        let file = unsafe { sys::ioctl(&self.0, ALLOC, &mut argument)? };
        // SAFETY: the ioctl gave a new descriptor, and no other code owns it.
        let file = unsafe { OwnedFd::from_raw_fd(file) };
        let id = u64::try_from(argument.id).map_err(Error::other)?;
        Ok(Memory { id, _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_and_numbers_match_the_kernel_header() {
        assert_eq!(size_of::<Param>(), 32);
        assert_eq!(size_of::<OpenArg>(), 56);
        assert_eq!(size_of::<InvokeArg>(), 24 + 4 * 32);
        // `_IOWR(0xa4, 1, struct tee_ioctl_shm_alloc_data)`, then the values of `_IOR(0xa4, 2,
        // struct tee_ioctl_buf_data)` and similar ones.
        assert_eq!(ALLOC, 0xc010_a401);
        assert_eq!(OPEN_SESSION, 0x8010_a402);
        assert_eq!(INVOKE, 0x8010_a403);
        assert_eq!(CLOSE_SESSION, 0x8004_a405);
    }

    #[test]
    fn device_without_tee_is_an_error() {
        let null = Device::open(Path::new("/dev/null")).expect("there is always one");
        assert!(null.open_session(INVOKE_TESTS).is_err());
        assert!(null.close_session(Session(1)).is_err());
        assert!(null.allocate(64).is_err());
        assert!(Device::open(Path::new("/dev/no-such-tee")).is_err());
    }

    #[test]
    fn answer_must_come_from_the_application() {
        let answer = |code, origin| Answer { code, origin };
        assert!(answer(0, 3).wanted("x", 0).is_ok());
        assert!(
            answer(BAD_PARAMETERS, 4)
                .wanted("x", BAD_PARAMETERS)
                .is_ok()
        );
        // The answer of OP-TEE's core, which did not ask the application.
        assert!(
            answer(BAD_PARAMETERS, 3)
                .wanted("x", BAD_PARAMETERS)
                .is_err()
        );
        assert!(answer(BAD_PARAMETERS, 4).wanted("x", 0).is_err());
        assert!(answer(0, 4).wanted("x", BAD_PARAMETERS).is_err());
    }
}
