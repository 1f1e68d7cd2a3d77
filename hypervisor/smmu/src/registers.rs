// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The offsets of the registers of the non-secure programming interface, and their fields (IHI 0070F.b 6.2, 6.3).

pub const IDR0: u32 = 0x00;
pub const IDR1: u32 = 0x04;
pub const IDR5: u32 = 0x14;
pub const CR0: u32 = 0x20;
pub const CR0ACK: u32 = 0x24;
pub const CR1: u32 = 0x28;
pub const CR2: u32 = 0x2c;
pub const GBPA: u32 = 0x44;
pub const IRQ_CTRL: u32 = 0x50;
pub const IRQ_CTRLACK: u32 = 0x54;
pub const GERROR: u32 = 0x60;
pub const GERRORN: u32 = 0x64;
pub const GERROR_IRQ_CFG0: u32 = 0x68;
pub const STRTAB_BASE: u32 = 0x80;
pub const STRTAB_BASE_CFG: u32 = 0x88;
pub const CMDQ_BASE: u32 = 0x90;
pub const CMDQ_PROD: u32 = 0x98;
pub const CMDQ_CONS: u32 = 0x9c;
pub const EVENTQ_BASE: u32 = 0xa0;
pub const EVENTQ_IRQ_CFG0: u32 = 0xb0;
/// In the second page.
pub const EVENTQ_PROD: u32 = 0x1_00a8;
pub const EVENTQ_CONS: u32 = 0x1_00ac;

/// CR0: the SMMU translates.
pub const CR0_SMMUEN: u32 = 1 << 0;
/// CR0: events are written.
pub const CR0_EVENTQEN: u32 = 1 << 2;
/// CR0: commands are executed.
pub const CR0_CMDQEN: u32 = 1 << 3;
/// CR0: what a device says to be translated already (ATS) is checked, and aborts where the stream has no ATS. Without it
/// such accesses pass to any address (3.9.1).
pub const CR0_ATSCHK: u32 = 1 << 4;
/// CR1: tables and queues are inner shareable, and write-back cacheable in both domains.
pub const CR1_CACHED: u32 = 0b11 << 10 | 0b01 << 8 | 0b01 << 6 | 0b11 << 4 | 0b01 << 2 | 0b01;
/// CR2.PTM: TLB maintenance of CPUs does not count, so only commands do, wherever IDR0.BTM is set. RECINVSID is clear:
/// what is no stream makes no event.
pub const CR2_PTM: u32 = 1 << 2;
/// GBPA: the write takes effect when this bit is clear again.
pub const GBPA_UPDATE: u32 = 1 << 31;
/// GBPA: with SMMUEN clear, all transactions abort.
pub const GBPA_ABORT: u32 = 1 << 20;
/// IRQ_CTRL: interrupts for global errors and for events.
pub const IRQ_CTRL_WANTED: u32 = 1 << 0 | 1 << 2;
/// GERROR: the command queue has stopped.
pub const GERROR_CMDQ_ERR: u32 = 1 << 0;
/// GERROR: service failure mode.
pub const GERROR_SFM: u32 = 1 << 8;
/// All errors of GERROR.
pub const GERROR_ALL: u32 = 0x1fd;
/// STRTAB_BASE_CFG: a table of two levels, the second of which has 4 KiB.
pub const STRTAB_TWO_LEVELS: u32 = 1 << 16 | 6 << 6;
/// The base registers of tables and queues: read-allocate or write-allocate.
pub const BASE_ALLOCATE: u64 = 1 << 62;
/// The flag of an overflow in EVENTQ_PROD, and its acknowledgement in EVENTQ_CONS.
pub const EVENTQ_OVERFLOW: u32 = 1 << 31;
