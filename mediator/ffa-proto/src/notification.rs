// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Notifications: bitmaps, flags, and the lists of endpoints with pending ones (DEN0077A issue J,
//! `FFA_NOTIFICATION_GET` and `FFA_NOTIFICATION_INFO_GET`).

use crate::endpoint::{EndpointId, VcpuId};
use crate::error::AnswerError;
use crate::function::{Function, FunctionId, Width};
use crate::registers::Registers;
use bitflags::bitflags;

/// 64 notifications of one endpoint, one bit each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
#[repr(transparent)]
pub struct NotificationBitmap(u64);

impl NotificationBitmap {
    /// No notification.
    pub const EMPTY: Self = Self(0);

    /// Returns the bitmap with these bits.
    pub const fn new(bits: u64) -> Self {
        Self(bits)
    }

    /// Returns the bitmap with one notification, or `None` if there is none of this number.
    pub const fn of(number: u32) -> Option<Self> {
        match 1u64.checked_shl(number) {
            Some(bits) => Some(Self(bits)),
            None => None,
        }
    }

    /// Returns the bits.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns whether no bit is set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns whether all bits of another bitmap are set here.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns the bits of both.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns the bits that both have.
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns the bits that another bitmap lacks.
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

bitflags! {
    /// The bitmaps that `FFA_NOTIFICATION_GET` asks for, by their senders.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct NotificationGetFlags: u32 {
        /// Secure partitions.
        const SECURE_PARTITIONS = 1 << 0;
        /// VMs.
        const VMS = 1 << 1;
        /// The SPMC.
        const SPM = 1 << 2;
        /// The hypervisor.
        const HYPERVISOR = 1 << 3;
    }
}

/// An endpoint with pending notifications, as `FFA_NOTIFICATION_INFO_GET` reports it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PendingList {
    /// The endpoint.
    pub endpoint: EndpointId,
    vcpus: [VcpuId; 3],
    count: u8,
}

impl PendingList {
    /// Returns a list, or `None` if there are more than three contexts.
    pub fn new(endpoint: EndpointId, contexts: &[VcpuId]) -> Option<Self> {
        let mut vcpus = [VcpuId::new(0); 3];
        vcpus.get_mut(..contexts.len())?.copy_from_slice(contexts);
        Some(Self {
            endpoint,
            vcpus,
            count: contexts.len() as u8,
        })
    }

    /// Returns the contexts that have notifications of their own pending. None: the endpoint's are pending.
    pub fn contexts(&self) -> &[VcpuId] {
        self.vcpus.get(..self.count.into()).unwrap_or_default()
    }
}

/// The answer to `FFA_NOTIFICATION_INFO_GET`: lists of 16-bit ids, each an endpoint and up to three contexts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PendingLists {
    width: Width,
    ids: [u16; Self::MOST],
    used: u8,
    /// The number of ids of each list, from 1 to 4.
    counts: [u8; Self::MOST],
    lists: u8,
    /// Whether there are more endpoints than this answer has room for. OP-TEE 4.10 clears nothing when it answers, so
    /// asking again returns the same: do not ask in a loop until this is false.
    pub more: bool,
}

/// Where the number of lists begins in x2, and where the sizes of the lists do.
const LISTS_SHIFT: u32 = 7;
const SIZES_SHIFT: u32 = 12;

impl PendingLists {
    /// The most ids of an answer: four in each of x3 to x7.
    const MOST: usize = 20;

    /// Returns an answer without lists, of this convention.
    pub const fn new(width: Width) -> Self {
        Self {
            width,
            ids: [0; Self::MOST],
            used: 0,
            counts: [0; Self::MOST],
            lists: 0,
            more: false,
        }
    }

    /// The number of ids that an answer of a convention has room for.
    const fn room(width: Width) -> usize {
        match width {
            Width::Smc32 => 10,
            Width::Smc64 => 20,
        }
    }

    /// Adds a list, and returns whether there was room. If not, the caller sets [`PendingLists::more`].
    pub fn push(&mut self, list: &PendingList) -> bool {
        let used = usize::from(self.used);
        let contexts = list.contexts();
        let end = used + 1 + contexts.len();
        if end > Self::room(self.width) {
            return false;
        }
        let ids = core::iter::once(list.endpoint.get()).chain(contexts.iter().map(|id| id.get()));
        for (room, id) in self.ids.iter_mut().skip(used).zip(ids) {
            *room = id;
        }
        if let Some(count) = self.counts.get_mut(usize::from(self.lists)) {
            *count = (end - used) as u8;
        }
        self.used = end as u8;
        self.lists += 1;
        true
    }

    /// Returns the lists.
    pub fn iter(&self) -> impl Iterator<Item = PendingList> + '_ {
        let mut at = 0;
        let counts = self.counts.iter().take(self.lists.into());
        counts.map_while(move |&count| {
            let ids = self.ids.get(at..at + usize::from(count))?;
            at += ids.len();
            let (&endpoint, contexts) = ids.split_first()?;
            let mut vcpus = [VcpuId::new(0); 3];
            for (vcpu, &id) in vcpus.iter_mut().zip(contexts) {
                *vcpu = VcpuId::new(id);
            }
            PendingList::new(EndpointId::new(endpoint), vcpus.get(..contexts.len())?)
        })
    }

    /// Reads w2 to w7 of a success of the convention of the call.
    pub(crate) fn read(answer: &Registers, width: Width) -> Result<Self, AnswerError> {
        if answer.id().width() != width {
            return Err(AnswerError::Unexpected(answer.id()));
        }
        let mut read = Self::new(width);
        let head = answer.x(2);
        read.more = head & 1 != 0;
        let lists = head >> LISTS_SHIFT & 0x1f;
        // Bits above the sizes of the lists, and those between `more` and the number of lists.
        let sizes = SIZES_SHIFT + 2 * lists as u32;
        let reserved = 0b111_1110 | u64::MAX.checked_shl(sizes).unwrap_or(0);
        if head & reserved != 0 {
            return Err(AnswerError::Reserved { register: 2 });
        }
        let room = Self::room(width);
        if lists as usize > room {
            return Err(AnswerError::Value { register: 2 });
        }
        let mut used = 0;
        for (list, count) in read.counts.iter_mut().take(lists as usize).enumerate() {
            *count = (head >> (SIZES_SHIFT + 2 * list as u32) & 3) as u8 + 1;
            used += usize::from(*count);
        }
        if used > room {
            return Err(AnswerError::Value { register: 2 });
        }
        let per_register = room / 5;
        for (n, id) in read.ids.iter_mut().enumerate().take(room) {
            let register = 3 + n / per_register;
            let value = (answer.x(register) >> (16 * (n % per_register))) as u16;
            if n < used {
                *id = value;
            } else if value != 0 {
                return Err(AnswerError::Reserved {
                    register: register as u8,
                });
            }
        }
        answer.require_zero(8..=17)?;
        read.used = used as u8;
        read.lists = lists as u8;
        Ok(read)
    }

    /// Returns the answer as registers.
    pub fn encode(&self) -> Registers {
        let mut head = u64::from(self.more) | u64::from(self.lists) << LISTS_SHIFT;
        for (list, &count) in self.counts.iter().take(self.lists.into()).enumerate() {
            head |= u64::from(count.saturating_sub(1)) << (SIZES_SHIFT + 2 * list as u32);
        }
        let id = FunctionId::new(Function::Success, self.width);
        let mut registers = Registers::from_id(id).with(2, head);
        let per_register = Self::room(self.width) / 5;
        for (n, &id) in self.ids.iter().enumerate().take(self.used.into()) {
            let register = 3 + n / per_register;
            let value = registers.x(register) | u64::from(id) << (16 * (n % per_register));
            registers = registers.with(register, value);
        }
        registers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn list(endpoint: u16, contexts: &[u16]) -> PendingList {
        let contexts: Vec<_> = contexts.iter().map(|&id| VcpuId::new(id)).collect();
        PendingList::new(EndpointId::new(endpoint), &contexts).expect("at most three")
    }

    #[test]
    fn one_vm_is_as_optee_reports_it() {
        let mut lists = PendingLists::new(Width::Smc64);
        assert!(lists.push(&list(1, &[])));
        let answer = lists.encode();
        assert_eq!(answer.to_8()[..5], [0xc400_0061, 0, 0x80, 1, 0]);
        assert_eq!(PendingLists::read(&answer, Width::Smc64), Ok(lists));
    }

    #[test]
    fn lists_are_packed_until_the_registers_are_full() {
        for (width, room) in [(Width::Smc32, 10), (Width::Smc64, 20)] {
            let mut lists = PendingLists::new(width);
            let mut used = 0;
            let mut expected = Vec::new();
            for number in 1.. {
                let list = list(number, &[7, 8, 9][..usize::from(number) % 4]);
                used += 1 + list.contexts().len();
                assert_eq!(lists.push(&list), used <= room);
                if used > room {
                    break;
                }
                expected.push(list);
            }
            lists.more = true;
            let read = PendingLists::read(&lists.encode(), width).unwrap();
            assert!(read.more);
            assert_eq!(read.iter().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn lists_that_do_not_add_up_are_refused() {
        let answer = |head: u64| {
            let answer = Registers::new(Function::Success, Width::Smc32).with(2, head);
            PendingLists::read(&answer, Width::Smc32).map(|_| ())
        };
        assert_eq!(answer(0x80), Ok(()));
        // Eleven lists; three lists of four ids; the size of a list that is not there; bit 1.
        assert_eq!(answer(11 << 7), Err(AnswerError::Value { register: 2 }));
        let full = 3 << 7 | 0b11_1111 << 12;
        assert_eq!(answer(full), Err(AnswerError::Value { register: 2 }));
        let error = Err(AnswerError::Reserved { register: 2 });
        assert_eq!(answer(1 << 7 | 1 << 14), error);
        assert_eq!(answer(1 << 7 | 2), error);
    }

    #[test]
    fn ids_after_the_last_list_must_be_zero() {
        let answer = Registers::new(Function::Success, Width::Smc32)
            .with(2, 0x80u32)
            .with(3, 0x1_0001u32);
        let error = AnswerError::Reserved { register: 3 };
        assert_eq!(PendingLists::read(&answer, Width::Smc32), Err(error));
    }
}
