// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Memory transaction descriptors: which memory an endpoint shares with which others (DEN0077A, for version 1.1 issue E,
//! tables 10.13 to 10.20; DEN0140, table 1.16 for the longer descriptor of a receiver in 1.2).
//!
//! A descriptor is a header, an array with a record for each receiver, and a composite: the number of pages and ranges,
//! and the ranges. Offsets say where the array and the composite begin. All is little endian.
//!
//! * [`Descriptor`] reads a whole one from a slice, [`FragmentReader`] one that arrives in pieces. Both find the same.
//! * [`DescriptorWriter`] writes one of version 1.1 or 1.2.
//!
//! What is read is descriptors that are sent: of `FFA_MEM_SHARE`, `FFA_MEM_LEND` and `FFA_MEM_DONATE`. They have at
//! least one receiver, one composite and one range, and end with the last range.
//!
//! A slice that is read must not change meanwhile. A hypervisor copies a guest's TX buffer before it reads.

mod error;
mod fragments;
mod layout;
mod range;
mod read;
mod values;
mod write;

pub use error::{DescriptorError, RangeError, WriteError};
pub use fragments::{FragmentReader, Progress, Summary};
pub use layout::{AccessSize, Layout};
pub use range::{MemoryRange, PAGE_SIZE};
pub use read::Descriptor;
pub use values::{MemoryAttributes, Permissions, Receiver, Transaction, TransactionFlags};
pub use write::{DescriptorHead, DescriptorWriter};
