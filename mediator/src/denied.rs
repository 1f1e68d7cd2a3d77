// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The error that a guest is told in its message.

use crate::memory::InsertError;
use optee_proto::TeeResult;

/// What a guest is denied, as the result that it is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DeniedError(pub(crate) TeeResult);

impl<T> From<(InsertError, T)> for DeniedError {
    fn from((why, _): (InsertError, T)) -> Self {
        Self(match why {
            InsertError::Quota | InsertError::NoMemory => TeeResult::OUT_OF_MEMORY,
        })
    }
}
