// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The console device (VIRTIO 1.2, 5.3): one port, and neither a size nor an emergency write. Its queues have the numbers
//! of the network device's.

use crate::mmio::Device;

/// The bytes that wait for a driver's buffers at most.
pub const MOST_WAITING: usize = 4096;

/// What a driver sees of a console, and the bytes that are on their way to it.
#[derive(Debug)]
pub struct Console<'m> {
    /// The first `length` of these wait for buffers, in their order.
    bytes: &'m mut [u8],
    length: usize,
}

impl<'m> Console<'m> {
    /// Returns a console for which nothing waits.
    pub const fn new(memory: &'m mut [u8]) -> Self {
        Self {
            bytes: memory,
            length: 0,
        }
    }

    /// Returns the bytes that wait.
    pub fn waiting(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// Returns the room for more.
    pub fn room(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.length..).unwrap_or_default()
    }

    /// Says how many bytes of the room wait now, too.
    pub const fn append(&mut self, count: usize) {
        self.length = self.length.wrapping_add(count);
    }

    /// Removes the first bytes, at most as many as wait. Returns how many.
    pub fn remove(&mut self, count: usize) -> usize {
        let count = count.min(self.length);
        self.bytes.copy_within(count..self.length, 0);
        self.length -= count;
        count
    }
}

impl Device for Console<'_> {
    fn id(&self) -> u32 {
        3
    }

    fn features(&self) -> u64 {
        0
    }

    fn config(&self) -> &[u8] {
        &[]
    }
}
