// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Asynchronous notifications (DEN0077A issue J, chapter 10): a guest binds one to OP-TEE, and fetches it when the notification
//! pending interrupt says so.
//!
//! The hypervisor raises that interrupt in every VM that wants notifications when the SPMC raises its own: it need not ask the
//! SPMC for whom, which OP-TEE 4.10 cannot answer while a VM ends.

use super::FfaVm;
use crate::Mediator;
use crate::host::Host;
use ffa_proto::call::{NotificationBind, NotificationGet, NotificationGetAnswer};
use ffa_proto::notification::{NotificationBitmap, NotificationGetFlags};
use ffa_proto::{AnswerError, ErrorCode, Registers, Request, VcpuId, answer};

/// The SGI that is the notification pending interrupt of guests. Linux takes SGIs from 8 on for this.
pub const NOTIFICATION_PENDING_SGI: u32 = 8;

impl Mediator {
    /// Answers a call about notifications.
    #[inline(never)]
    pub(super) fn notification<H: Host>(
        &self,
        host: &H,
        ffa: &FfaVm,
        request: &Request,
    ) -> Result<Registers, ErrorCode> {
        if !self.offers_notifications() {
            return Err(ErrorCode::NOT_SUPPORTED);
        }
        match request {
            Request::NotificationBind(bind) => {
                if !is_own(ffa, bind) || bind.per_vcpu {
                    return Err(ErrorCode::INVALID_PARAMETERS);
                }
                ffa.bind(bind.bitmap)?;
                // No lock is held while the SPMC is asked.
                let asked = self.ask_spmc(host, ffa, request);
                asked.inspect_err(|_| ffa.unbind(bind.bitmap))?;
                Ok(answer::success())
            }
            Request::NotificationUnbind(bind) => {
                if !is_own(ffa, bind) || !ffa.has_bound(bind.bitmap) {
                    return Err(ErrorCode::INVALID_PARAMETERS);
                }
                self.ask_spmc(host, ffa, request)?;
                ffa.unbind(bind.bitmap);
                Ok(answer::success())
            }
            Request::NotificationGet(get) if get.receiver == ffa.id() => {
                let is_bound = !ffa.bound.lock().is_empty();
                let wanted = get.flags.contains(NotificationGetFlags::SECURE_PARTITIONS);
                if !is_bound || !wanted {
                    return Ok(NotificationGetAnswer::default().encode());
                }
                self.fetch(host, ffa)
            }
            // VMs send each other none, and the hypervisor does not ask for whom there are some.
            Request::NotificationInfoGet(_) => Err(ErrorCode::NO_DATA),
            _ => Err(ErrorCode::INVALID_PARAMETERS),
        }
    }

    /// Passes a call on that is answered by success.
    fn ask_spmc<H: Host>(&self, host: &H, ffa: &FfaVm, request: &Request) -> Result<(), ErrorCode> {
        let answer = Registers::from_8(self.secure(host, request.encode().to_8()));
        answer::read_success(&answer, ffa.spmc.version).map_err(code)
    }

    /// Fetches what secure partitions have notified the VM of. Those that are global have no vCPU.
    fn fetch<H: Host>(&self, host: &H, ffa: &FfaVm) -> Result<Registers, ErrorCode> {
        let get = NotificationGet {
            receiver: ffa.id(),
            vcpu: VcpuId::new(0),
            flags: NotificationGetFlags::SECURE_PARTITIONS,
        };
        let request = Request::NotificationGet(get);
        let answer = Registers::from_8(self.secure(host, request.encode().to_8()));
        let found = NotificationGetAnswer::read(&answer, ffa.spmc.version, get.flags);
        let found = found.map_err(code)?;
        Ok(NotificationGetAnswer {
            secure_partitions: found.secure_partitions,
            ..NotificationGetAnswer::default()
        }
        .encode())
    }

    /// Ends the VM's notifications at the SPMC. What the SPMC refuses ends with the VM.
    pub(super) fn end_notifications<H: Host>(&self, host: &H, ffa: &FfaVm) {
        let bound = core::mem::take(&mut *ffa.bound.lock());
        if !bound.is_empty() {
            // One that is pending may not be unbound, and another may come in between.
            let _ = self.fetch(host, ffa);
            let _ = self.ask_spmc(
                host,
                ffa,
                &Request::NotificationUnbind(NotificationBind {
                    sender: ffa.tee,
                    receiver: ffa.id(),
                    per_vcpu: false,
                    bitmap: bound,
                }),
            );
            let _ = self.fetch(host, ffa);
        }
        let _ = self.ask_spmc(host, ffa, &Request::NotificationBitmapDestroy(ffa.id()));
    }
}

/// Returns whether a guest binds notifications of OP-TEE's to itself.
fn is_own(ffa: &FfaVm, bind: &NotificationBind) -> bool {
    (bind.sender, bind.receiver) == (ffa.tee, ffa.id())
        && ffa.sees_tee()
        && bind.bitmap != NotificationBitmap::EMPTY
}

/// Returns what a guest hears of an SPMC's refusal.
const fn code(error: AnswerError) -> ErrorCode {
    match error {
        AnswerError::Refused(code) => code,
        _ => ErrorCode::ABORTED,
    }
}
