// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Progress of a VM's creation, by either transport.

use crate::ffa::FfaCreation;
use crate::host::Host;
use crate::smc::TableCreation;
use ffa_proto::Handle;

/// Progress of a creation that takes more than one step.
#[derive(Debug)]
pub(crate) enum Creation {
    /// OP-TEE creates the VM's tables, over the SMC ABI.
    Tables(TableCreation),
    /// The SPMC gets objects, and OP-TEE creates the VM's tables, over FF-A.
    Ffa(FfaCreation),
}

impl Creation {
    /// Returns whether OP-TEE is in a call.
    pub(crate) fn is_under_way(&self) -> bool {
        match self {
            Self::Tables(making) => making.is_under_way(),
            Self::Ffa(making) => making.is_under_way(),
        }
    }

    /// Frees the pages, after OP-TEE has released them.
    pub(crate) fn give_back<H: Host>(self, host: &H) {
        match self {
            Self::Tables(making) => making.give_back(host),
            // It has none.
            Self::Ffa(_) => {}
        }
    }

    /// Returns the object that the SPMC has because of the creation.
    pub(crate) const fn object(&self) -> Option<Handle> {
        match self {
            Self::Tables(_) => None,
            Self::Ffa(making) => making.object(),
        }
    }
}
