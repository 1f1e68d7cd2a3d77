// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Direct messages, framework messages, and `FFA_RUN`: DEN0077A issue J, chapter 15 and `FFA_RUN`.

use crate::answer::failure;
use crate::endpoint::{EndpointId, VcpuId, join, split};
use crate::error::{AnswerError, ErrorCode, ReservedBits};
use crate::function::{Function, Width};
use crate::registers::Registers;
use crate::version::Version;

/// The kind of a framework message: bits 7:0 of w2. Each is a request or an answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct FrameworkMessage(u8);

impl FrameworkMessage {
    /// Asks for a PSCI function, from the SPMD.
    pub const POWER_PSCI: Self = Self(0);
    /// Announces a warm boot, from the SPMD.
    pub const POWER_WARM_BOOT: Self = Self(1);
    /// Answers these two.
    pub const POWER_ANSWER: Self = Self(2);
    /// Says that a VM has been created, from the hypervisor.
    pub const VM_CREATED: Self = Self(4);
    /// Answers that.
    pub const VM_CREATED_ANSWER: Self = Self(5);
    /// Says that a VM has been destroyed, from the hypervisor.
    pub const VM_DESTROYED: Self = Self(6);
    /// Answers that.
    pub const VM_DESTROYED_ANSWER: Self = Self(7);
    /// Asks for a version, from the SPMD.
    pub const VERSION: Self = Self(8);
    /// Answers that.
    pub const VERSION_ANSWER: Self = Self(9);

    /// Returns the kind with this number.
    pub const fn new(number: u8) -> Self {
        Self(number)
    }

    /// Returns the number.
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// What a message carries, by its convention.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Payload {
    /// w3 to w7.
    Smc32([u32; 5]),
    /// x3 to x7.
    Smc64([u64; 5]),
}

impl Payload {
    /// Returns the convention.
    pub const fn width(&self) -> Width {
        match self {
            Self::Smc32(_) => Width::Smc32,
            Self::Smc64(_) => Width::Smc64,
        }
    }

    fn read(registers: &Registers) -> Self {
        match registers.id().width() {
            Width::Smc32 => Self::Smc32(core::array::from_fn(|n| registers.w(3 + n))),
            Width::Smc64 => Self::Smc64(core::array::from_fn(|n| registers.x(3 + n))),
        }
    }

    fn write(&self, mut registers: Registers) -> Registers {
        match self {
            Self::Smc32(words) => {
                for (n, &word) in words.iter().enumerate() {
                    registers = registers.with(3 + n, word);
                }
            }
            Self::Smc64(values) => {
                for (n, &value) in values.iter().enumerate() {
                    registers = registers.with(3 + n, value);
                }
            }
        }
        registers
    }
}

/// A message in registers, from one endpoint to another: `FFA_MSG_SEND_DIRECT_REQ` and `FFA_MSG_SEND_DIRECT_RESP`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DirectMessage {
    /// The sender. That it is the caller has not been checked.
    pub source: EndpointId,
    /// The receiver.
    pub destination: EndpointId,
    /// The kind, if this is a message of the framework and not of partitions. OP-TEE 4.10 obeys those from any
    /// sender, so a hypervisor must not let its guests send them.
    pub framework: Option<FrameworkMessage>,
    /// What it carries.
    pub payload: Payload,
}

/// Bit 31 of w2: a framework message.
const FRAMEWORK: u32 = 1 << 31;

impl DirectMessage {
    /// Reads a message. `message` has only its significant registers.
    pub(super) fn decode(message: &Registers) -> Result<Self, ReservedBits> {
        let (source, destination) = split(message.w(1));
        let w2 = message.w(2);
        let framework = if w2 & FRAMEWORK == 0 {
            message.require_zero(2..=2)?;
            None
        } else {
            message.require_zero_bits(2, !(FRAMEWORK | 0xff))?;
            Some(FrameworkMessage(w2 as u8))
        };
        Ok(Self {
            source: EndpointId::new(source),
            destination: EndpointId::new(destination),
            framework,
            payload: Payload::read(message),
        })
    }

    fn encode(&self, function: Function) -> Registers {
        let kind = self
            .framework
            .map_or(0, |kind| FRAMEWORK | u32::from(kind.0));
        let head = Registers::new(function, self.payload.width())
            .with(1, join(self.source.get(), self.destination.get()))
            .with(2, kind);
        self.payload.write(head)
    }

    /// Returns the message as a request.
    pub fn encode_request(&self) -> Registers {
        self.encode(Function::MsgSendDirectReq)
    }

    /// Returns the message as an answer.
    pub fn encode_response(&self) -> Registers {
        self.encode(Function::MsgSendDirectResp)
    }

    /// Returns the request by which a hypervisor says that a VM has been created.
    pub const fn vm_created(destination: EndpointId, vm: EndpointId) -> Self {
        Self::about_vm(destination, vm, FrameworkMessage::VM_CREATED)
    }

    /// Returns the request by which a hypervisor says that a VM has been destroyed.
    pub const fn vm_destroyed(destination: EndpointId, vm: EndpointId) -> Self {
        Self::about_vm(destination, vm, FrameworkMessage::VM_DESTROYED)
    }

    const fn about_vm(destination: EndpointId, vm: EndpointId, kind: FrameworkMessage) -> Self {
        Self {
            source: EndpointId::HYPERVISOR,
            destination,
            framework: Some(kind),
            // w3 and w4 name memory that says more about the VM. There is none.
            payload: Payload::Smc32([u32::MAX, u32::MAX, vm.get() as u32, 0, 0]),
        }
    }

    /// Returns an answer to this message, of its convention.
    pub const fn answer(&self, framework: Option<FrameworkMessage>, payload: Payload) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            framework,
            payload,
        }
    }

    /// Reads what comes back for this request: a message between the same two endpoints, or that the receiver has
    /// stopped. A request by SMC32 is answered by SMC32, one by SMC64 by either; a request of partitions by partitions.
    ///
    /// # Errors
    ///
    /// [`AnswerError::Refused`] for `FFA_ERROR`, and others for what is no answer to this message.
    pub fn read_answer(
        &self,
        answer: &Registers,
        version: Version,
    ) -> Result<DirectAnswer, AnswerError> {
        let answer = answer.significant(version);
        let id = answer.id();
        match id.function() {
            Some(Function::MsgSendDirectResp)
                if id.width() == Width::Smc32 || self.payload.width() == Width::Smc64 => {}
            Some(Function::MsgSendDirectResp) => return Err(AnswerError::Unexpected(id)),
            // w2 has an INTID towards the secure world only.
            Some(Function::Interrupt) => {
                return Ok(DirectAnswer::Interrupted(Target::decode(&answer)?));
            }
            // w2 and w3 are a time, for whoever schedules the receiver.
            Some(Function::Yield) => return Ok(DirectAnswer::Yielded(Target::read(&answer))),
            _ => return Err(failure(&answer)),
        }
        let message = Self::decode(&answer)?;
        if (message.source, message.destination) != (self.destination, self.source) {
            return Err(AnswerError::Value { register: 1 });
        }
        // The answer's kind is the request's next number, but for power management.
        let is_expected = match (self.framework, message.framework) {
            (None, None) => true,
            (Some(asked), Some(answered)) => match asked {
                FrameworkMessage::POWER_PSCI => answered == FrameworkMessage::POWER_ANSWER,
                _ => Some(answered.0) == asked.0.checked_add(1),
            },
            _ => false,
        };
        if !is_expected {
            return Err(AnswerError::Value { register: 2 });
        }
        Ok(DirectAnswer::Message(message.payload))
    }

    /// Reads the answer to [`DirectMessage::vm_created`] or [`DirectMessage::vm_destroyed`].
    ///
    /// # Errors
    ///
    /// [`AnswerError::Refused`] with the receiver's status or with that of `FFA_ERROR`, and others for what is no
    /// answer.
    pub fn read_vm_answer(&self, answer: &Registers, version: Version) -> Result<(), AnswerError> {
        let status = match self.read_answer(answer, version)? {
            DirectAnswer::Message(Payload::Smc32([status, 0, 0, 0, 0])) => status,
            DirectAnswer::Message(_) => return Err(AnswerError::Reserved { register: 4 }),
            DirectAnswer::Interrupted(_) | DirectAnswer::Yielded(_) => {
                return Err(AnswerError::Unexpected(answer.id()));
            }
        };
        match status {
            0 => Ok(()),
            _ if status >> 31 == 1 => Err(AnswerError::Refused(ErrorCode::from_w(status))),
            _ => Err(AnswerError::Value { register: 3 }),
        }
    }
}

/// What a direct request comes back with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DirectAnswer {
    /// The receiver's answer.
    Message(Payload),
    /// An interrupt has stopped this context. `FFA_RUN` goes on with it.
    Interrupted(Target),
    /// This context has nothing to do for now. `FFA_RUN` goes on with it.
    Yielded(Target),
}

/// An execution context: the target of `FFA_RUN`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The context's number.
    pub vcpu: VcpuId,
}

impl Target {
    pub(super) fn decode(call: &Registers) -> Result<Self, ReservedBits> {
        call.require_zero(2..=17)?;
        Ok(Self::read(call))
    }

    fn read(call: &Registers) -> Self {
        let (endpoint, vcpu) = split(call.w(1));
        Self {
            endpoint: EndpointId::new(endpoint),
            vcpu: VcpuId::new(vcpu),
        }
    }

    pub(super) fn encode(&self, function: Function) -> Registers {
        let w1 = join(self.endpoint.get(), self.vcpu.get());
        Registers::new(function, Width::Smc32).with(1, w1)
    }

    /// Returns `FFA_INTERRUPT` for a context that an interrupt has stopped.
    pub fn encode_interrupt(&self) -> Registers {
        self.encode(Function::Interrupt)
    }

    /// Returns `FFA_YIELD` for a context that has nothing to do for now.
    pub fn encode_yield(&self) -> Registers {
        self.encode(Function::Yield)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SP: EndpointId = EndpointId::new(0x8001);
    const VM: EndpointId = EndpointId::new(1);
    const V1_2: Version = Version::V1_2;

    fn request() -> DirectMessage {
        DirectMessage {
            source: VM,
            destination: SP,
            framework: None,
            payload: Payload::Smc32([0x8000_0000, 1, 2, 3, 4]),
        }
    }

    #[test]
    fn message_about_a_vm_has_the_invalid_handle() {
        let none = u64::from(u32::MAX);
        let request = DirectMessage::vm_destroyed(SP, VM);
        let expected = [0x8400_006f, 0x8001, 0x8000_0006, none, none, 1, 0, 0];
        assert_eq!(request.encode_request().to_8(), expected);
        let request = DirectMessage::vm_created(SP, VM);
        let expected = [0x8400_006f, 0x8001, 0x8000_0004, none, none, 1, 0, 0];
        assert_eq!(request.encode_request().to_8(), expected);
        let answer = |w1, w2, w3| Registers::from_8([0x8400_0070, w1, w2, w3, 0, 0, 0, 0]);
        let read = |answer| request.read_vm_answer(&answer, V1_2);
        assert_eq!(read(answer(0x8001_0000, 0x8000_0005, 0)), Ok(()));
        let denied = Err(AnswerError::Refused(ErrorCode::DENIED));
        assert_eq!(read(answer(0x8001_0000, 0x8000_0005, 0xffff_fffa)), denied);
        // The answer to another message, of another endpoint, with a status that is none.
        for (w1, w2, w3, register) in [
            (0x8001_0000, 0x8000_0007, 0, 2),
            (0x8001_0000, 0, 0, 2),
            (0x8002_0000, 0x8000_0005, 0, 1),
            (0x8001, 0x8000_0005, 0, 1),
            (0x8001_0000, 0x8000_0005, 1, 3),
        ] {
            let error = Err(AnswerError::Value { register });
            assert_eq!(read(answer(w1, w2, w3)), error);
        }
    }

    #[test]
    fn answer_comes_from_the_receiver() {
        let payload = Payload::Smc32([0, 1, 0, 0, 7]);
        let answer = request().answer(None, payload);
        let read = |registers| request().read_answer(&registers, V1_2);
        let expected = Ok(DirectAnswer::Message(payload));
        assert_eq!(read(answer.encode_response()), expected);
        let wrong = DirectMessage {
            source: VM,
            ..answer
        };
        let error = Err(AnswerError::Value { register: 1 });
        assert_eq!(read(wrong.encode_response()), error);
        let framework = request().answer(Some(FrameworkMessage::VERSION), payload);
        let error = Err(AnswerError::Value { register: 2 });
        assert_eq!(read(framework.encode_response()), error);
    }

    #[test]
    fn only_a_request_by_smc64_can_have_an_answer_by_smc64() {
        let (short, long) = (Payload::Smc32([1; 5]), Payload::Smc64([1 << 40; 5]));
        for (asked, answered) in [(short, short), (short, long), (long, short), (long, long)] {
            let request = DirectMessage {
                payload: asked,
                ..request()
            };
            let answer = request.answer(None, answered).encode_response();
            let expected = if (asked, answered) == (short, long) {
                Err(AnswerError::Unexpected(answer.id()))
            } else {
                Ok(DirectAnswer::Message(answered))
            };
            assert_eq!(request.read_answer(&answer, V1_2), expected);
        }
    }

    #[test]
    fn receiver_that_has_stopped_names_the_context_to_run() {
        let target = Target {
            endpoint: SP,
            vcpu: VcpuId::new(2),
        };
        let answer = target.encode_interrupt();
        assert_eq!(answer.to_8()[..3], [0x8400_0062, 0x8001_0002, 0]);
        let expected = Ok(DirectAnswer::Interrupted(target));
        assert_eq!(request().read_answer(&answer, V1_2), expected);
        let answer = target.encode_yield();
        assert_eq!(answer.to_8()[..3], [0x8400_006c, 0x8001_0002, 0]);
        let expected = Ok(DirectAnswer::Yielded(target));
        let with_time = answer.with_pair(2, 1 << 40);
        for answer in [answer, with_time] {
            assert_eq!(request().read_answer(&answer, V1_2), expected);
        }
        let created = DirectMessage::vm_created(SP, VM);
        let error = Err(AnswerError::Unexpected(answer.id()));
        assert_eq!(created.read_vm_answer(&answer, V1_2), error);
    }

    /// x8 to x17 belong to FFA_MSG_SEND_DIRECT_REQ2.
    #[test]
    fn message_by_smc64_has_five_registers() {
        let message = DirectMessage {
            payload: Payload::Smc64(core::array::from_fn(|n| 1 << 40 | n as u64)),
            ..request()
        };
        let registers = message.encode_request();
        assert_eq!(registers.to_18()[8..], [0; 10]);
        let more = (8..18).fold(registers, |registers, n| registers.with(n, 7u32));
        for version in [Version::V1_0, Version::V1_1, V1_2] {
            let read = DirectMessage::decode(&more.significant(version));
            assert_eq!(read, Ok(message));
        }
    }
}
