// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Decodes decisions from bytes. After the end of the bytes everything is zero.

use arbitrary::Unstructured;

/// The rest of the fuzzer's bytes.
pub(crate) struct Input<'a>(Unstructured<'a>);

impl<'a> Input<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self(Unstructured::new(data))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.0.arbitrary().unwrap_or(0)
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub(crate) fn half(&mut self) -> u16 {
        self.0.arbitrary().unwrap_or(0)
    }

    pub(crate) fn word(&mut self) -> u32 {
        self.0.arbitrary().unwrap_or(0)
    }

    pub(crate) fn double(&mut self) -> u64 {
        self.0.arbitrary().unwrap_or(0)
    }

    /// Returns a number below `bound`, which is 1 to 256.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        u64::from(self.byte()) % bound
    }

    /// Returns one of these.
    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    /// Returns `most` bytes, or fewer if no more are left.
    pub(crate) fn bytes(&mut self, most: usize) -> &'a [u8] {
        let count = most.min(self.0.len());
        self.0.bytes(count).unwrap_or_default()
    }

    /// Returns all that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        self.bytes(usize::MAX)
    }
}
