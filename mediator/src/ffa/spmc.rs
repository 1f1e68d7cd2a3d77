// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What all VMs share of the SPMC: what it is, and the one pair of buffers that it has with the hypervisor.

use crate::addr::{PAGE_SIZE, Pa};
use crate::sync::{AtomicU32, Ordering, TicketMutex};
use alloc::vec::Vec;
use core::num::NonZeroU16;
use ffa_proto::memory::{AccessSize, MemoryRange};
use ffa_proto::partition::PartitionInfo;
use ffa_proto::{EndpointId, Version};

/// The buffers that the hypervisor registers with the SPMC, once and for ever: OP-TEE 4.10 maps them into each VM that it
/// creates afterwards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExchangeBuffers {
    /// The address of the buffer that the hypervisor writes.
    pub tx: Pa,
    /// The address of the buffer that the SPMC writes.
    pub rx: Pa,
    /// The number of pages of each, 1..=[`ExchangeBuffers::MAX_PAGES`]. They follow each other in physical memory.
    pub pages: u8,
}

impl ExchangeBuffers {
    /// The most pages of a buffer: a descriptor for 4,090 ranges.
    pub const MAX_PAGES: u8 = 16;

    /// Returns the size of each buffer in bytes.
    pub const fn bytes(&self) -> usize {
        self.pages as usize * PAGE_SIZE as usize
    }

    /// Returns the RX buffer's pages, as memory that OP-TEE may map and not use.
    pub(super) fn rx_range(&self) -> Option<MemoryRange> {
        MemoryRange::new(self.rx.get(), self.pages.into()).ok()
    }
}

/// What the SPMC was found to be at boot, and the right to use the buffers that it has with the hypervisor.
#[derive(Debug)]
pub struct Spmc {
    pub(super) version: Version,
    pub(super) id: EndpointId,
    /// OP-TEE's partitions, of which a secure hypervisor may have several.
    pub(super) tees: Vec<PartitionInfo>,
    pub(super) buffers: ExchangeBuffers,
    /// The interrupt that announces notifications to the hypervisor.
    pub(super) schedule_receiver: Option<u32>,
    tx: Turns,
    /// Belongs to the VM that has the turn, so nobody waits for it.
    scratch: TicketMutex<Scratch>,
}

/// Private memory for the descriptors of a share.
#[derive(Debug)]
pub(super) struct Scratch {
    /// The guest's descriptor, if it is not longer than a page.
    pub(super) incoming: Vec<u8>,
    /// The descriptor for the SPMC. As long as the TX buffer.
    pub(super) outgoing: Vec<u8>,
}

impl Spmc {
    pub(super) fn new(
        version: Version,
        id: EndpointId,
        tees: Vec<PartitionInfo>,
        buffers: ExchangeBuffers,
        schedule_receiver: Option<u32>,
    ) -> Self {
        Self {
            version,
            id,
            tees,
            buffers,
            schedule_receiver,
            tx: Turns::new(),
            scratch: TicketMutex::new(Scratch {
                incoming: alloc::vec![0; PAGE_SIZE as usize],
                outgoing: alloc::vec![0; buffers.bytes()],
            }),
        }
    }

    /// Returns the version of the framework that the SPMC and the hypervisor have agreed on.
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Returns the INTID of the schedule receiver interrupt, an SGI by which the SPMC announces notifications (DEN0077A,
    /// 10.4), if there is one. The hypervisor owns it on every pCPU.
    pub const fn schedule_receiver_interrupt(&self) -> Option<u32> {
        self.schedule_receiver
    }

    /// Returns the size of the receivers' records in descriptors for the SPMC.
    pub(super) fn access_size(&self) -> AccessSize {
        if self.version >= Version::V1_2 {
            AccessSize::Long
        } else {
            AccessSize::Short
        }
    }

    /// Takes the TX buffer for a VM, or returns `None` if another VM has it: nobody waits for it at EL2.
    pub(super) fn take_tx(&self, vm: NonZeroU16) -> Option<TxTurn<'_>> {
        self.tx.take(vm).then(|| TxTurn(self))
    }
}

/// The TX buffer, which belongs to the holder until this is dropped.
#[derive(Debug)]
pub(super) struct TxTurn<'a>(&'a Spmc);

impl TxTurn<'_> {
    /// Returns the memory for descriptors, which the holder of the turn has alone.
    pub(super) const fn scratch(&self) -> &TicketMutex<Scratch> {
        &self.0.scratch
    }
}

impl Drop for TxTurn<'_> {
    fn drop(&mut self) {
        self.0.tx.give_back();
    }
}

/// Who has the buffer, and who is next. VMs ask again and again, so without the second one of them could be out of luck for
/// ever beside another that asks more often.
#[derive(Debug)]
struct Turns {
    /// The VM that has it, or 0.
    holder: AtomicU32,
    /// The VM that was refused first since the last change, or 0.
    next: AtomicU32,
    /// Number of VMs' attempts that were refused for the sake of `next`.
    waits: AtomicU32,
}

/// The most attempts of others that are refused for the sake of a VM that does not ask again.
const PATIENCE: u32 = 64;

impl Turns {
    fn new() -> Self {
        Self {
            holder: AtomicU32::new(0),
            next: AtomicU32::new(0),
            waits: AtomicU32::new(0),
        }
    }

    fn take(&self, vm: NonZeroU16) -> bool {
        let vm = u32::from(vm.get());
        let next = self.next.load(Ordering::Relaxed);
        let is_for_another = next != 0 && next != vm;
        let is_free = self.holder.load(Ordering::Relaxed) == 0;
        // While another has it, the next one could not have taken it.
        if is_for_another && (!is_free || self.waits.fetch_add(1, Ordering::Relaxed) < PATIENCE) {
            return false;
        }
        let taken = self
            .holder
            .compare_exchange(0, vm, Ordering::Acquire, Ordering::Relaxed);
        if taken.is_err() {
            let _ = self
                .next
                .compare_exchange(0, vm, Ordering::Relaxed, Ordering::Relaxed);
            return false;
        }
        if next != 0 {
            self.waits.store(0, Ordering::Relaxed);
            self.next.store(0, Ordering::Relaxed);
        }
        true
    }

    fn give_back(&self) {
        self.holder.store(0, Ordering::Release);
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use ffa_proto::Uuid;
    use ffa_proto::partition::PartitionProperties;

    fn vm(number: u16) -> NonZeroU16 {
        NonZeroU16::new(number).unwrap()
    }

    fn spmc() -> Spmc {
        let tee = PartitionInfo {
            id: EndpointId::new(0x8001),
            contexts: 4,
            properties: PartitionProperties::empty(),
            uuid: Uuid::NIL,
        };
        let buffers = ExchangeBuffers {
            tx: Pa::new(0x1000),
            rx: Pa::new(0x2000),
            pages: 1,
        };
        Spmc::new(
            Version::V1_2,
            EndpointId::new(0x8000),
            alloc::vec![tee],
            buffers,
            None,
        )
    }

    #[test]
    fn refused_vm_does_not_give_back_the_turn_of_another() {
        let spmc = spmc();
        let turn = spmc.take_tx(vm(1)).unwrap();
        for asks in [2, 1, 2] {
            assert!(spmc.take_tx(vm(asks)).is_none());
        }
        drop(turn);
        assert!(spmc.take_tx(vm(2)).is_some());
    }

    #[test]
    fn one_vm_has_the_buffer_and_the_one_that_waited_is_next() {
        let turns = Turns::new();
        assert!(turns.take(vm(1)));
        assert!(!turns.take(vm(2)) && !turns.take(vm(1)));
        turns.give_back();
        // However often the first asks.
        for _ in 0..8 {
            assert!(!turns.take(vm(1)));
        }
        assert!(turns.take(vm(2)));
        turns.give_back();
        assert!(turns.take(vm(1)));
    }

    /// A guest may be refused and never ask again.
    #[test]
    fn vm_that_does_not_ask_again_stops_nobody() {
        let turns = Turns::new();
        assert!(turns.take(vm(1)) && !turns.take(vm(2)));
        turns.give_back();
        let tries = (0..=PATIENCE).take_while(|_| !turns.take(vm(1))).count();
        assert_eq!(tries, PATIENCE as usize);
        turns.give_back();
        assert!(turns.take(vm(3)));
    }
}
