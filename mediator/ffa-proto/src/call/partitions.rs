// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `FFA_PARTITION_INFO_GET` and `FFA_PARTITION_INFO_GET_REGS`: DEN0077A issue J, 13.8 and after.

use crate::answer::{expect_success, success};
use crate::error::{AnswerError, ReservedBits};
use crate::function::{Function, Width};
use crate::partition::PartitionInfo;
use crate::registers::Registers;
use crate::uuid::Uuid;
use crate::version::Version;

/// `FFA_PARTITION_INFO_GET`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartitionInfoGet {
    /// The service that is asked for; [`Uuid::NIL`] for all partitions.
    pub uuid: Uuid,
    /// Whether only their number is asked for, and nothing goes into the RX buffer; from version 1.1 on.
    pub count_only: bool,
}

impl PartitionInfoGet {
    pub(super) fn decode(call: &Registers, version: Version) -> Result<Self, ReservedBits> {
        let flags = if version < Version::V1_1 { 0 } else { 1 };
        call.require_zero_bits(5, !flags)?;
        call.require_zero(6..=17)?;
        Ok(Self {
            uuid: Uuid::from_words(core::array::from_fn(|n| call.w(n + 1))),
            count_only: call.w(5) & 1 != 0,
        })
    }

    pub(super) fn encode(&self) -> Registers {
        let call = Registers::new(Function::PartitionInfoGet, Width::Smc32);
        let words = self.uuid.to_words();
        let with_uuid = |call: Registers, (n, word): (usize, u32)| call.with(n + 1, word);
        words
            .into_iter()
            .enumerate()
            .fold(call, with_uuid)
            .with(5, u32::from(self.count_only))
    }
}

/// The success of `FFA_PARTITION_INFO_GET`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartitionInfoAnswer {
    /// The number of partitions.
    pub count: u32,
    /// The bytes of each record in the RX buffer. Zero in version 1.0, and if only the number was asked for.
    pub size: u32,
}

impl PartitionInfoAnswer {
    /// Returns the answer as registers.
    pub fn encode(&self) -> Registers {
        success().with(2, self.count).with(3, self.size)
    }

    /// Reads an answer. [`crate::partition::PartitionInfos::new`] checks the size.
    ///
    /// # Errors
    ///
    /// [`AnswerError`] for what is no success.
    pub fn read(answer: &Registers, version: Version) -> Result<Self, AnswerError> {
        let answer = expect_success(answer, version)?;
        answer.require_zero(4..=17)?;
        Ok(Self {
            count: answer.w(2),
            size: answer.w(3),
        })
    }
}

/// `FFA_PARTITION_INFO_GET_REGS`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartitionInfoGetRegs {
    /// The service that is asked for; [`Uuid::NIL`] for all partitions.
    pub uuid: Uuid,
    /// The index of the first partition that is asked for.
    pub start: u16,
    /// The tag of the answer before, if `start` is not zero.
    pub tag: u16,
}

impl PartitionInfoGetRegs {
    pub(super) fn decode(call: &Registers) -> Result<Self, ReservedBits> {
        if call.x(3) >> 32 != 0 {
            return Err(ReservedBits(3));
        }
        call.require_zero(4..=17)?;
        Ok(Self {
            uuid: Uuid::from_pair([call.x(1), call.x(2)]),
            start: call.x(3) as u16,
            tag: (call.x(3) >> 16) as u16,
        })
    }

    pub(super) fn encode(&self) -> Registers {
        let [a, b] = self.uuid.to_pair();
        Registers::new(Function::PartitionInfoGetRegs, Width::Smc64)
            .with(1, a)
            .with(2, b)
            .with(3, u32::from(self.tag) << 16 | u32::from(self.start))
    }
}

/// The success of `FFA_PARTITION_INFO_GET_REGS`: up to five partitions in x3 to x17.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartitionInfoRegsAnswer {
    /// The index of the last partition that there is.
    pub last: u16,
    /// A number that changes when the partitions do. The next question names it.
    pub tag: u16,
    /// The index of the last partition in this answer.
    current: u16,
    infos: [Option<PartitionInfo>; Self::MOST],
}

impl PartitionInfoRegsAnswer {
    /// The largest number of partitions in an answer.
    pub const MOST: usize = 5;
    /// The bytes of a record: three registers.
    const SIZE: u64 = 24;

    /// Returns the answer about `infos`, of which the first has the index `start` among `last + 1` partitions.
    /// `None` if there is none, if they are more than five, or if they go beyond `last`.
    pub fn new(start: u16, last: u16, tag: u16, infos: &[PartitionInfo]) -> Option<Self> {
        let others = u16::try_from(infos.len().checked_sub(1)?).ok()?;
        let current = start.checked_add(others).filter(|&index| index <= last)?;
        let mut room = [None; Self::MOST];
        let rooms = room.get_mut(..infos.len())?.iter_mut();
        rooms
            .zip(infos)
            .for_each(|(room, &info)| *room = Some(info));
        Some(Self {
            last,
            tag,
            current,
            infos: room,
        })
    }

    /// Returns the partitions, in the order of their indices.
    pub fn infos(&self) -> impl Iterator<Item = &PartitionInfo> {
        self.infos.iter().flatten()
    }

    /// Returns the index that the next question starts with, or `None` after the last partition.
    pub fn next_start(&self) -> Option<u16> {
        self.current
            .checked_add(1)
            .filter(|&next| next <= self.last)
    }

    /// Returns the answer as registers.
    pub fn encode(&self) -> Registers {
        let head = u64::from(self.last)
            | u64::from(self.current) << 16
            | u64::from(self.tag) << 32
            | Self::SIZE << 48;
        let mut registers = Registers::new(Function::Success, Width::Smc64).with(2, head);
        for (index, info) in self.infos().enumerate() {
            for (n, value) in info.to_registers().into_iter().enumerate() {
                registers = registers.with(3 + 3 * index + n, value);
            }
        }
        registers
    }

    /// Reads the answer to a question for the partitions from `start` on.
    ///
    /// # Errors
    ///
    /// [`AnswerError`] for what is no success, and for indices that do not fit the question.
    pub fn read(answer: &Registers, start: u16) -> Result<Self, AnswerError> {
        let answer = expect_success(answer, Version::V1_2)?;
        if answer.id().width() != Width::Smc64 {
            return Err(AnswerError::Unexpected(answer.id()));
        }
        let head = answer.x(2);
        let (last, current, tag) = (head as u16, (head >> 16) as u16, (head >> 32) as u16);
        let wrong = AnswerError::Value { register: 2 };
        let others = current.checked_sub(start).ok_or(wrong)?;
        let count = usize::from(others) + 1;
        if head >> 48 != Self::SIZE || current > last || count > Self::MOST {
            return Err(wrong);
        }
        answer.require_zero(3 + 3 * count..=17)?;
        let info = |index: usize| {
            let x = core::array::from_fn(|n| answer.x(3 + 3 * index + n));
            (index < count).then(|| PartitionInfo::from_registers(x))
        };
        Ok(Self {
            last,
            tag,
            current,
            infos: core::array::from_fn(info),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::EndpointId;
    use crate::partition::PartitionProperties;
    use std::vec::Vec;

    fn info(id: u16) -> PartitionInfo {
        PartitionInfo {
            id: EndpointId::new(id),
            contexts: 1,
            properties: PartitionProperties::DIRECT_RECEIVE,
            uuid: Uuid::from_u128(id.into()),
        }
    }

    #[test]
    fn seven_partitions_take_two_answers() {
        let all: Vec<_> = (0x8001..0x8008).map(info).collect();
        let mut found = Vec::new();
        let mut start = Some(0);
        while let Some(index) = start {
            let rest = &all[usize::from(index)..];
            let part = &rest[..rest.len().min(5)];
            let answer = PartitionInfoRegsAnswer::new(index, 6, 77, part).unwrap();
            let read = PartitionInfoRegsAnswer::read(&answer.encode(), index).unwrap();
            assert_eq!((read, read.tag), (answer, 77));
            found.extend(read.infos().copied());
            start = read.next_start();
        }
        assert_eq!(found, all);
    }

    #[test]
    fn answer_whose_indices_do_not_fit_is_refused() {
        let infos = [info(1), info(2)];
        assert_eq!(PartitionInfoRegsAnswer::new(0, 0, 0, &infos), None);
        assert_eq!(PartitionInfoRegsAnswer::new(0, 9, 0, &[]), None);
        assert_eq!(PartitionInfoRegsAnswer::new(0, 9, 0, &[info(1); 6]), None);
        let answer = PartitionInfoRegsAnswer::new(3, 9, 0, &infos)
            .unwrap()
            .encode();
        let wrong = Err(AnswerError::Value { register: 2 });
        for start in [0, 5, u16::MAX] {
            let read = PartitionInfoRegsAnswer::read(&answer, start);
            // From 0 on it would be five partitions, of which three are zero.
            assert!(read == wrong || start == 0, "{start}");
        }
        let small = answer.with(2, answer.x(2) & !(0xff << 48) | 8 << 48);
        assert_eq!(PartitionInfoRegsAnswer::read(&small, 3), wrong);
        let more = answer.with(9, 1u32);
        let reserved = Err(AnswerError::Reserved { register: 9 });
        assert_eq!(PartitionInfoRegsAnswer::read(&more, 3), reserved);
    }
}
