// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Memory calls, but for the descriptor that they send ([`crate::memory`]): DEN0077A issue E, chapter 16; from version
//! 1.2 on DEN0140.

use crate::answer::{expect_success, success};
use crate::endpoint::EndpointId;
use crate::error::{AnswerError, ReservedBits};
use crate::function::{Function, Width};
use crate::handle::Handle;
use crate::registers::Registers;
use crate::version::Version;
use bitflags::bitflags;

/// Which of the calls that send memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemSendKind {
    /// `FFA_MEM_DONATE`: the receiver owns the memory.
    Donate,
    /// `FFA_MEM_LEND`: the sender keeps it, and has no access.
    Lend,
    /// `FFA_MEM_SHARE`: both have access.
    Share,
}

impl MemSendKind {
    const fn function(self) -> Function {
        match self {
            Self::Donate => Function::MemDonate,
            Self::Lend => Function::MemLend,
            Self::Share => Function::MemShare,
        }
    }
}

/// A buffer for a descriptor that is not the TX buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DescriptorBuffer {
    /// Its address. SMC32 cuts it to 32 bits.
    pub address: u64,
    /// Its size in pages of 4 KiB.
    pub pages: u32,
}

/// `FFA_MEM_DONATE`, `FFA_MEM_LEND` or `FFA_MEM_SHARE`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemSend {
    /// Which of them.
    pub kind: MemSendKind,
    /// The call's convention.
    pub width: Width,
    /// The bytes of the whole descriptor.
    pub total_length: u32,
    /// The bytes of its first fragment, which is in the buffer: not more than `total_length`.
    pub fragment_length: u32,
    /// The buffer, if it is not the TX buffer: an address or a number of pages that is not zero.
    pub buffer: Option<DescriptorBuffer>,
}

impl MemSend {
    pub(super) fn decode(call: &Registers, kind: MemSendKind) -> Result<Self, ReservedBits> {
        call.require_zero(5..=17)?;
        let buffer = DescriptorBuffer {
            address: call.x(3),
            pages: call.w(4),
        };
        Ok(Self {
            kind,
            width: call.id().width(),
            total_length: call.w(1),
            fragment_length: call.w(2),
            buffer: (buffer.address != 0 || buffer.pages != 0).then_some(buffer),
        })
    }

    pub(super) fn encode(&self) -> Registers {
        let buffer = self.buffer.unwrap_or(DescriptorBuffer {
            address: 0,
            pages: 0,
        });
        Registers::new(self.kind.function(), self.width)
            .with(1, self.total_length)
            .with(2, self.fragment_length)
            .with(3, buffer.address)
            .with(4, buffer.pages)
            .significant(Version::V1_2)
    }
}

/// What a call that sends memory, or a fragment, comes back with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemSendAnswer {
    /// The memory has been sent. In what [`MemSendAnswer::read`] returns the handle is usable.
    Done(Handle),
    /// The callee waits for the next fragment: `FFA_MEM_FRAG_RX`.
    Continue(MemFragRx),
}

impl MemSendAnswer {
    /// Returns the answer as registers.
    pub fn encode(&self) -> Registers {
        match self {
            Self::Done(handle) => success().with_pair(2, handle.get()),
            Self::Continue(fragment) => fragment.encode(),
        }
    }

    /// Reads an answer.
    ///
    /// # Errors
    ///
    /// [`AnswerError::Value`] for a success whose handle is zero or all ones ([`Handle::is_usable`]),
    /// [`AnswerError::Refused`] for `FFA_ERROR`, and others for what is no answer.
    pub fn read(answer: &Registers, version: Version) -> Result<Self, AnswerError> {
        let handle_at = |answer: &Registers, n: usize| {
            let handle = Handle::new(answer.pair(n));
            let register = n as u8;
            if handle.is_usable() {
                Ok(handle)
            } else {
                Err(AnswerError::Value { register })
            }
        };
        if answer.id().function() == Some(Function::MemFragRx) {
            let answer = answer.significant(version);
            handle_at(&answer, 1)?;
            return Ok(Self::Continue(MemFragRx::decode(&answer)?));
        }
        let answer = expect_success(answer, version)?;
        answer.require_zero(4..=17)?;
        Ok(Self::Done(handle_at(&answer, 2)?))
    }
}

/// `FFA_MEM_FRAG_RX`: asks the sender of a descriptor for its next fragment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemFragRx {
    /// The transaction.
    pub handle: Handle,
    /// The bytes that have been received.
    pub offset: u32,
    /// The sender of the descriptor, at a physical instance; zero at a virtual one.
    pub sender: EndpointId,
}

impl MemFragRx {
    pub(super) fn decode(call: &Registers) -> Result<Self, ReservedBits> {
        let (handle, offset, sender) = fragment(call)?;
        Ok(Self {
            handle,
            offset,
            sender,
        })
    }

    pub(super) fn encode(&self) -> Registers {
        Registers::new(Function::MemFragRx, Width::Smc32)
            .with_pair(1, self.handle.get())
            .with(3, self.offset)
            .with(4, u32::from(self.sender.get()) << 16)
    }
}

/// `FFA_MEM_FRAG_TX`: sends the next fragment of a descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemFragTx {
    /// The transaction.
    pub handle: Handle,
    /// The bytes of this fragment, which is in the TX buffer.
    pub length: u32,
    /// The sender of the descriptor, at a physical instance; zero at a virtual one.
    pub sender: EndpointId,
}

impl MemFragTx {
    pub(super) fn decode(call: &Registers) -> Result<Self, ReservedBits> {
        let (handle, length, sender) = fragment(call)?;
        Ok(Self {
            handle,
            length,
            sender,
        })
    }

    pub(super) fn encode(&self) -> Registers {
        Registers::new(Function::MemFragTx, Width::Smc32)
            .with_pair(1, self.handle.get())
            .with(3, self.length)
            .with(4, u32::from(self.sender.get()) << 16)
    }
}

/// Reads the registers that both calls about fragments have.
fn fragment(call: &Registers) -> Result<(Handle, u32, EndpointId), ReservedBits> {
    call.require_zero_bits(4, 0xffff)?;
    call.require_zero(5..=17)?;
    let sender = EndpointId::new((call.w(4) >> 16) as u16);
    Ok((Handle::new(call.pair(1)), call.w(3), sender))
}

bitflags! {
    /// Flags of `FFA_MEM_RECLAIM`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct MemReclaimFlags: u32 {
        /// Zero the memory before it is given back.
        const ZERO = 1 << 0;
        /// The call may be interrupted.
        const TIME_SLICE = 1 << 1;
    }
}

/// `FFA_MEM_RECLAIM`. The answer is [`crate::answer::success`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemReclaim {
    /// The memory.
    pub handle: Handle,
    /// How it is given back.
    pub flags: MemReclaimFlags,
}

impl MemReclaim {
    pub(super) fn decode(call: &Registers) -> Result<Self, ReservedBits> {
        let flags = MemReclaimFlags::from_bits(call.w(3)).ok_or(ReservedBits(3))?;
        call.require_zero(4..=17)?;
        Ok(Self {
            handle: Handle::new(call.pair(1)),
            flags,
        })
    }

    pub(super) fn encode(&self) -> Registers {
        Registers::new(Function::MemReclaim, Width::Smc32)
            .with_pair(1, self.handle.get())
            .with(3, self.flags.bits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_that_succeeds_without_a_handle_has_failed() {
        let read = |answer: &MemSendAnswer| MemSendAnswer::read(&answer.encode(), Version::V1_2);
        let done = MemSendAnswer::Done(Handle::new(0x1000_0001_0000));
        assert_eq!(
            done.encode().to_8()[..4],
            [0x8400_0061, 0, 0x1_0000, 0x1000]
        );
        assert_eq!(read(&done), Ok(done));
        for handle in [Handle::NONE, Handle::INVALID] {
            let error = Err(AnswerError::Value { register: 2 });
            assert_eq!(read(&MemSendAnswer::Done(handle)), error);
            let next = MemSendAnswer::Continue(MemFragRx {
                handle,
                offset: 4096,
                sender: EndpointId::new(1),
            });
            assert_eq!(read(&next), Err(AnswerError::Value { register: 1 }));
        }
    }

    #[test]
    fn fragment_names_its_sender_in_the_upper_half() {
        let next = MemFragRx {
            handle: Handle::new(0x2_0000_0003),
            offset: 4096,
            sender: EndpointId::new(1),
        };
        let answer = next.encode();
        assert_eq!(answer.to_8(), [0x8400_007a, 3, 2, 4096, 0x1_0000, 0, 0, 0]);
        let expected = Ok(MemSendAnswer::Continue(next));
        assert_eq!(MemSendAnswer::read(&answer, Version::V1_2), expected);
        let error = Err(AnswerError::Reserved { register: 4 });
        let answer = answer.with(4, 0x1_0001u32);
        assert_eq!(MemSendAnswer::read(&answer, Version::V1_2), error);
    }
}
