// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a guest is refused.

use crate::memory::InsertError;
use optee_proto::TeeResult;

/// What a guest may not have, and why, as it is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DeniedError(pub(crate) TeeResult);

impl<T> From<(InsertError, T)> for DeniedError {
    fn from((why, _): (InsertError, T)) -> Self {
        Self(match why {
            InsertError::Quota | InsertError::NoMemory => TeeResult::OUT_OF_MEMORY,
        })
    }
}
