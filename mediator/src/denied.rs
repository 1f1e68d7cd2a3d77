// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a guest is refused.

use crate::memory::Insert;
use optee_proto::TeeResult;

/// What a guest may not have, and why, as it is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Denied(pub(crate) TeeResult);

impl<T> From<(Insert, T)> for Denied {
    fn from((why, _): (Insert, T)) -> Self {
        Self(match why {
            Insert::Quota | Insert::NoMemory => TeeResult::OUT_OF_MEMORY,
        })
    }
}
