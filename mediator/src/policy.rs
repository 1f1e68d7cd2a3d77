// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks of a VM's policy: applications, logins, devices.

use crate::config::Policy;
use crate::denied::DeniedError;
use crate::pseudo_tas::is_pseudo_ta;
use ffa_proto::EndpointId;
use optee_proto::rpc::Command;
use optee_proto::{TeeResult, Uuid};

impl Policy {
    /// Returns whether the VM may see a partition.
    pub(crate) fn sees(&self, partition: EndpointId) -> bool {
        let partitions = self.partitions.as_ref();
        partitions.is_none_or(|ids| ids.contains(&partition))
    }

    /// Returns whether a session to an application may be opened under a login method.
    pub(crate) fn check_session(&self, app: Uuid, login: u64) -> Result<(), DeniedError> {
        let allowed = (self.lists(app) || self.user_tas && !is_pseudo_ta(app))
            && self
                .logins
                .as_ref()
                .is_none_or(|logins| logins.iter().any(|&known| u64::from(known) == login));
        if allowed {
            Ok(())
        } else {
            Err(DeniedError(TeeResult::ACCESS_DENIED))
        }
    }

    /// Returns whether an application may be opened, whatever it is.
    fn lists(&self, app: Uuid) -> bool {
        let apps = self.trusted_apps.as_ref();
        apps.is_none_or(|apps| apps.contains(&app))
    }

    /// Returns whether an application may be opened only if it is a user TA. That is known afterwards: OP-TEE
    /// searches its pseudo TAs first, and requests the code of everything else.
    pub(crate) fn wants_user_ta(&self, app: Uuid) -> bool {
        self.user_tas && !self.lists(app)
    }

    /// Returns what OP-TEE is told instead of asking the guest, or `None` if the guest is asked.
    pub(crate) fn refuses(&self, command: Command) -> Option<TeeResult> {
        match command {
            Command::LOAD_TA
            | Command::FS
            | Command::GET_TIME
            | Command::NOTIFICATION
            | Command::SUSPEND
            | Command::SHM_ALLOC
            | Command::SHM_FREE
            | Command::GPROF
            | Command::SOCKET
            | Command::FTRACE
            | Command::SUPP_PLUGIN => None,
            Command::I2C_TRANSFER => (!self.i2c).then_some(TeeResult::NOT_SUPPORTED),
            Command::RPMB
            | Command::RPMB_PROBE_RESET
            | Command::RPMB_PROBE_NEXT
            | Command::RPMB_FRAMES => (!self.rpmb).then_some(TeeResult::ITEM_NOT_FOUND),
            _ => Some(TeeResult::NOT_IMPLEMENTED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use optee_proto::msg::login;

    const APP: Uuid = Uuid([1; 16]);
    const OTHER: Uuid = Uuid([2; 16]);

    #[test]
    fn sessions() {
        let open = Policy::default();
        assert_eq!(open.check_session(OTHER, login::REE_KERNEL.into()), Ok(()));
        let denied = Err(DeniedError(TeeResult::ACCESS_DENIED));
        let strict = Policy {
            trusted_apps: Some(vec![APP]),
            logins: Some(vec![login::PUBLIC, login::USER]),
            ..Policy::default()
        };
        assert_eq!(strict.check_session(APP, login::USER.into()), Ok(()));
        assert_eq!(strict.check_session(OTHER, login::USER.into()), denied);
        assert_eq!(strict.check_session(APP, login::REE_KERNEL.into()), denied);
        assert_eq!(
            strict.check_session(APP, 1 << 32 | u64::from(login::USER)),
            denied
        );
    }
}
