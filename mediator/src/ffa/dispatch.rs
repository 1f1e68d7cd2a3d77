// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which function of the framework a guest calls.

use super::FfaVm;
use super::features::can_call;
use crate::Mediator;
use crate::host::Host;
use crate::sync::Ordering;
use ffa_proto::answer::refusal;
use ffa_proto::call::{MemReclaim, MemSend, MemSendAnswer, usual};
use ffa_proto::{ErrorCode, Function, FunctionId, Registers, Request, Version, Width};
use optee_proto::smc;

/// What becomes of a guest's call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The guest goes on. Its registers have the answer.
    Done,
    /// The guest makes the same call again, when it has taken its interrupts: its PC goes back to the instruction. Its registers
    /// are as they were.
    Repeat,
}

/// The registers of a guest that makes a call, and that get the answer.
#[derive(Debug)]
pub struct GuestRegisters<'a> {
    /// x0 to x7.
    pub x: &'a mut [u64; 8],
    /// x8 to x17. Few calls and answers have them; all others leave them as they are.
    pub more: &'a mut [u64; 10],
}

impl GuestRegisters<'_> {
    /// Returns the registers of a call. The hint that the vCPU has no SVE state is not part of the function.
    fn read(&self, id: FunctionId) -> Registers {
        let mut all = [0; Registers::LONG];
        let (x, more) = all.split_at_mut(self.x.len());
        x.copy_from_slice(self.x);
        more.copy_from_slice(self.more);
        all[0] = id.get().into();
        Registers::from_18(all)
    }

    /// Gives the guest an answer.
    fn write(&mut self, answer: &Registers) {
        *self.x = answer.to_8();
        let id = answer.id();
        // Only the functions that have them answer in more than eight.
        if matches!(id.width(), Width::Smc64) && id.is_ffa() {
            let all = answer.to_18();
            self.more.copy_from_slice(&all[self.x.len()..]);
        }
    }
}

impl Mediator {
    /// Returns whether a function is the framework's, with or without hints. Where the TEE is reached over FF-A, the hypervisor
    /// passes it to [`Mediator::ffa`].
    #[inline]
    pub const fn owns_ffa(function: smc::FunctionId) -> bool {
        let word = function.get();
        // All calls that are not to the TEE come here. So the first test is one that PSCI's numbers fail, and the second one
        // that other owners fail.
        word & 0xc0 != 0
            && word >> 24 & 0x3f == FUNCTION_BASE >> 24 & 0x3f
            && word & !FUNCTION_BITS == FUNCTION_BASE
            && word & 0xff >= 0x60
    }

    /// Answers one SMC or HVC from the guest.
    ///
    /// The hypervisor passes on every call whose function [`Mediator::owns_ffa`]. Without FF-A ([`Mediator::new_ffa`]) the answer
    /// is NOT_SUPPORTED.
    ///
    /// Several vCPUs may be in here at once. A yielding call returns after at most one SMC to the SPMC, plus those that resume OP-TEE
    /// at once after a foreign interrupt ([`crate::ForeignInterrupt::Resume`]) or after an RPC that the guest must not see.
    #[inline]
    pub fn ffa<H: Host>(&self, host: &H, mut registers: GuestRegisters<'_>) -> Answer {
        // As in `smc`.
        self.inside.fetch_add(1, Ordering::SeqCst);
        let answer = self.dispatch_ffa(host, &mut registers);
        self.inside.fetch_sub(1, Ordering::SeqCst);
        answer
    }

    #[inline]
    fn dispatch_ffa<H: Host>(&self, host: &H, registers: &mut GuestRegisters<'_>) -> Answer {
        let id = id(smc::FunctionId::from_x0(registers.x[0]));
        // The reverse order of `destroy_step`, as for fast calls. A VM that OP-TEE does not know has nothing to say.
        let ffa = self.ffa.as_ref();
        let Some(ffa) = ffa.filter(|_| self.live.load(Ordering::SeqCst)) else {
            registers.write(&refusal(id, ErrorCode::NOT_SUPPORTED));
            return Answer::Done;
        };
        let answer = if is_direct(id) {
            self.answer_direct(host, ffa, id, registers.x)
        } else if let Some(send) = usual::share(id, registers.x) {
            self.answer_share(host, ffa, &send, registers)
        } else if let Some(reclaim) = usual::reclaim(id, registers.x) {
            self.answer_reclaim(host, ffa, &reclaim, registers.x)
        } else {
            self.answer_other(host, ffa, id, registers)
        };
        answer.unwrap_or_else(|code| self.refuse_ffa(id, code, registers))
    }

    /// Tells the guest that its call is refused.
    #[cold]
    #[inline(never)]
    fn refuse_ffa(
        &self,
        id: FunctionId,
        code: ErrorCode,
        registers: &mut GuestRegisters<'_>,
    ) -> Answer {
        // A question, and what is right at another time, are not denied.
        let asks = id.function() == Some(Function::Features);
        if !asks && !matches!(code, ErrorCode::NO_DATA | ErrorCode::BUSY) {
            self.counters.denied.bump();
        }
        registers.write(&refusal(id, code));
        Answer::Done
    }

    /// Answers a direct request, which is most of what guests call.
    #[inline]
    fn answer_direct<H: Host>(
        &self,
        host: &H,
        ffa: &FfaVm,
        id: FunctionId,
        x: &mut [u64; 8],
    ) -> Result<Answer, ErrorCode> {
        ffa.endpoint.fixed_version()?;
        let [_, w1, w2, w3, w4, w5, w6, w7] = x.map(|x| x as u32);
        // The service has words only: a guest that says more would not be understood.
        if id.width() == Width::Smc64 && x[1..].iter().any(|&x| x > u32::MAX.into()) {
            return Err(ErrorCode::INVALID_PARAMETERS);
        }
        let words = self.direct(host, ffa, [w1, w2], [w3, w4, w5, w6, w7])?;
        let [w3, w4, w5, w6, w7] = words.map(u64::from);
        let response = FunctionId::new(Function::MsgSendDirectResp, id.width());
        let addresses = w1.rotate_left(16);
        *x = [
            response.get().into(),
            addresses.into(),
            0,
            w3,
            w4,
            w5,
            w6,
            w7,
        ];
        Ok(Answer::Done)
    }

    /// Answers a share in its usual form.
    #[inline(never)]
    fn answer_share<H: Host>(
        &self,
        host: &H,
        ffa: &FfaVm,
        send: &MemSend,
        registers: &mut GuestRegisters<'_>,
    ) -> Result<Answer, ErrorCode> {
        let version = ffa.endpoint.fixed_version()?;
        match self.share(host, ffa, send, version)? {
            Some(MemSendAnswer::Done(handle)) => *registers.x = usual::share_answer(handle),
            Some(answer) => registers.write(&answer.encode()),
            None => return Ok(Answer::Repeat),
        }
        Ok(Answer::Done)
    }

    /// Answers a reclaim in its usual form.
    #[inline(never)]
    fn answer_reclaim<H: Host>(
        &self,
        host: &H,
        ffa: &FfaVm,
        reclaim: &MemReclaim,
        x: &mut [u64; 8],
    ) -> Result<Answer, ErrorCode> {
        ffa.endpoint.fixed_version()?;
        self.reclaim_object(host, ffa, reclaim)?;
        *x = usual::success();
        Ok(Answer::Done)
    }

    #[inline(never)]
    fn answer_other<H: Host>(
        &self,
        host: &H,
        ffa: &FfaVm,
        id: FunctionId,
        registers: &mut GuestRegisters<'_>,
    ) -> Result<Answer, ErrorCode> {
        let call = registers.read(id);
        let offers = self.offers_notifications();
        let function = id.function().filter(|_| id.is_defined(Version::V1_2));
        // Whatever is in the other registers.
        if !function.is_some_and(|function| can_call(function, offers)) {
            return Err(ErrorCode::NOT_SUPPORTED);
        }
        if id.function() == Some(Function::Version) {
            registers.write(&ffa.endpoint.version(&call)?);
            return Ok(Answer::Done);
        }
        let version = ffa.endpoint.fixed_version()?;
        let request = Request::decode(&call, version).map_err(|error| error.code())?;
        let answer = match &request {
            Request::MemSend(send) => return self.answer_share(host, ffa, send, registers),
            Request::MemReclaim(reclaim) => {
                return self.answer_reclaim(host, ffa, reclaim, registers.x);
            }
            Request::MemFragTx(fragment) => match self.share_more(host, ffa, fragment)? {
                Some(answer) => answer.encode(),
                None => return Ok(Answer::Repeat),
            },
            Request::NotificationBind(_)
            | Request::NotificationUnbind(_)
            | Request::NotificationGet(_)
            | Request::NotificationInfoGet(_) => self.notification(host, ffa, &request)?,
            _ => ffa.endpoint.serve(host, &request, version, offers)?,
        };
        registers.write(&answer);
        Ok(Answer::Done)
    }
}

/// What functions of the framework have in common.
const FUNCTION_BASE: u32 = 0x8400_0000;
/// What they differ in: number, convention, and the hint that the vCPU has no SVE state.
const FUNCTION_BITS: u32 = 0x4001_00ff;

/// Returns a function as the framework sees it: without the hint that the vCPU has no SVE state.
const fn id(function: smc::FunctionId) -> FunctionId {
    FunctionId::from_x0(function.without_hint().get() as u64)
}

/// Returns whether a function is a direct request, of either convention.
const fn is_direct(id: FunctionId) -> bool {
    let smc32 = FunctionId::new(Function::MsgSendDirectReq, Width::Smc32);
    let smc64 = FunctionId::new(Function::MsgSendDirectReq, Width::Smc64);
    id.get() & !(smc32.get() ^ smc64.get()) == smc32.get()
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn owns_what_the_framework_reserves() {
        for (id, ours) in [
            (0x8400_0060, true),
            (0xc400_0060, true),
            (0x8400_00ff, true),
            (0x8400_005f, false), // TRNG
            (0x8400_0100, false),
            (0x8401_0063, true),  // with the hint that there is no SVE state
            (0x0400_0063, false), // a yielding call
            (0x8500_0063, false),
            (0x8200_0063, false),
        ] {
            let function = smc::FunctionId::new(id);
            assert_eq!(Mediator::owns_ffa(function), ours, "{id:#x}");
        }
    }

    #[test]
    fn owns_what_the_codec_knows() {
        for low in 0..=u16::MAX {
            for high in [
                0x8400, 0x8401, 0xc400, 0xc401, 0x0400, 0x8402, 0x8500, 0xa400,
            ] {
                let function = smc::FunctionId::new(high << 16 | u32::from(low));
                assert_eq!(
                    Mediator::owns_ffa(function),
                    id(function).is_ffa(),
                    "{function:?}"
                );
            }
        }
    }

    #[test]
    fn direct_requests_are_those_of_both_conventions() {
        for id in 0..=u16::MAX {
            for base in [0x8400_0000, 0xc400_0000, 0x0400_0000, 0x8500_0000] {
                let id = FunctionId::from_x0(base | u64::from(id));
                let expected = id.function() == Some(Function::MsgSendDirectReq);
                assert_eq!(is_direct(id), expected, "{id:?}");
            }
        }
    }
}
