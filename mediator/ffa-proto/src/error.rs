// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Status codes of `FFA_ERROR`, and why registers are refused.

use crate::function::FunctionId;
use core::fmt;
use thiserror::Error;

/// A status code, in w2 of `FFA_ERROR` (DEN0077A issue J).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct ErrorCode(i32);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        impl ErrorCode {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            /// Returns the specification's name, if this is a code of it.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

codes! {
    /// The function is not implemented.
    NOT_SUPPORTED = -1;
    /// A parameter is wrong.
    INVALID_PARAMETERS = -2;
    /// There is no memory left.
    NO_MEMORY = -3;
    /// A resource is in use.
    BUSY = -4;
    /// The call has been interrupted.
    INTERRUPTED = -5;
    /// The caller may not do this now.
    DENIED = -6;
    /// The call can be made again.
    RETRY = -7;
    /// The call has been given up.
    ABORTED = -8;
    /// There is nothing to hand out; from version 1.1 on.
    NO_DATA = -9;
    /// The callee is not ready; from version 1.2 on.
    NOT_READY = -10;
}

impl ErrorCode {
    /// Returns the code in a register.
    pub const fn from_w(w: u32) -> Self {
        Self(w as i32)
    }

    /// Returns the code as a register has it.
    pub const fn to_w(self) -> u32 {
        self.0 as u32
    }

    /// Returns the code's value.
    pub const fn get(self) -> i32 {
        self.0
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ErrorCode({self})")
    }
}

/// Registers that are no request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum RequestError {
    /// No version up to the caller's has such a function, or it is an answer or a call that this crate does not
    /// decode.
    #[error("{0} is not a request that is known here")]
    Unknown(FunctionId),
    /// Bits that must be zero are not.
    #[error("register {register} has reserved bits set")]
    Reserved {
        /// The register's number.
        register: u8,
    },
    /// A field has a value that the specification does not define.
    #[error("register {register} has a value that is not defined")]
    Value {
        /// The register's number.
        register: u8,
    },
}

impl RequestError {
    /// Returns the code that the caller gets.
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::Unknown(_) => ErrorCode::NOT_SUPPORTED,
            Self::Reserved { .. } | Self::Value { .. } => ErrorCode::INVALID_PARAMETERS,
        }
    }
}

/// An answer that is no success.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum AnswerError {
    /// The callee has refused the call.
    #[error("the callee says {0}")]
    Refused(ErrorCode),
    /// The callee has answered with something else than the call allows.
    #[error("{0} is not an answer to this call")]
    Unexpected(FunctionId),
    /// Bits that must be zero are not.
    #[error("register {register} of the answer has reserved bits set")]
    Reserved {
        /// The register's number.
        register: u8,
    },
    /// A field has a value that it cannot have.
    #[error("register {register} of the answer has a value that is not defined")]
    Value {
        /// The register's number.
        register: u8,
    },
}

/// A register whose reserved bits are not zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ReservedBits(pub(crate) u8);

impl From<ReservedBits> for RequestError {
    fn from(found: ReservedBits) -> Self {
        Self::Reserved { register: found.0 }
    }
}

impl From<ReservedBits> for AnswerError {
    fn from(found: ReservedBits) -> Self {
        Self::Reserved { register: found.0 }
    }
}
