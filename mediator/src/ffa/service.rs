// SPDX-License-Identifier: Apache-2.0 OR MIT
//! OP-TEE's service as a guest sees it: direct requests to its partition (`optee_ffa.h`).
//!
//! What OP-TEE says of itself was read at boot, so most services that are answered at once do not reach it.

use super::FfaVm;
use super::call::{self, status};
use crate::Mediator;
use crate::host::Host;
use crate::memory::GuestCookie;
use ffa_proto::ErrorCode;
use ffa_proto::notification::NotificationBitmap;
use optee_proto::caps::SecureCaps;
use optee_proto::ffa::{self, API_VERSION, Capabilities, Service, Status, Words, unpair};
use optee_proto::rpc;

impl Mediator {
    /// Answers a direct request from the guest. `w1` names source and destination, `w2` has the flags, `words` are w3 to w7.
    ///
    /// # Errors
    /// The code for the guest if the request does not go to OP-TEE from this VM, or is a framework message.
    pub(super) fn direct<H: Host>(
        &self,
        host: &H,
        ffa: &FfaVm,
        [w1, w2]: [u32; 2],
        words: Words,
    ) -> Result<Words, ErrorCode> {
        let addresses = u32::from(ffa.id().get()) << 16 | u32::from(ffa.tee.get());
        if w1 != addresses || w2 != 0 || !ffa.sees_tee() {
            return Err(ErrorCode::INVALID_PARAMETERS);
        }
        let [w3, w4, w5, w6, w7] = words;
        let service = Service::new(w3);
        Ok(match service {
            Service::CALL_WITH_ARG => {
                let handle = GuestCookie(unpair(w4, w5));
                call::words(self.begin_by_handle(host, handle, w6))
            }
            // Nothing asks for memory by registers here.
            Service::RESUME => call::words(self.resume(host, w7, [0; 2])),
            _ => self.blocking(host, ffa, service, [w4, w5]),
        })
    }

    /// Answers a service that does not yield.
    #[inline(never)]
    fn blocking<H: Host>(
        &self,
        host: &H,
        ffa: &FfaVm,
        service: Service,
        [w4, w5]: [u32; 2],
    ) -> Words {
        self.counters.fast.bump();
        match service {
            Service::GET_API_VERSION => [API_VERSION.0, API_VERSION.1, 0, 0, 0],
            Service::GET_OS_VERSION => [self.tee.major, self.tee.minor, self.tee.build, 0, 0],
            Service::EXCHANGE_CAPABILITIES => self.capabilities().to_words(),
            Service::UNREGISTER_SHM => status(self.unregister_object(host, ffa, unpair(w4, w5))),
            Service::ENABLE_ASYNC_NOTIF if self.offers_notifications() => {
                status(self.enable_async_notif(host, ffa, w4))
            }
            service => {
                self.counters.denied.bump();
                status(if service.is_yielding() {
                    Status::DENIED
                } else {
                    Status::TEE_BAD_PARAMETERS
                })
            }
        }
    }

    /// Returns what OP-TEE can do for the guest.
    fn capabilities(&self) -> Capabilities {
        let mut caps = ffa::SecureCaps::ARG_OFFSET;
        let notifies = self.offers_notifications();
        caps.set(ffa::SecureCaps::ASYNC_NOTIF, notifies);
        let probes = self.config.policy.rpmb && self.tee.caps.contains(SecureCaps::RPMB_PROBE);
        caps.set(ffa::SecureCaps::RPMB_PROBE, probes);
        Capabilities {
            rpc_params: rpc::MAX_PARAMS as u8,
            caps,
            max_notification: if notifies { self.tee.max_notif } else { 0 },
        }
    }

    /// Enables the notification that asks for a bottom half. The guest must have bound it: OP-TEE 4.10 does not look.
    fn enable_async_notif<H: Host>(&self, host: &H, ffa: &FfaVm, number: u32) -> Status {
        let bound = NotificationBitmap::of(number).filter(|&bit| ffa.has_bound(bit));
        if bound.is_none() {
            self.counters.denied.bump();
            return Status::TEE_BAD_PARAMETERS;
        }
        self.enabling_notifications(
            || {
                let words = [Service::ENABLE_ASYNC_NOTIF.get(), number, 0, 0, 0];
                match self.request(host, ffa, words) {
                    Ok([w3, ..]) => Status::from_w(w3),
                    Err(_) => Status::BUSY,
                }
            },
            |status| *status == Status::OK,
        )
    }
}
