//! Interrupt numbers as the GICv3 binding of the device tree writes them.

use core::fmt;

/// A GIC interrupt number (INTID, GICv3 IHI0069 section 2.2): 0..16 SGIs, 16..32 PPIs,
/// 32..1020 SPIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IntId(u32);

impl IntId {
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

    /// The number among the SPIs, as a device tree counts them; `None` for other kinds.
    pub const fn spi_number(self) -> Option<u32> {
        self.0.checked_sub(32)
    }

    /// The `index`-th interrupt of an `interrupts` property whose entries have `width` cells
    /// (`#interrupt-cells` of the GIC, at least 3): kind, number, flags.
    pub(super) fn from_property(value: &[u8], width: usize, index: usize) -> Option<Self> {
        let mut entry = super::tree::cells(value).skip(index.checked_mul(width)?);
        let (kind, number) = (entry.next()?, entry.next()?);
        entry.next()?;
        match kind {
            0 => Self::spi(number),
            1 => Self::ppi(number),
            // 2 and 3 are the extended ranges of GICv3.1, which Postern does not use.
            _ => None,
        }
    }
}

impl fmt::Display for IntId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
