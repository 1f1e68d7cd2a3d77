// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The event queue (IHI 0070F.b 3.5.1, 7.2 to 7.4).

use super::Hardware;
use super::registers::{BASE_ALLOCATE, EVENTQ_BASE, EVENTQ_CONS, EVENTQ_OVERFLOW, EVENTQ_PROD};
use core::fmt;
use mediator::addr::{Ipa, Pa};
use postern_base::ids::VmIndex;

/// The bytes of a record.
const BYTES: u64 = 32;
/// How often [`EventQueue::take`] looks for what has come meanwhile.
const ROUNDS: usize = 4;

/// An access that the SMMU has not let pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The number of the kind of event (7.3).
    pub kind: u8,
    /// The StreamID.
    pub stream: u32,
    /// The VM that the stream belongs to.
    pub vm: Option<VmIndex>,
    /// Whether it was a read; otherwise a write. Meaningless in events that are no faults.
    pub is_read: bool,
    /// The address that the device used. Meaningless in events that are no faults.
    pub address: Ipa,
    /// Whether it is the last that the VM may cause: all its streams abort from here on, until its next start.
    pub is_last: bool,
}

/// What has become of the events.
#[must_use]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TakenEvents {
    /// Whether events were lost before.
    pub lost: bool,
    /// Whether the queue may hold more, which the SMMU does not announce: an interrupt comes only when the queue was empty.
    pub more: bool,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            stream,
            address,
            ..
        } = self;
        let what = match kind {
            0x10 => "not mapped",
            0x13 => "permission",
            _ => return write!(f, "stream {stream:#x}: SMMU event {kind:#x}"),
        };
        let access = if self.is_read { "read" } else { "write" };
        let end = if self.is_last {
            "; as there were many, DMA is off until its next start"
        } else {
            ""
        };
        write!(f, "stream {stream:#x}: {access} at {address}: {what}{end}")
    }
}

/// The queue by which the SMMU tells of accesses that it has not let pass.
#[derive(Debug)]
pub struct EventQueue {
    base: Pa,
    bits: u32,
    consumer: u32,
}

impl EventQueue {
    /// Makes an empty queue and tells the SMMU, whose queue is off. Returns `None` where there is no memory.
    pub fn new(hardware: &mut impl Hardware, bits: u32) -> Option<Self> {
        let base = hardware.allocate(((BYTES as usize) << bits).next_power_of_two().max(64))?;
        hardware.write_double(EVENTQ_BASE, BASE_ALLOCATE | base.get() | u64::from(bits));
        hardware.write(EVENTQ_PROD, 0);
        hardware.write(EVENTQ_CONS, 0);
        Some(Self {
            base,
            bits,
            consumer: 0,
        })
    }

    /// Takes the events that are there, a few times the queue's size at most. The owner of a stream is left to the
    /// caller.
    pub fn take(
        &mut self,
        hardware: &mut impl Hardware,
        mut each: impl FnMut(Event),
    ) -> TakenEvents {
        let index_mask = (2 << self.bits) - 1;
        let mut lost = false;
        for _ in 0..ROUNDS {
            let producer = hardware.read(EVENTQ_PROD);
            let acknowledged = hardware.read(EVENTQ_CONS) & EVENTQ_OVERFLOW;
            let overflow = producer & EVENTQ_OVERFLOW;
            lost |= overflow != acknowledged;
            if producer & index_mask == self.consumer && overflow == acknowledged {
                return TakenEvents { lost, more: false };
            }
            // The records are read after the index. The SMMU may give any index: at most one queue is taken.
            hardware.order();
            for _ in 0..1_u32 << self.bits {
                if producer & index_mask == self.consumer {
                    break;
                }
                each(self.read(hardware));
                self.consumer = (self.consumer + 1) & index_mask;
            }
            // They are read before the SMMU may write new ones there.
            hardware.order();
            hardware.write(EVENTQ_CONS, self.consumer | overflow);
        }
        TakenEvents { lost, more: true }
    }

    fn read(&self, hardware: &impl Hardware) -> Event {
        let slot = u64::from(self.consumer & ((1 << self.bits) - 1));
        let at = self.base.get() + BYTES * slot;
        let double = |index: u64| hardware.read_memory(Pa::new(at + 8 * index));
        let (first, second) = (double(0), double(1));
        Event {
            kind: first as u8,
            stream: (first >> 32) as u32,
            vm: None,
            is_read: second & 1 << 35 != 0,
            address: Ipa::new(double(2)),
            is_last: false,
        }
    }
}
