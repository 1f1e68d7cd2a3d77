// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What an SMMU can do, by its identification registers (IHI 0070F.b 6.3).

use super::Hardware;
use super::registers::{IDR0, IDR1, IDR5};
use thiserror::Error;

/// The most bits of a StreamID that the stream table covers. It costs 8 bytes for 64 streams. Streams above abort.
const MAX_STREAM_BITS: u32 = 18;
/// The base-2 logarithm of the entries of each queue.
const QUEUE_BITS: u32 = 7;
/// The bits of a guest's physical addresses.
const IPA_BITS: u32 = 40;

/// The reason that an SMMU cannot give a VM's devices access to the VM's RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unsupported {
    /// IDR0.S2P is 0.
    #[error("has no stage 2: QEMU has it from version 9.2 on, with -M virt-9.2 or later")]
    NoStage2,
    /// IDR0.TTF has no AArch64.
    #[error("has no AArch64 tables")]
    NoAarch64,
    /// IDR0.COHACC is 0.
    #[error("is not coherent: it does not see what CPUs have in their caches")]
    NotCoherent,
    /// IDR0.TTENDIAN has big-endian tables only.
    #[error("has big-endian tables")]
    BigEndian,
    /// IDR0.STALL_MODEL has stalls only.
    #[error("stalls what it does not translate")]
    ForcedStall,
    /// IDR0.ST_LEVEL is 0.
    #[error("has no stream tables of two levels")]
    LinearTable,
    /// IDR1.QUEUES_PRESET or IDR1.TABLES_PRESET is 1.
    #[error("has tables or queues at fixed addresses")]
    Preset,
    /// IDR5.GRAN4K is 0.
    #[error("has no pages of 4 KiB")]
    NoSmallPages,
    /// IDR5.OAS is less than the guests' addresses need.
    #[error("has physical addresses of {0} bits: stage 2 needs 40")]
    FewAddressBits(u32),
}

/// The properties of an SMMU that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// The bits of a StreamID that the stream table covers.
    pub stream_bits: u32,
    /// The base-2 logarithm of the number of commands in the queue.
    pub command_bits: u32,
    /// The base-2 logarithm of the number of events in the queue.
    pub event_bits: u32,
    /// Whether it knows accesses that devices say to be translated already (ATS).
    pub has_ats: bool,
    /// Whether it can write messages instead of interrupts.
    pub has_messages: bool,
}

/// Returns the bits of `value` from `low` on.
const fn field(value: u32, low: u32, bits: u32) -> u32 {
    value >> low & ((1 << bits) - 1)
}

impl Features {
    /// Reads what an SMMU can do.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn read(hardware: &impl Hardware) -> Result<Self, Unsupported> {
        let [idr0, idr1, idr5] = [IDR0, IDR1, IDR5].map(|register| hardware.read(register));
        let has = |register: u32, bit: u32| register & 1 << bit != 0;
        if !has(idr0, 0) {
            return Err(Unsupported::NoStage2);
        }
        if !has(idr0, 3) {
            return Err(Unsupported::NoAarch64);
        }
        if !has(idr0, 4) {
            return Err(Unsupported::NotCoherent);
        }
        if field(idr0, 21, 2) == 0b11 {
            return Err(Unsupported::BigEndian);
        }
        if field(idr0, 24, 2) == 0b10 {
            return Err(Unsupported::ForcedStall);
        }
        if field(idr0, 27, 2) == 0 {
            return Err(Unsupported::LinearTable);
        }
        if has(idr1, 29) || has(idr1, 30) {
            return Err(Unsupported::Preset);
        }
        if !has(idr5, 4) {
            return Err(Unsupported::NoSmallPages);
        }
        let address_bits = match field(idr5, 0, 3) {
            0 => 32,
            1 => 36,
            _ => IPA_BITS,
        };
        if address_bits < IPA_BITS {
            return Err(Unsupported::FewAddressBits(address_bits));
        }
        Ok(Self {
            stream_bits: field(idr1, 0, 6).min(MAX_STREAM_BITS),
            command_bits: field(idr1, 21, 5).min(QUEUE_BITS),
            event_bits: field(idr1, 16, 5).min(QUEUE_BITS),
            has_ats: has(idr0, 10),
            has_messages: has(idr0, 13),
        })
    }
}
