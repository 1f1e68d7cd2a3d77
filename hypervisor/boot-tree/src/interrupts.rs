// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Interrupt numbers as the GICv3 binding of the device tree writes them.

use core::fmt;

/// A GIC interrupt number (INTID, GICv3 IHI0069 section 2.2): 0..16 SGIs, 16..32 PPIs,
/// 32..1020 SPIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhysIntId(u32);

impl PhysIntId {
    /// The private peripheral interrupt with this number, 0..16.
    pub const fn ppi(number: u32) -> Option<Self> {
        if number < 16 {
            Some(Self(16 + number))
        } else {
            None
        }
    }

    /// The shared peripheral interrupt with this number, 0..988.
    pub const fn spi(number: u32) -> Option<Self> {
        if number < 988 {
            Some(Self(32 + number))
        } else {
            None
        }
    }

    /// The INTID itself.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The interrupt of this kind with this number, from the first two cells of a specifier.
    const fn from_cells(kind: u32, number: u32) -> Option<Self> {
        match kind {
            0 => Self::spi(number),
            1 => Self::ppi(number),
            // 2 and 3 are the extended ranges of GICv3.1, which Postern does not use.
            _ => None,
        }
    }
}

impl fmt::Display for PhysIntId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What makes an interrupt pending at its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// The input's step.
    Edge,
    /// The input's level.
    Level,
}

impl Trigger {
    /// What the third cell of an entry says: 1 and 2 are edges, 4 and 8 levels, and 0 says nothing. The binding has rising
    /// edges and high levels for SPIs, since the GIC knows no others.
    const fn from_flags(flags: u32) -> Option<Self> {
        if flags & 0b0011 != 0 {
            Some(Self::Edge)
        } else if flags & 0b1100 != 0 {
            Some(Self::Level)
        } else {
            None
        }
    }
}

/// An interrupt as a device's node describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupt {
    /// Which.
    pub intid: PhysIntId,
    /// What makes it pending, where the tree says so.
    pub trigger: Option<Trigger>,
}

impl Interrupt {
    /// The specifier at the start of `value`, which has `width` cells (`#interrupt-cells` of the GIC, 3 or 4): kind,
    /// number, flags, and the CPUs that have it. `None` for what is no interrupt of all CPUs.
    pub(super) fn from_specifier(value: &[u8], width: usize) -> Option<Self> {
        let mut entry = super::tree::cells(value);
        let (kind, number, flags) = (entry.next()?, entry.next()?, entry.next()?);
        if width > 3 && entry.next()? != 0 {
            return None;
        }
        Some(Self {
            intid: PhysIntId::from_cells(kind, number)?,
            trigger: Trigger::from_flags(flags),
        })
    }
}
