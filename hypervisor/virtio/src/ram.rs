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

    /// Returns whether all of a range is the guest's RAM. It may be no longer so afterwards.
    fn contains(&self, start: Ipa, bytes: u64) -> bool;

    /// Copies from another guest's memory to this guest's, each byte once.
    ///
    /// # Errors
    /// Not all of both ranges is RAM of the two guests. A part of the target may have changed.
    #[inline]
    fn copy_from(&self, to: Ipa, source: &Self, from: Ipa, bytes: u32) -> Result<(), OutsideRam> {
        copy_in_parts(self, to, source, from, bytes)
    }

    /// Stores a little-endian number in one access. The address is a multiple of four.
    ///
    /// # Errors
    /// It is not in the guest's RAM.
    fn store_u32(&self, to: Ipa, value: u32) -> Result<(), OutsideRam>;

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

/// The bytes of a part of [`copy_in_parts`].
const PART: usize = 128;

/// Copies as [`GuestRam::copy_from`] does, by way of EL2's memory.
///
/// # Errors
/// See there.
#[cold]
#[inline(never)]
pub fn copy_in_parts<R: GuestRam + ?Sized>(
    target: &R,
    to: Ipa,
    source: &R,
    from: Ipa,
    bytes: u32,
) -> Result<(), OutsideRam> {
    let mut part = [0; PART];
    let mut done = 0;
    while done < bytes {
        let length = ((bytes - done) as usize).min(PART);
        let part = &mut part[..length];
        let at = |start: Ipa| start.checked_add(done.into()).ok_or(OutsideRam);
        source.read(at(from)?, part)?;
        target.write(at(to)?, part)?;
        done += length as u32;
    }
    Ok(())
}
