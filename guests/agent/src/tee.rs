//! A client of `/dev/tee0` that needs no library: open a session, invoke, with the structures of
//! `linux/tee.h`.

use crate::sys;
use std::fs::{File, OpenOptions};
use std::io::{Error, Result};
use std::path::Path;

/// A pseudo TA: part of OP-TEE itself, so that opening it loads nothing through the supplicant.
#[derive(Clone, Copy, Debug)]
pub struct Uuid(pub [u8; 16]);

/// OP-TEE's own tests (`PTA_INVOKE_TESTS_UUID`, d96a5b40-c3e5-21e3-8794-1002a5d5c61b).
pub const INVOKE_TESTS: Uuid = Uuid([
    0xd9, 0x6a, 0x5b, 0x40, 0xc3, 0xe5, 0x21, 0xe3, 0x87, 0x94, 0x10, 0x02, 0xa5, 0xd5, 0xc6, 0x1b,
]);
/// `PTA_INVOKE_TESTS_CMD_PARAMS`: with one in/out value, a becomes a + b.
pub const INVOKE_TESTS_PARAMS: u32 = 1;
/// `TEE_IOCTL_PARAM_ATTR_TYPE_VALUE_INOUT`.
const VALUE_INOUT: u64 = 3;

/// `struct tee_ioctl_buf_data`.
#[repr(C)]
struct BufData {
    pointer: u64,
    length: u64,
}

/// `struct tee_ioctl_param`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Param {
    attr: u64,
    a: u64,
    b: u64,
    c: u64,
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

/// `struct tee_ioctl_invoke_arg` with four parameters, as GlobalPlatform's client library always sends.
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

/// `_IOR(TEE_IOC_MAGIC, number, struct tee_ioctl_buf_data)`: direction read, size 16, magic 0xa4.
const fn buffer_request(number: u32) -> u32 {
    (2 << 30) | (16 << 16) | (0xa4 << 8) | number
}

const OPEN_SESSION: u32 = buffer_request(2);
const INVOKE: u32 = buffer_request(3);

/// An open session. It ends with the file.
pub struct Session {
    device: File,
    id: u32,
}

fn tee_error(what: &str, ret: u32, origin: u32) -> Error {
    Error::other(format!("{what} failed with {ret:#010x}, origin {origin}"))
}

impl Session {
    /// Opens the device and a session with a TA, without parameters, as nobody in particular.
    ///
    /// # Errors
    ///
    /// The device cannot be opened, the ioctl fails, or the TEE refuses (its code and who refused).
    pub fn open(device: &Path, ta: Uuid) -> Result<Self> {
        let device = OpenOptions::new().read(true).write(true).open(device)?;
        let mut argument = OpenArg {
            uuid: ta.0,
            ..OpenArg::default()
        };
        let mut data = BufData {
            pointer: (&raw mut argument) as u64,
            length: size_of::<OpenArg>() as u64,
        };
        // SAFETY: TEE_IOC_OPEN_SESSION takes a `tee_ioctl_buf_data` that points to a live
        // `tee_ioctl_open_session_arg` of exactly the length it names, with no parameters behind it.
        unsafe { sys::ioctl(&device, OPEN_SESSION, &mut data)? };
        if argument.ret != 0 {
            return Err(tee_error(
                "opening a session",
                argument.ret,
                argument.origin,
            ));
        }
        Ok(Self {
            device,
            id: argument.session,
        })
    }

    /// Invokes a command with one in/out value and gives the value back.
    ///
    /// # Errors
    ///
    /// The ioctl fails, or the TEE answers with an error (its code and who answered).
    pub fn invoke(&self, command: u32, a: u64, b: u64) -> Result<(u64, u64)> {
        let mut argument = InvokeArg {
            func: command,
            session: self.id,
            num_params: 4,
            ..InvokeArg::default()
        };
        argument.params[0] = Param {
            attr: VALUE_INOUT,
            a,
            b,
            c: 0,
        };
        let mut data = BufData {
            pointer: (&raw mut argument) as u64,
            length: size_of::<InvokeArg>() as u64,
        };
        // SAFETY: TEE_IOC_INVOKE takes a `tee_ioctl_buf_data` that points to a live `tee_ioctl_invoke_arg`
        // and the four parameters that it announces, of exactly the length it names.
        unsafe { sys::ioctl(&self.device, INVOKE, &mut data)? };
        if argument.ret != 0 {
            return Err(tee_error("invoking", argument.ret, argument.origin));
        }
        Ok((argument.params[0].a, argument.params[0].b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_and_numbers_are_those_of_the_kernel_header() {
        assert_eq!(size_of::<Param>(), 32);
        assert_eq!(size_of::<OpenArg>(), 56);
        assert_eq!(size_of::<InvokeArg>(), 24 + 4 * 32);
        // What `_IOR(0xa4, 2, struct tee_ioctl_buf_data)` comes to.
        assert_eq!(OPEN_SESSION, 0x8010_a402);
        assert_eq!(INVOKE, 0x8010_a403);
    }

    #[test]
    fn a_device_that_is_no_tee_is_an_error() {
        assert!(Session::open(Path::new("/dev/null"), INVOKE_TESTS).is_err());
        assert!(Session::open(Path::new("/dev/no-such-tee"), INVOKE_TESTS).is_err());
    }
}
