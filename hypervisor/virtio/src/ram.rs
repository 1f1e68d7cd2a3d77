// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a device sees of a guest's memory.

use mediator::addr::Ipa;

/// A range is not the guest's RAM, or not all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("outside of the guest's memory")]
pub struct OutsideRam;

/// A guest's RAM. The guest's vCPUs may write to it at any time.
pub trait GuestRam {
    /// Copies from the guest's memory, each byte once.
    ///
    /// # Errors
    /// Not all of it is RAM of the guest's. `into` may have changed.
    fn read(&self, from: Ipa, into: &mut [u8]) -> Result<(), OutsideRam>;

    /// Copies to the guest's memory, each byte once.
    ///
    /// # Errors
    /// Not all of it is RAM of the guest's. Nothing has changed.
    fn write(&self, to: Ipa, bytes: &[u8]) -> Result<(), OutsideRam>;

    /// Loads a little-endian number in one access. The address is even.
    ///
    /// # Errors
    /// It is not in the guest's RAM.
    fn load_u16(&self, from: Ipa) -> Result<u16, OutsideRam>;

    /// Stores a little-endian number in one access. The address is even.
    ///
    /// # Errors
    /// It is not in the guest's RAM.
    fn store_u16(&self, to: Ipa, value: u16) -> Result<(), OutsideRam>;
}
