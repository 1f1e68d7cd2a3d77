// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A queue of bytes of fixed size.

/// At most `N` bytes, first in, first out. `N` is at least 1.
#[derive(Clone, Debug)]
pub struct Ring<const N: usize> {
    bytes: [u8; N],
    /// The place of the oldest byte.
    first: usize,
    len: usize,
}

impl<const N: usize> Ring<N> {
    /// Makes an empty queue.
    pub const fn new() -> Self {
        Self {
            bytes: [0; N],
            first: 0,
            len: 0,
        }
    }

    /// Returns the number of bytes in it.
    #[inline]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns whether the queue is empty.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the number of bytes that it still takes.
    #[inline]
    pub const fn room(&self) -> usize {
        N - self.len
    }

    /// Adds a byte; false where there is no room for it.
    #[must_use]
    #[inline]
    pub fn push(&mut self, byte: u8) -> bool {
        if self.len == N {
            return false;
        }
        self.bytes[(self.first + self.len) % N] = byte;
        self.len += 1;
        true
    }

    /// Removes the oldest byte.
    #[inline]
    pub fn pop(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.first = (self.first + 1) % N;
        self.len -= 1;
        Some(byte)
    }

    /// Returns the oldest byte, which stays.
    #[inline]
    pub fn peek(&self) -> Option<u8> {
        (self.len > 0).then(|| self.bytes[self.first])
    }

    /// Removes all bytes.
    pub fn clear(&mut self) {
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        /// Any sequence of operations does what a queue of the standard library does.
        #[test]
        fn a_bounded_queue(operations in proptest::collection::vec(any::<Option<u8>>(), 0..200)) {
            let mut ring = Ring::<7>::new();
            let mut model = VecDeque::new();
            for operation in operations {
                match operation {
                    Some(byte) => {
                        let fits = model.len() < 7;
                        prop_assert_eq!(ring.push(byte), fits);
                        if fits {
                            model.push_back(byte);
                        }
                    }
                    None => prop_assert_eq!(ring.pop(), model.pop_front()),
                }
                prop_assert_eq!(ring.len(), model.len());
                prop_assert_eq!(ring.room(), 7 - model.len());
                prop_assert_eq!(ring.peek(), model.front().copied());
            }
            ring.clear();
            prop_assert_eq!(ring.pop(), None);
        }
    }
}
