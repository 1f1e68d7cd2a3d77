// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Addresses of different kinds, as different types.
//!
//! A guest names memory by intermediate physical address ([`Ipa`]). The secure world knows only physical
//! addresses ([`Pa`]). Only a look-up in the stage-2 translation of one virtual machine converts one into the
//! other.

use core::fmt;

/// Bytes per page of the 4 KiB granule, the unit of sharing with OP-TEE.
pub const PAGE_SIZE: u64 = 4096;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident, $label:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(u64);

        impl $name {
            /// Returns the address with this numeric value, in bytes.
            #[inline]
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            /// Returns the numeric value, in bytes.
            #[inline]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// Returns whether the address is a multiple of [`PAGE_SIZE`].
            #[inline]
            pub const fn is_page_aligned(self) -> bool {
                self.0.is_multiple_of(PAGE_SIZE)
            }

            /// Returns the start of the page that contains the address.
            #[inline]
            pub const fn page(self) -> Self {
                Self(self.0 & !(PAGE_SIZE - 1))
            }

            /// Returns the offset into the page, in bytes, below [`PAGE_SIZE`].
            #[inline]
            pub const fn page_offset(self) -> u64 {
                self.0 & (PAGE_SIZE - 1)
            }

            /// Returns the address `bytes` further on, or `None` where that wraps.
            #[inline]
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($label, "({:#x})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

address!(
    /// An intermediate physical address: what a guest takes for a physical address.
    Ipa, "Ipa"
);
address!(
    /// A physical address: what the hypervisor and the secure world use.
    Pa, "Pa"
);
