// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which function of the framework a guest calls.

use super::FfaVm;
use super::features::can_call;
use super::share::Shared;
use crate::Mediator;
use crate::host::Host;
use crate::sync::Ordering;
use ffa_proto::answer::{refusal, success};
use ffa_proto::{ErrorCode, Function, FunctionId, Registers, Request, Version, Width};

/// What becomes of a guest's call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The guest gets these x0..x7. Its other registers stay as they are.
    Short([u64; 8]),
    /// The guest gets these x0..x17.
    Long([u64; 18]),
    /// The guest makes the same call again, when it has taken its interrupts: its PC goes back to the instruction.
    Repeat,
}

impl Answer {
    /// Returns the answer in these registers.
    fn from_registers(registers: &Registers) -> Self {
        let id = registers.id();
        // Only the functions that have them answer in more than eight.
        let is_long = matches!(id.width(), Width::Smc64) && id.is_ffa();
        if is_long {
            Self::Long(registers.to_18())
        } else {
            Self::Short(registers.to_8())
        }
    }
}

impl Mediator {
    /// Returns whether a function is the framework's. Where the TEE is reached over FF-A, the hypervisor passes it to
    /// [`Mediator::ffa`].
    #[inline]
    pub const fn owns_ffa(function: FunctionId) -> bool {
        function.is_ffa()
    }

    /// Answers one SMC or HVC from the guest, whose x0..x17 are `regs`.
    ///
    /// The hypervisor passes on every call whose function [`Mediator::owns_ffa`]. Without FF-A ([`Mediator::new_ffa`]) the answer
    /// is NOT_SUPPORTED.
    ///
    /// Several vCPUs may be in here at once. A yielding call returns after at most one SMC to the SPMC, plus those that resume OP-TEE
    /// at once after a foreign interrupt ([`crate::ForeignInterrupt::Resume`]) or after an RPC that the guest must not see.
    pub fn ffa<H: Host>(&self, host: &H, regs: &[u64; 18]) -> Answer {
        // As in `smc`.
        self.inside.fetch_add(1, Ordering::SeqCst);
        let answer = self.dispatch_ffa(host, regs);
        self.inside.fetch_sub(1, Ordering::SeqCst);
        answer
    }

    fn dispatch_ffa<H: Host>(&self, host: &H, regs: &[u64; 18]) -> Answer {
        let id = FunctionId::from_x0(regs[0]);
        // The reverse order of `destroy_step`, as for fast calls. A VM that OP-TEE does not know has nothing to say.
        let ffa = self.ffa.as_ref();
        let Some(ffa) = ffa.filter(|_| self.live.load(Ordering::SeqCst)) else {
            return Answer::from_registers(&refusal(id, ErrorCode::NOT_SUPPORTED));
        };
        let answer = match id.function() {
            Some(Function::MsgSendDirectReq) => self.answer_direct(host, ffa, id, regs),
            _ => self.answer_other(host, ffa, regs),
        };
        answer.unwrap_or_else(|code| {
            // A question, and what is right at another time, are not denied.
            let asks = id.function() == Some(Function::Features);
            if !asks && !matches!(code, ErrorCode::NO_DATA | ErrorCode::BUSY) {
                self.counters.denied.bump();
            }
            Answer::from_registers(&refusal(id, code))
        })
    }

    /// Answers a direct request, which is most of what guests call.
    #[inline]
    fn answer_direct<H: Host>(
        &self,
        host: &H,
        ffa: &FfaVm,
        id: FunctionId,
        regs: &[u64; 18],
    ) -> Result<Answer, ErrorCode> {
        ffa.endpoint.fixed_version()?;
        let [_, w1, w2, w3, w4, w5, w6, w7] = core::array::from_fn(|n| regs[n] as u32);
        // The service has words only: a guest that says more would not be understood.
        if id.width() == Width::Smc64 && regs[1..8].iter().any(|&x| x > u32::MAX.into()) {
            return Err(ErrorCode::INVALID_PARAMETERS);
        }
        let words = self.direct(host, ffa, [w1, w2], [w3, w4, w5, w6, w7])?;
        let [w3, w4, w5, w6, w7] = words.map(u64::from);
        let response = FunctionId::new(Function::MsgSendDirectResp, id.width());
        let addresses = w1.rotate_left(16).into();
        Ok(Answer::Short([
            response.get().into(),
            addresses,
            0,
            w3,
            w4,
            w5,
            w6,
            w7,
        ]))
    }

    #[inline(never)]
    fn answer_other<H: Host>(
        &self,
        host: &H,
        ffa: &FfaVm,
        regs: &[u64; 18],
    ) -> Result<Answer, ErrorCode> {
        let call = Registers::from_18(*regs);
        let id = call.id();
        let offers = self.offers_notifications();
        let function = id.function().filter(|_| id.is_defined(Version::V1_2));
        // Whatever is in the other registers.
        if !function.is_some_and(|function| can_call(function, offers)) {
            return Err(ErrorCode::NOT_SUPPORTED);
        }
        if id.function() == Some(Function::Version) {
            return Ok(Answer::from_registers(&ffa.endpoint.version(&call)?));
        }
        let version = ffa.endpoint.fixed_version()?;
        let request = Request::decode(&call, version).map_err(|error| error.code())?;
        let shared = |shared| match shared {
            Shared::Answer(answer) => Answer::from_registers(&answer.encode()),
            Shared::Repeat => Answer::Repeat,
        };
        Ok(match &request {
            Request::MemSend(send) => shared(self.share(host, ffa, send, version)?),
            Request::MemFragTx(fragment) => shared(self.share_more(host, ffa, fragment)?),
            Request::MemReclaim(reclaim) => {
                self.reclaim_object(host, ffa, reclaim)?;
                Answer::from_registers(&success())
            }
            Request::NotificationBind(_)
            | Request::NotificationUnbind(_)
            | Request::NotificationGet(_)
            | Request::NotificationInfoGet(_) => {
                Answer::from_registers(&self.notification(host, ffa, &request)?)
            }
            _ => Answer::from_registers(&ffa.endpoint.serve(host, &request, version, offers)?),
        })
    }
}
