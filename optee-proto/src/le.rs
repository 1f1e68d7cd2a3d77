// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Little-endian words of memory, aligned as their size.
//!
//! Messages lie at multiples of eight bytes, so their words can be read in one access each, which
//! matters on targets that allow aligned accesses only. (zerocopy's own types have alignment one.)

use core::fmt;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

macro_rules! word {
    ($(#[$doc:meta])* $name:ident, $native:ty) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
        )]
        #[repr(transparent)]
        pub struct $name($native);

        impl $name {
            /// Zero.
            pub const ZERO: Self = Self(0);

            /// Returns the word with this value.
            #[inline]
            pub const fn new(value: $native) -> Self {
                Self(value.to_le())
            }

            /// Returns its value.
            #[inline]
            pub const fn get(self) -> $native {
                <$native>::from_le(self.0)
            }
        }

        impl From<$native> for $name {
            #[inline]
            fn from(value: $native) -> Self {
                Self::new(value)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.get())
            }
        }
    };
}

word!(
    /// 32 bits.
    U32, u32
);
word!(
    /// 64 bits.
    U64, u64
);
